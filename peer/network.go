package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/folder"
	"dunlin/peer/contact"
	"dunlin/peer/core"
	"dunlin/peer/keeper"
	"dunlin/peer/stage"
	"dunlin/peer/worker"
	"dunlin/store"
	"dunlin/wire"
)

// What the transport brings, for the loop.
type (
	sessionUp   struct{ peer wire.PeerID }
	sessionDown struct{ peer wire.PeerID }
	received    struct {
		from    wire.PeerID
		message []byte
	}
)

// Connected is called by the transport, on any goroutine.
func (p *Peer) Connected(id wire.PeerID) { p.bring(sessionUp{id}) }

// Disconnected is called by the transport, on any goroutine.
func (p *Peer) Disconnected(id wire.PeerID) { p.bring(sessionDown{id}) }

// Message is called by the transport, on any goroutine. It waits while the
// peer has more to do than it can, so that a flood stays with its sender.
func (p *Peer) Message(from wire.PeerID, message []byte) { p.bring(received{from, message}) }

func (p *Peer) bring(ev any) {
	select {
	case p.network <- ev:
	case <-p.done:
	}
}

// errCrowded tells a requester when it shall come again.
var errCrowded = errors.New("others join from here now; ask elsewhere, or again in a moment")

// Serve answers a bulk request; the transport calls it on any goroutine.
func (p *Peer) Serve(ctx context.Context, from wire.PeerID, request []byte) ([]byte, error) {
	r, err := wire.DecodeRequest(request)
	if err != nil {
		return nil, err
	}
	if joins := r.What == wire.WhatBlob || r.What == wire.WhatManifest; joins && r.Class == wire.ClassJoin && !p.donor.admit(from) {
		return nil, errCrowded
	}
	switch r.What {
	case wire.WhatSpec:
		return wire.Encode(p.cfg.Signed), nil
	case wire.WhatBlob:
		b, err := p.store.Get(store.Hash(r.Hash), store.MaxBlob)
		if err != nil {
			return nil, contact.ErrNotHere
		}
		return b, nil
	case wire.WhatSlab:
		if s := p.slabs.Serve(r.Hash, int(r.Index)); s != nil {
			return wire.Encode(s), nil
		}
	case wire.WhatManifest:
		if b := p.retention.Manifest(r.Hash); b != nil {
			return b, nil
		}
	case wire.WhatStage:
		return p.offerStage(ctx, from)
	case wire.WhatPull:
		return p.pullFrom(ctx, from, r.Hash)
	case wire.WhatStatus:
		return p.tellStatus()
	case wire.WhatPeers:
		return wire.Encode(&wire.Peers{Known: p.book.List()}), nil
	}
	return nil, contact.ErrNotHere
}

// donor is a catchup.Donor for many goroutines.
type donor struct {
	mu     sync.Mutex
	places catchup.Donor
}

func (d *donor) admit(peer wire.PeerID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.places.Admit(time.Now(), peer)
}

// stageAsked is a peer's question which stage it should serve.
type stageAsked struct {
	peer   wire.PeerID
	answer chan *wire.Offer // takes one; nil: ask another coordinator
}

// offerStage has the machine of the coordinator that leads answer, on any goroutine.
func (p *Peer) offerStage(ctx context.Context, from wire.PeerID) ([]byte, error) {
	if !p.reign.Coordinates(p.self) || !p.spec.Staged() {
		return nil, contact.ErrNotHere
	}
	answer := make(chan *wire.Offer, 1)
	p.inbox.Put(stageAsked{from, answer})
	select {
	case offer := <-answer:
		if offer == nil {
			return nil, contact.ErrNotHere
		}
		return wire.Encode(offer), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, contact.ErrNotHere
	}
}

// Passed is called by the transport, on any goroutine. It waits while the pipe has
// more to do than it can, so that a flood stays with its sender. Who sends what nobody can
// read is cut off.
func (p *Peer) Passed(from wire.PeerID, message []byte) error {
	if p.pipe == nil {
		return nil
	}
	m, cargo, err := wire.DecodePassed(message)
	if err != nil {
		return err
	}
	select {
	case p.pipe.Network <- stage.Passed{From: from, Message: m, Cargo: cargo}:
	case <-p.done:
	}
	return nil
}

// toPipe tells the pipe of something, where there is one.
func (p *Peer) toPipe(ev any) {
	if p.pipe != nil {
		p.pipe.Inbox.Put(ev)
	}
}

