package swarm

import (
	"context"
	"encoding/binary"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// credit is how far a peer may send an answer. Without a download limit the
// first credit is for all of it; with one, the requester sends more as its
// bucket fills, so that the limit holds however fast the peer is.
type credit struct {
	pace   *pacer
	turn   *turn
	stream network.Stream
	within time.Duration // for the peer to take a grant
	wake   chan struct{} // has a token when bytes came

	given int // to the peer, bytes of the answer; the granting goroutine's while it runs
	came  atomic.Int64
}

// begin waits for the first credit, for at most n bytes.
func (c *credit) begin(ctx context.Context, n int) (err error) {
	c.given, err = c.pace.take(ctx, c.turn, n)
	return err
}

// settle gives back what was not used; it comes after read.
func (c *credit) settle() { c.pace.spend(int(c.came.Load()) - c.given) }

// read appends the size bytes that follow to have, granting as it goes. On an
// error it returns what came.
func (c *credit) read(ctx context.Context, in io.Reader, have []byte, size int) ([]byte, error) {
	if c.given >= size {
		return readBehind(have, &counted{in, c}, size)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.grant(ctx, size)
	}()
	answer, err := readBehind(have, &counted{in, c}, size)
	cancel()
	if err != nil {
		c.stream.Reset() // a write must not wait for a peer that is gone
	}
	<-ended
	return answer, err
}

// grant sends credit until the whole answer has it, never far ahead of what came.
func (c *credit) grant(ctx context.Context, size int) {
	for c.given < size {
		room := c.pace.ahead() - (c.given - int(c.came.Load()))
		if room <= 0 {
			select {
			case <-c.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		n, err := c.pace.take(ctx, c.turn, min(room, size-c.given))
		if err != nil {
			return
		}
		c.given += n
		c.stream.SetWriteDeadline(time.Now().Add(c.within))
		if _, err := c.stream.Write(binary.AppendUvarint(nil, uint64(n))); err != nil {
			return // the reader sees the broken stream, too
		}
	}
}

// counted tells its credit of each byte that came.
type counted struct {
	in     io.Reader
	credit *credit
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.credit.came.Add(int64(n))
	select {
	case c.credit.wake <- struct{}{}:
	default:
	}
	return n, err
}
