package sim

import (
	"errors"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/ledger"
	"dunlin/peer/core"
	"dunlin/round"
	"dunlin/wire"
)

// receive takes in a control message.
func (p *process) receive(from *host, message []byte) {
	m, err := wire.DecodeMessage(message)
	if err != nil {
		p.w.fail("%s got a message from %s that does not decode: %v", p.h.name, from.name, err)
		return
	}
	p.ticks = 0
	switch m := m.(type) {
	case *wire.Hello:
		p.next(coordinator.HelloFrom{Peer: from.id, Hello: *m, Fork: p.forked(m)})
	case *wire.Entries:
		p.entries(from, m)
	case *wire.GetEntries:
		p.giveEntries(from, m)
	default:
		p.next(core.Message{From: from.id, Message: m})
	}
	p.drain()
}

// forked reports whether a peer's ledger has another entry at its head's height.
func (p *process) forked(h *wire.Hello) bool {
	if h.Head == 0 || h.Head > p.chain.Height() {
		return false
	}
	e := &p.h.disk.entries[h.Head-1].Entry
	return e.Hash() != h.HeadHash
}

// entries appends what is new; a gap is closed by asking for what is missing.
func (p *process) entries(from *host, m *wire.Entries) {
	for i := range m.Items {
		item := &m.Items[i]
		height := p.chain.Height()
		if item.Certified.Entry.Height <= height {
			continue
		}
		if item.Certified.Entry.Height > height+1 {
			break
		}
		if err := p.take(&item.Certified); err != nil {
			if errors.Is(err, ledger.ErrFork) {
				p.w.fail("%s: %v", p.h.name, err)
			}
			return
		}
		p.h.disk.entries = append(p.h.disk.entries, item.Certified)
		p.w.referee.followed(p, &item.Certified)
		p.logged(&item.Certified, p.tableOf(item))
	}
	if m.Head > p.chain.Height() {
		p.next(catchup.HeadHint{Peer: from.id, Height: m.Head})
	}
}

// tableOf returns the table that came with an entry when it is the one named.
func (p *process) tableOf(item *wire.Item) []byte {
	body, err := item.Certified.Entry.Body()
	if err != nil || len(item.Table) == 0 {
		return nil
	}
	var want wire.Hash
	switch b := body.(type) {
	case *wire.Attempt:
		want = b.Table
	case *wire.Commit:
		want = b.Table
	case *wire.Member, *wire.Lease, *wire.Settings, *wire.Checkpoint:
	}
	if wire.HashLeaf(item.Table) != want {
		return nil
	}
	_, _ = p.h.put(item.Table) // a table that is not kept is fetched when it is needed
	return item.Table
}

func (p *process) giveEntries(to *host, m *wire.GetEntries) {
	answer := &wire.Entries{Head: p.chain.Height()}
	entries := p.h.disk.entries
	if m.From >= 1 && m.From <= uint64(len(entries)) {
		entries = entries[m.From-1:]
		for _, e := range entries[:min(len(entries), int(m.Max))] {
			item := wire.Item{Certified: e}
			if !p.w.has(BugEntriesBare) {
				item.Table = p.givenTable(&e)
			}
			answer.Items = append(answer.Items, item)
		}
	}
	p.tell(to.id, answer)
}

// givenTable returns the table that an entry names, if it is here.
func (p *process) givenTable(c *wire.Certified) []byte {
	switch b, _ := c.Entry.Body(); b := b.(type) {
	case *wire.Attempt:
		return p.h.disk.blobs[b.Table]
	case *wire.Commit:
		return p.h.disk.blobs[b.Table]
	default:
		return nil
	}
}

