package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"dunlin/peer/reign"
	"dunlin/status"
	"dunlin/wire"
)

// entryAsked asks the loop for an entry of its ledger.
type entryAsked struct {
	height uint64
	answer chan entryTold // takes one
}

type entryTold struct {
	detail *status.EntryDetail
	err    error
}

// Entry tells all that an entry of the ledger says, with a commit's table where it is still here. It may be called from
// any goroutine; it waits for Run, and for the context.
func (p *Peer) Entry(ctx context.Context, height uint64) (*status.EntryDetail, error) {
	left := errors.New("this peer has left the run: its ledger is closed")
	select {
	case <-p.done:
		return nil, left
	default:
	}
	asked := entryAsked{height, make(chan entryTold, 1)}
	p.inbox.Put(asked)
	select {
	case told := <-asked.answer:
		return told.detail, told.err
	case <-p.done:
		return nil, left
	case <-ctx.Done():
		return nil, errors.New("the peer is too busy to read its ledger now: try again")
	}
}

func (p *Peer) entry(height uint64) (*status.EntryDetail, error) {
	if height > p.ledger.Height() {
		return nil, fmt.Errorf("the ledger here ends at height %d", p.ledger.Height())
	}
	entries, err := p.ledger.Range(height, 1)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("the ledger here has no entry at height %d", height)
	}
	e := &entries[0].Entry
	body, err := e.Body()
	if err != nil {
		return nil, err
	}
	detail := &status.EntryDetail{
		Entry: status.Entry{Height: e.Height, Kind: e.Kind.String(), Text: status.DescribeEntry(body)}, Hash: e.Hash(), Term: e.Term,
	}
	commit, ok := body.(*wire.Commit)
	if !ok {
		return detail, nil
	}
	detail.State = &commit.State
	encoded, err := p.store.Get(commit.Table, wire.MaxMessage)
	var table wire.CommitTable
	if err == nil {
		err = wire.Decode(encoded, &table)
	}
	if err != nil {
		detail.Missing = "its table is older than what this peer keeps"
		return detail, nil //nolint:nilerr // the entry is here without it
	}
	name := func(id wire.PeerID) string { return cmp.Or(p.figures.NameOf(id), id.Short()) }
	for i := range table.Contributors {
		c := &table.Contributors[i]
		row := status.Contributor{Rank: i, Slot: uint64(c.Slot), Tokens: c.Tokens, From: c.From, To: c.To, Weight: c.Weight, Clip: float64(c.Clip.Value())}
		if id, known := p.thanks.Of(c.Slot); known {
			row.Name = name(id)
		}
		detail.Contributors = append(detail.Contributors, row)
	}
	for i := range table.Slabs {
		s := &table.Slabs[i]
		detail.Slabs = append(detail.Slabs, status.Slab{Slab: s.Slab, Owner: name(s.Owner), Bytes: s.Length, Members: bits.OnesCount64(s.Members)})
	}
	return detail, nil
}

// Tell hands over what the organiser wants, from any goroutine.
func (p *Peer) Tell(o reign.Organise) { p.inbox.Put(o) }

// Settings returns those in force by the own ledger, nil before the first entry of
// settings; any goroutine may call it.
func (p *Peer) Settings() *wire.Settings { return p.inForce.Load() }

// CopyLedger writes the ledger's file as it is at one moment, from any goroutine.
func (p *Peer) CopyLedger(w io.Writer) error { return p.ledger.CopyTo(w) }