// hear takes in what the transport brought.
func (p *Peer) hear(ctx context.Context, ev any) {
	switch ev := ev.(type) {
	case sessionUp:
		p.toPipe(stage.PeerUp{Peer: ev.peer})
		p.peers[ev.peer] = true
		p.learned(ev.peer, true) // as far as its address is known by now
		p.next(core.PeerUp{Peer: ev.peer})
		if p.reign.Met(ctx, ev.peer) && p.cfg.NewEngine != nil {
			p.helloTo(ev.peer, p.slot)
		}
	case sessionDown:
		p.toPipe(stage.PeerDown{Peer: ev.peer})
		delete(p.peers, ev.peer)
		p.reign.Lost(ev.peer)
		p.next(core.PeerDown{Peer: ev.peer, Reason: "connection lost"})
	case received:
		m, err := wire.DecodeMessage(ev.message)
		if err != nil {
			p.note(fmt.Sprintf("dropped from %s: %v", ev.from.Short(), err))
			return
		}
		p.message(ev.from, m)
	}
}

// message gives the reign what is about the ledger, and the rest to the core.
func (p *Peer) message(from wire.PeerID, m wire.Message) {
	switch m := m.(type) {
	case *wire.Hello:
		p.terms = max(p.terms, m.HeadTerm)
		p.figures.Named(from, m.Name)
		p.learned(from, true)
		p.next(coordinator.HelloFrom{Peer: from, Hello: *m, Fork: p.forked(m)})
	case *wire.Signatures, *wire.Leads:
		if p.reign.Coordinates(from) {
			p.learned(from, true)
		}
		p.reign.Hear(from, m)
	case *wire.Entries, *wire.GetEntries, *wire.Change:
		p.reign.Hear(from, m)
	case *wire.Heartbeat:
		p.figures.Heard(from, m)
		p.learned(from, false)
		p.next(core.Message{From: from, Message: m})
	default:
		if from == p.reign.Lead() {
			p.figures.Own.Told(m, time.Now())
		}
		p.next(core.Message{From: from, Message: m})
	}
}

// forked reports whether a peer's ledger has another entry at its head's height.
func (p *Peer) forked(h *wire.Hello) bool {
	if h.Head == 0 || h.Head > p.ledger.Height() {
		return false
	}
	entries, err := p.ledger.Range(h.Head, 1)
	return err == nil && len(entries) == 1 && entries[0].Entry.Hash() != h.HeadHash
}

// learn notes what the driver needs of an entry.
func (p *Peer) learn(height uint64, body wire.Body) {
	switch b := body.(type) {
	case *wire.Member:
		if b.Op == wire.MemberAdmit {
			p.addrs[b.Peer] = b.Addrs
			p.toPipe(stage.Listed{Slot: b.Slot, Peer: b.Peer, Stage: int(b.Stage), Addrs: b.Addrs})
		} else if !p.reign.Coordinates(b.Peer) && b.Peer != p.self {
			delete(p.addrs, b.Peer)
			if p.transport != nil {
				p.transport.Forget(b.Peer)
			}
		}
		if b.Op != wire.MemberAdmit {
			p.toPipe(stage.Unlisted{Slot: b.Slot})
		}
		if b.Op == wire.MemberBan {
			p.reign.Banned(b.Peer)
		}
		p.figures.Member(b)
	case *wire.Commit:
		delete(p.newest, b.Fragment)
		p.figures.Commit(height, b)
	case *wire.Checkpoint:
		p.judgeDue = p.judgeDue || !b.Complete
		if below, ok := p.retention.Complete(b); ok && p.reign.Lead() != p.self {
			p.collect(below)
		}
	case *wire.Settings:
		p.settingsIn = *b
		p.inForce.Store(b)
		p.keeper.Orders.Put(keeper.Governed{Settings: b})
		p.reign.Settled(b)
	case *wire.Lease:
		p.leased(b)
	case *wire.Attempt:
		p.store.Unpin(folder.PinSummed(p.newest[b.Fragment])) // it cannot commit any more (R7)
		p.newest[b.Fragment] = b.ID
		p.fresh = p.self == p.reign.Lead()
	}
	p.figures.Entry(height, body)
}

// leased passes windows of the own slot on to the inner loop.
func (p *Peer) leased(l *wire.Lease) {
	switch {
	case p.slot == 0 || l.Slot != p.slot:
		return
	case p.begun && p.pipe != nil:
		p.pipe.Inbox.Put(worker.Grant{Ranges: l.Ranges})
	case p.begun:
		p.worker.Orders.Put(worker.Grant{Ranges: l.Ranges})
	default:
		p.granted = append(p.granted, l.Ranges...)
	}
	p.life.Left += wire.Windows(l.Ranges)
}
