package contact

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dunlin/peer/mailbox"
	"dunlin/wire"
)

// Job is one bulk request that the pure machines decided on. The answer,
// or why there is none, goes to done on a goroutine of the pool.
type Job struct {
	From    wire.PeerID
	Addrs   []string // to connect to first; none when there is a session
	Request wire.Request
	Limit   int
	Timeout time.Duration
	Check   func(answer []byte) error // nil: any answer will do
	Done    func(answer []byte, err error)
}

// Fetcher runs bulk requests, a bounded number at a time.
type Fetcher struct {
	network Network
	Jobs    *mailbox.Mailbox[Job]
	wg      sync.WaitGroup
}

// NewFetcher makes one that asks over a network once it runs.
func NewFetcher() *Fetcher { return &Fetcher{Jobs: mailbox.New[Job]()} }

// maxFetches bounds the requests under way at once in one peer.
const maxFetches = 64

// Run starts requests in order until the context ends, then waits for those
// under way.
func (f *Fetcher) Run(ctx context.Context, n Network) {
	f.network = n
	defer f.wg.Wait()
	slots := make(chan struct{}, maxFetches)
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.Jobs.Ready:
		}
		for _, job := range f.Jobs.Take() {
			select {
			case <-ctx.Done():
				return
			case slots <- struct{}{}:
			}
			f.wg.Go(func() {
				f.fetch(ctx, job)
				<-slots
			})
		}
	}
}

func (f *Fetcher) fetch(ctx context.Context, job Job) {
	ctx, cancel := context.WithTimeout(ctx, job.Timeout)
	defer cancel()
	if err := f.reach(ctx, job); err != nil {
		job.Done(nil, err)
		return
	}
	answer, err := f.ask(ctx, job)
	if errors.Is(err, ErrWrongBytes) {
		// Its beginning may be another peer's, of a transfer that broke; now nothing is left of that.
		answer, err = f.ask(ctx, job)
	}
	job.Done(answer, err)
}

// ask makes the request once and checks the answer.
func (f *Fetcher) ask(ctx context.Context, job Job) ([]byte, error) {
	answer, err := f.network.Fetch(ctx, job.From, job.Request.Class, wire.Encode(&job.Request), job.Limit)
	if err == nil && job.Check != nil {
		if err = job.Check(answer); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrWrongBytes, err)
		}
	}
	return answer, err
}

// FetchWithin bounds one request. The transport's watchdog ends one that stands
// still long before.
const FetchWithin = 2 * time.Minute

// reach makes sure that there is a connection to ask on.
func (f *Fetcher) reach(ctx context.Context, job Job) error {
	if len(job.Addrs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ReachWithin)
	defer cancel()
	return f.network.Connect(ctx, job.From, job.Addrs)
}

// ReachWithin bounds connecting to a peer first.
const ReachWithin = 5 * time.Second