// serve answers a bulk request.
func (p *process) serve(r wire.Request) ([]byte, error) {
	if p.h.bad == givesNoResult && r.Class == wire.ClassResult {
		return nil, errNotHere
	}
	switch r.What {
	case wire.WhatBlob:
		if b, ok := p.h.disk.blobs[r.Hash]; ok {
			return b, nil
		}
	case wire.WhatSlab:
		if c := p.own[r.Hash]; c != nil && int(r.Index) < len(c.Frames) {
			return wire.Encode(&wire.Slab{Frame: c.Frames[r.Index], Proof: wire.MerkleProof(c.Leaves, int(r.Index))}), nil
		}
	case wire.WhatManifest:
		if b := p.h.disk.manifest(r.Hash); b != nil {
			return b, nil
		}
	case wire.WhatSpec, wire.WhatPeers, wire.WhatStage, wire.WhatPull, wire.WhatStatus: // every simulated peer knows them, and holds the whole model
	}
	return nil, errNotHere
}

// fetch carries out a request of the catch-up, from the own store where it can.
func (p *process) fetch(e catchup.Fetch) {
	failed := func(err error) catchup.FetchFailed {
		return catchup.FetchFailed{Ref: e.Ref, Peer: e.Peer, Reason: err.Error(), Gone: errors.Is(err, errNotHere)}
	}
	fetched := func(b []byte) catchup.Fetched {
		done := catchup.Fetched{Ref: e.Ref}
		if e.Inline {
			done.Body = b
		}
		return done
	}
	here := p.h.disk.blobs[e.Ref.Hash]
	if e.Ref.What == wire.WhatManifest {
		here = p.h.disk.manifest(e.Ref.Hash)
	}
	to := p.w.ids[e.Peer]
	if here != nil {
		p.next(fetched(here))
		return
	}
	if to == nil || to == p.h {
		p.next(failed(errNotHere))
		return
	}
	p.w.net.fetch(p, to, e.Request(), func(b []byte, err error) {
		if err == nil && e.Ref.What == wire.WhatBlob {
			err = p.storeAs(e.Ref.Hash, b)
		}
		p.report(func() {
			if err != nil {
				p.next(failed(err))
			} else {
				p.next(fetched(b))
			}
		})
	})
}

var errWrongBytes = errors.New("the bytes are not those asked for")

func (p *process) storeAs(name wire.Hash, b []byte) error {
	if p.w.has(BugResultNotVerified) {
		p.h.disk.blobs[name] = b
		return nil
	}
	if wire.HashLeaf(b) != name {
		return errWrongBytes
	}
	_, err := p.h.put(b)
	return err
}

// fetchSlab pulls one slab of a member's contribution.
func (p *process) fetchSlab(e round.FetchSlab) {
	if p.frame(e.Root, e.Slab) != nil {
		p.next(round.SlabFetched{Peer: e.Peer, Root: e.Root, Slab: e.Slab})
		return
	}
	to := p.w.ids[e.Peer]
	request := wire.Request{Class: wire.ClassContribution, What: wire.WhatSlab, Hash: e.Root, Index: e.Slab}
	p.w.net.fetch(p, to, request, func(b []byte, err error) {
		var slab wire.Slab
		if err == nil {
			err = wire.Decode(b, &slab)
		}
		if err == nil && !p.w.has(BugSlabNotVerified) {
			err = slab.Verify(e.Root, int(e.Slab), e.Slabs)
		}
		if err == nil {
			if p.fetched[e.Root] == nil {
				p.fetched[e.Root] = map[uint64][]byte{}
			}
			p.fetched[e.Root][e.Slab] = slab.Frame
		}
		p.report(func() {
			if err != nil {
				p.next(round.FetchFailed{Peer: e.Peer, Root: e.Root, Slab: e.Slab, Reason: err.Error()})
			} else {
				p.next(round.SlabFetched{Peer: e.Peer, Root: e.Root, Slab: e.Slab})
			}
		})
	})
}

// frame returns a slab, own or fetched, or nil.
func (p *process) frame(root wire.Hash, slab uint64) []byte {
	if c := p.own[root]; c != nil && slab < uint64(len(c.Frames)) {
		return c.Frames[slab]
	}
	return p.fetched[root][slab]
}
