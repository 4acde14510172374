package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"dunlin/catchup"
	"dunlin/folder"
	"dunlin/peer/figures"
	"dunlin/peer/mailbox"
	"dunlin/round"
	"dunlin/store"
	"dunlin/wire"
)

// fetchJob is one bulk request that the pure machines decided on. The answer,
// or why there is none, goes to done on a goroutine of the pool.
type fetchJob struct {
	from    wire.PeerID
	addrs   []string // to connect to first; none when there is a session
	request wire.Request
	limit   int
	timeout time.Duration
	check   func(answer []byte) error // nil: any answer will do
	done    func(answer []byte, err error)
}

// fetcher runs bulk requests, a bounded number at a time.
type fetcher struct {
	transport Transport
	jobs      *mailbox.Mailbox[fetchJob]
	wg        sync.WaitGroup
}

// maxFetches bounds the requests under way at once in one peer.
const maxFetches = 16

// run starts requests in order until the context ends, then waits for those
// under way.
func (f *fetcher) run(ctx context.Context) {
	defer f.wg.Wait()
	slots := make(chan struct{}, maxFetches)
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.jobs.Ready:
		}
		for _, job := range f.jobs.Take() {
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

func (f *fetcher) fetch(ctx context.Context, job fetchJob) {
	ctx, cancel := context.WithTimeout(ctx, job.timeout)
	defer cancel()
	if err := f.reach(ctx, job); err != nil {
		job.done(nil, err)
		return
	}
	answer, err := f.ask(ctx, job)
	if errors.Is(err, errWrongBytes) {
		// Its beginning may be another peer's, of a transfer that broke; now nothing is left of that.
		answer, err = f.ask(ctx, job)
	}
	job.done(answer, err)
}

// ask makes the request once and checks the answer.
func (f *fetcher) ask(ctx context.Context, job fetchJob) ([]byte, error) {
	answer, err := f.transport.Fetch(ctx, job.from, job.request.Class, wire.Encode(&job.request), job.limit)
	if err == nil && job.check != nil {
		if err = job.check(answer); err != nil {
			return nil, fmt.Errorf("%w: %w", errWrongBytes, err)
		}
	}
	return answer, err
}

// fetchWithin bounds one request. The transport's watchdog ends one that stands
// still long before.
const fetchWithin = 2 * time.Minute

// reach makes sure that there is a connection to ask on.
func (f *fetcher) reach(ctx context.Context, job fetchJob) error {
	if len(job.addrs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	return f.transport.Connect(ctx, job.from, job.addrs)
}

const reachWithin = 5 * time.Second

// request has a job done; its addresses are used when there is no session.
func (p *Peer) request(j fetchJob) {
	j.timeout = fetchWithin
	switch {
	case p.peers[j.from]:
		j.addrs = nil
	case len(j.addrs) == 0:
		j.addrs = p.addrs[j.from]
	}
	p.fetcher.jobs.Put(j)
}

// fetch carries out a request of the catch-up, from the own store where it can.
func (p *Peer) fetch(e catchup.Fetch) {
	failed := func(err error) catchup.FetchFailed {
		return catchup.FetchFailed{Ref: e.Ref, Peer: e.Peer, Reason: err.Error(), Gone: strings.Contains(err.Error(), errNotHere.Error())}
	}
	if e.Ref.What == wire.WhatManifest {
		if b := p.retention.Manifest(e.Ref.Hash); b != nil {
			p.next(catchup.Fetched{Ref: e.Ref, Body: b})
			return
		}
	} else if b, err := p.store.Get(e.Ref.Hash, store.MaxBlob); err == nil {
		p.next(fetched(e, b))
		return
	}
	if e.Peer == p.self {
		p.next(failed(errNotHere))
		return
	}
	if e.Class == wire.ClassJoin && e.Ref.What == wire.WhatBlob {
		p.figures.Transferring(figures.TransferBegun{What: figures.TransferCheckpoint, Total: 8 * p.spec.Parameters()}) // weights and outer momentum
	}
	j := fetchJob{from: e.Peer, request: e.Request(), limit: store.MaxBlob}
	switch e.Ref.What {
	case wire.WhatManifest:
		j.limit = folder.MaxManifest
	case wire.WhatBlob:
		j.check = func(b []byte) error {
			if got := wire.HashLeaf(b); got != e.Ref.Hash {
				return fmt.Errorf("their hash is %s", got.Short())
			}
			return nil
		}
	default: // what is signed is checked where it is decoded
	}
	j.done = func(b []byte, err error) {
		if err == nil && e.Ref.What == wire.WhatBlob {
			_, err = p.store.Put(b)
		}
		if err != nil {
			p.inbox.Put(failed(err))
			return
		}
		if e.Class == wire.ClassJoin {
			p.inbox.Put(figures.TransferMoved{What: figures.TransferCheckpoint, From: e.Peer, Bytes: len(b)})
		}
		p.inbox.Put(fetched(e, b))
	}
	p.request(j)
}

var errWrongBytes = errors.New("the bytes are not those asked for")

func fetched(e catchup.Fetch, b []byte) catchup.Fetched {
	done := catchup.Fetched{Ref: e.Ref}
	if e.Inline {
		done.Body = b
	}
	return done
}

// fetchSlab pulls one slab of a member's contribution.
func (p *Peer) fetchSlab(e round.FetchSlab) {
	if p.slabs.frame(e.Root, int(e.Slab)) != nil {
		p.next(round.SlabFetched{Peer: e.Peer, Root: e.Root, Slab: e.Slab})
		return
	}
	var slab wire.Slab
	p.request(fetchJob{
		from: e.Peer, addrs: e.Addrs, limit: wire.MaxFrame,
		request: wire.Request{Class: wire.ClassContribution, What: wire.WhatSlab, Hash: e.Root, Index: e.Slab},
		check: func(b []byte) error {
			if err := wire.Decode(b, &slab); err != nil {
				return err
			}
			return slab.Verify(e.Root, int(e.Slab), e.Slabs)
		},
		done: func(_ []byte, err error) {
			if err != nil {
				p.inbox.Put(round.FetchFailed{Peer: e.Peer, Root: e.Root, Slab: e.Slab, Reason: err.Error()})
				return
			}
			p.slabs.keep(e.Root, int(e.Slab), slab.Frame)
			p.inbox.Put(round.SlabFetched{Peer: e.Peer, Root: e.Root, Slab: e.Slab})
		},
	})
}
