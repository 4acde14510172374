package peer

import (
	"context"
	"errors"

	"dunlin/peer/contact"
	"dunlin/wire"
)

// pullAsked is a newcomer's wish to be measured.
type pullAsked struct {
	ctx    context.Context //nolint:containedctx // of the request
	peer   wire.PeerID
	name   wire.Hash
	answer chan *wire.Pulled // takes one; nil is a refusal
}

// pullFrom has a coordinator pull from a newcomer, on any goroutine.
func (p *Peer) pullFrom(ctx context.Context, from wire.PeerID, name wire.Hash) ([]byte, error) {
	if !p.reign.Coordinates(p.self) {
		return nil, contact.ErrNotHere
	}
	answer := make(chan *wire.Pulled, 1)
	p.inbox.Put(pullAsked{ctx, from, name, answer})
	select {
	case pulled := <-answer:
		if pulled == nil {
			return nil, errors.New("others are measured now")
		}
		return wire.Encode(pulled), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, contact.ErrNotHere
	}
}

// pull measures one newcomer at a time, so that a crowd of them takes little of the coordinator's link.
func (p *Peer) pull(ctx context.Context, asked pullAsked) {
	select {
	case p.pulling <- struct{}{}:
	default:
		asked.answer <- nil
		return
	}
	t := p.transport
	p.wg.Go(func() {
		defer func() { <-p.pulling }()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(asked.ctx, cancel)()
		asked.answer <- contact.PullNoise(ctx, t, asked.peer, asked.name)
	})
}
