package figures

import (
	"fmt"
	"slices"
	"time"

	"dunlin/status"
	"dunlin/wire"
)

// OwnRounds is what a worker sees of its rounds, for its page: what it does itself, and the entries and messages that
// reach it. The coordinator that leads knows more (round.LeaderSnapshot).
type OwnRounds struct {
	open map[uint64]*ownRound // by fragment, the newest one
	past []*ownRound          // oldest first
}

// maxOwnRounds bounds what is kept of rounds that are over.
const maxOwnRounds = 240

// ownRound is one attempt of a round, or the time before there is one. Times are zero while they have not come.
type ownRound struct {
	fragment, base  uint64
	attempt         wire.AttemptID
	members         int
	snapshot, ready time.Time // of this worker's weights; its contribution's
	opened          time.Time // the attempt
	summed          time.Time // by all owners
	held            time.Time // the result, here
	closed          time.Time // by a commit, or by the attempt that took its place
	merged          time.Time
	overlap         uint64 // inner steps from the snapshot to the merge
	shares, slabs   int    // of this worker's contribution in the commit, of how many; 0 of 0 without one
	failed          string
}

func newOwnRounds() OwnRounds { return OwnRounds{open: map[uint64]*ownRound{}} }

// of returns the newest round of a fragment; one of another base version takes its place.
func (o *OwnRounds) of(fragment, base uint64) *ownRound {
	r := o.open[fragment]
	if r == nil || r.base != base {
		o.shelve(fragment)
		r = &ownRound{fragment: fragment, base: base}
		o.open[fragment] = r
	}
	return r
}

// shelve ends a fragment's newest round.
func (o *OwnRounds) shelve(fragment uint64) {
	if r := o.open[fragment]; r != nil {
		o.past = append(o.past, r)
		o.past = o.past[max(0, len(o.past)-maxOwnRounds):]
	}
	delete(o.open, fragment)
}

// attempted takes in an attempt; the one before it has failed, its contributions stand.
func (o *OwnRounds) attempted(a *wire.Attempt, members int, now time.Time) {
	r := o.of(a.Fragment, a.Base)
	if r.attempt.Counter != 0 {
		next := *r
		r.failed, r.closed = fmt.Sprintf("attempt %s took its place", a.ID), now
		o.shelve(a.Fragment)
		next.snapshot, next.summed, next.held = time.Time{}, time.Time{}, time.Time{}
		r = &next
		o.open[a.Fragment] = r
		r.ready = now
	}
	r.attempt, r.members, r.opened = a.ID, members, now
}

// Entry takes in what the ledger says of rounds while this worker trains. Table is the entry's; it may be missing.
func (o *OwnRounds) Entry(body wire.Body, table []byte, now time.Time) {
	switch b := body.(type) {
	case *wire.Attempt:
		var t wire.AttemptTable
		_ = wire.Decode(table, &t) // without it the members are not known here
		o.attempted(b, len(t.Members), now)
	case *wire.Commit:
		o.of(b.Fragment, b.Base).closed = now
	case *wire.Member, *wire.Lease, *wire.Settings, *wire.Checkpoint:
	}
}

// Snapped takes in a snapshot of this worker's weights.
func (o *OwnRounds) Snapped(fragment, base uint64, now time.Time) {
	o.of(fragment, base).snapshot = now
}

// Told takes in a message about a round, sent here or from here.
func (o *OwnRounds) Told(m wire.Message, now time.Time) {
	mark := func(fragment, base uint64, of func(*ownRound) *time.Time) {
		if r := o.open[fragment]; r != nil && r.base == base && r.closed.IsZero() {
			if at := of(r); at.IsZero() { // messages are sent again
				*at = now
			}
		}
	}
	if ready, is := m.(*wire.SignedReady); is {
		mark(ready.Ready.Fragment, ready.Ready.Base, func(r *ownRound) *time.Time { return &r.ready })
	}
	if results, is := m.(*wire.Results); is {
		mark(results.Fragment, results.Base, func(r *ownRound) *time.Time { return &r.summed })
	}
	if have, is := m.(*wire.Have); is {
		mark(have.Fragment, have.Base, func(r *ownRound) *time.Time { return &r.held })
	}
}

// Merging takes in which slabs of a commit have this worker's contribution.
func (o *OwnRounds) Merging(fragment, version uint64, included []bool) {
	if r := o.open[fragment]; r != nil && r.base+1 == version {
		r.slabs, r.shares = len(included), 0
		for _, in := range included {
			if in {
				r.shares++
			}
		}
	}
}

// Merge takes in that a commit is in the live weights.
func (o *OwnRounds) Merge(fragment, version, overlap uint64, now time.Time) {
	if r := o.open[fragment]; r != nil && r.base+1 == version {
		r.merged, r.overlap = now, overlap
	}
}

// rows are what the page shows, by their beginnings.
func (o *OwnRounds) rows(since func(time.Time) float64) []status.Round {
	at := instants(since)
	rounds := slices.Clone(o.past)
	for _, r := range o.open {
		rounds = append(rounds, r)
	}
	slices.SortFunc(rounds, func(a, b *ownRound) int { return a.began().Compare(b.began()) })
	out := make([]status.Round, 0, len(rounds))
	for _, r := range rounds {
		row := status.Round{
			Fragment: int(r.fragment), Base: r.base, Phase: r.phase(), Members: r.members, Overlap: r.overlap, Failed: r.failed,
			Snapshot: at(r.snapshot), Ready: at(r.ready), Opened: at(r.opened), Summed: at(r.summed), Held: at(r.held), Closed: at(r.closed), Merged: at(r.merged),
		}
		if r.attempt.Counter != 0 {
			row.Attempt = r.attempt.String()
		}
		out = append(out, row)
	}
	return out
}

func (r *ownRound) began() time.Time {
	for _, t := range []time.Time{r.snapshot, r.ready, r.opened, r.summed, r.held} {
		if !t.IsZero() {
			return t
		}
	}
	return r.closed
}

// phase says what is awaited, or what came of the round for this worker.
func (r *ownRound) phase() string {
	switch {
	case r.failed != "":
		return "failed"
	case !r.closed.IsZero() && r.slabs == 0:
		return "committed without a contribution from here"
	case !r.closed.IsZero():
		return fmt.Sprintf("%d of %d slabs have this worker's share", r.shares, r.slabs)
	case !r.held.IsZero():
		return "waiting for the commit"
	case !r.summed.IsZero():
		return "receiving the result"
	case !r.opened.IsZero():
		return "owners sum"
	case !r.ready.IsZero():
		return "waiting until enough workers are ready"
	}
	return "encoding"
}
