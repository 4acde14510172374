package peer

import (
	"fmt"
	"strings"

	"dunlin/catchup"
	"dunlin/folder"
	"dunlin/peer/contact"
	"dunlin/peer/figures"
	"dunlin/round"
	"dunlin/store"
	"dunlin/wire"
)

// request has a job done; its addresses are used when there is no session.
func (p *Peer) request(j contact.Job) {
	j.Timeout = contact.FetchWithin
	switch {
	case p.peers[j.From]:
		j.Addrs = nil
	case len(j.Addrs) == 0:
		j.Addrs = p.addrs[j.From]
	}
	p.fetcher.Jobs.Put(j)
}

// fetch carries out a request of the catch-up, from the own store where it can.
func (p *Peer) fetch(e catchup.Fetch) {
	failed := func(err error) catchup.FetchFailed {
		return catchup.FetchFailed{Ref: e.Ref, Peer: e.Peer, Reason: err.Error(), Gone: strings.Contains(err.Error(), contact.ErrNotHere.Error())}
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
		p.next(failed(contact.ErrNotHere))
		return
	}
	if e.Class == wire.ClassJoin && e.Ref.What == wire.WhatBlob {
		p.figures.Transferring(figures.TransferBegun{What: figures.TransferState})
	}
	j := contact.Job{From: e.Peer, Request: e.Request(), Limit: store.MaxBlob}
	switch e.Ref.What {
	case wire.WhatManifest:
		j.Limit = folder.MaxManifest
	case wire.WhatBlob:
		j.Check = func(b []byte) error {
			if got := wire.HashLeaf(b); got != e.Ref.Hash {
				return fmt.Errorf("their hash is %s", got.Short())
			}
			return nil
		}
	default: // what is signed is checked where it is decoded
	}
	j.Done = func(b []byte, err error) {
		if err == nil && e.Ref.What == wire.WhatBlob {
			_, err = p.store.Put(b)
		}
		if err != nil {
			p.inbox.Put(failed(err))
			return
		}
		if e.Class == wire.ClassJoin {
			p.inbox.Put(figures.TransferMoved{What: figures.TransferState, From: e.Peer, Bytes: len(b)})
		}
		p.inbox.Put(fetched(e, b))
	}
	p.request(j)
}

func fetched(e catchup.Fetch, b []byte) catchup.Fetched {
	done := catchup.Fetched{Ref: e.Ref}
	if e.Inline {
		done.Body = b
	}
	return done
}

// fetchSlab pulls one slab of a member's contribution.
func (p *Peer) fetchSlab(e round.FetchSlab) {
	if p.slabs.Frame(e.Root, int(e.Slab)) != nil {
		p.next(round.SlabFetched{Peer: e.Peer, Root: e.Root, Slab: e.Slab})
		return
	}
	var slab wire.Slab
	p.request(contact.Job{
		From: e.Peer, Addrs: e.Addrs, Limit: wire.MaxFrame,
		Request: wire.Request{Class: wire.ClassContribution, What: wire.WhatSlab, Hash: e.Root, Index: e.Slab},
		Check: func(b []byte) error {
			if err := wire.Decode(b, &slab); err != nil {
				return err
			}
			return slab.Verify(e.Root, int(e.Slab), e.Slabs)
		},
		Done: func(_ []byte, err error) {
			if err != nil {
				p.inbox.Put(round.FetchFailed{Peer: e.Peer, Root: e.Root, Slab: e.Slab, Reason: err.Error()})
				return
			}
			p.slabs.Keep(e.Root, int(e.Slab), slab.Frame)
			p.inbox.Put(round.SlabFetched{Peer: e.Peer, Root: e.Root, Slab: e.Slab})
		},
	})
}
