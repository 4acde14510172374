package sim

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"dunlin/contribution"
	"dunlin/coordinator"
	"dunlin/wire"
)

// What the referee hears of the peers themselves, beside the log.

// encoded notes a contribution.
func (r *referee) encoded(p *process, fragment, step uint64, c *contribution.Contribution) {
	r.made[c.Root] = &made{by: p.h, step: step, fragment: fragment, c: c}
}

// stepped notes which windows a slot's step read.
func (r *referee) stepped(p *process, slot wire.Slot, step uint64, windows wire.Range) {
	steps := r.steps[slot]
	if step != uint64(len(steps))+1 {
		r.w.fail("%s: step %d of slot %d after %d", p.h.name, step, slot, len(steps))
	}
	r.steps[slot] = append(steps, windows)
}

// told checks what must be durable before it is said (R8).
func (r *referee) told(p *process, m wire.Message) {
	switch m := m.(type) {
	case *wire.Entries:
		if n := len(m.Items); n > 0 && m.Items[n-1].Certified.Entry.Height > uint64(len(p.h.disk.entries)) {
			r.w.fail("%s tells entry %d before it is durable", p.h.name, m.Items[n-1].Certified.Entry.Height)
		}
	case *wire.SlabDone:
		for _, s := range m.Slabs {
			r.summed[s.After] = p
			if !p.h.durable(s.Hash) {
				r.w.fail("%s announces slab %d of attempt %s, which is not durable", p.h.name, s.Slab, m.Attempt)
			}
		}
	case *wire.Results:
		r.results[m.Table.ResultRoot()] = &m.Table
	case *wire.Have:
		r.said(p, m)
	case *wire.Refuse:
		if m.Code == wire.RefuseSlot && strings.Contains(m.Reason, "cannot count") {
			r.w.fail("an honest worker is refused: %s", m.Reason)
		}
	default: // promises nothing
	}
}

// said checks a Have: its frames are durable, its state is everybody's.
func (r *referee) said(p *process, m *wire.Have) {
	t := r.results[m.Result]
	if t == nil {
		r.w.fail("%s has result %s, which nobody announced", p.h.name, m.Result.Short())
		return
	}
	for _, s := range t.Slabs {
		if !p.h.durable(s.Hash) {
			r.w.fail("%s has attempt %s, of which slab %d is not durable", p.h.name, m.Attempt, s.Slab)
			return
		}
	}
	var key bytes.Buffer
	fmt.Fprint(&key, m.Fragment, m.Base, m.Result)
	name := wire.HashLeaf(key.Bytes())
	if p.h.flipped {
		return
	}
	if state, ok := r.have[name]; ok && state != m.State {
		r.w.fail("%s makes state %s of result %s, others %s", p.h.name, m.State.Short(), m.Result.Short(), state.Short())
	}
	r.have[name] = m.State
}

// leads checks that terms rise.
func (r *referee) leads(p *process, term uint64) {
	if term <= r.ledTerm {
		r.w.fail("%s leads in term %d, term %d was led before", p.h.name, term, r.ledTerm)
	}
	r.ledTerm = term
}

// appliedState checks a replica against the log: nothing that is not
// committed, nothing else than what is.
func (r *referee) appliedState(p *process) {
	for f, head := range p.replica.Recompute() {
		if head.Version > r.books.heads[f].Version {
			r.w.fail("%s applied version %d of fragment %d, %d is committed", p.h.name, head.Version, f, r.books.heads[f].Version)
			return
		}
		if head.Version > p.chain.Fragment(f).Version {
			r.w.fail("%s applied version %d of fragment %d before it read the commit", p.h.name, head.Version, f)
		}
		if want := r.books.states[f][head.Version]; head.State != want {
			r.w.fail("%s has state %s of fragment %d at version %d, the run has %s", p.h.name, head.State.Short(), f, head.Version, want.Short())
		}
	}
}

// share adds what a commit took of a worker to its book.
func (r *referee) share(fragment, base uint64, b *book) {
	t := r.books.commits[fragment][base]
	if t == nil {
		r.w.fail("version %d of fragment %d was merged, it is not committed", base+1, fragment)
		return
	}
	rank := slices.IndexFunc(t.Contributors, func(c wire.Contributor) bool { return b.roots[c.Root] })
	if rank < 0 {
		return
	}
	made := r.made[t.Contributors[rank].Root]
	layout := r.w.configs[fragment].Layout
	for i, s := range t.Slabs {
		if !s.Includes(rank) {
			continue
		}
		from, to := layout.SlabValues(i)
		values := make([]float32, to-from)
		if err := r.w.codec.Decode(values, made.c.Frames[i]); err != nil {
			r.w.fail("own frame: %v", err)
			return
		}
		for j, v := range values {
			b.committed[from+j] += float64(v)
		}
	}
}

// law checks R1's law of one worker and fragment: within a few ulps a merge.
func (r *referee) law(t *trainer, f int) {
	if r.w.sc.Setup.Rules.Decay != 1 {
		return // what decays is no longer anywhere
	}
	off, size := t.balance(f)
	if limit := 1e-6 + size*2e-7*float64(8+2*r.books.heads[f].Version+t.step); off > limit {
		r.w.fail("%s: fragment %d: committed shares, error feedback and live drift are %g off what was moved (%g allowed)", t.p.h.name, f, off, limit)
	}
}

// repaired counts a repair, which only a faulty machine needs.
func (r *referee) repaired(p *process, reason string) {
	if r.repairs++; !p.h.flipped {
		r.w.fail("%s repairs itself, its machine is sound: %s", p.h.name, reason)
	}
}

// finished checks that a worker ends for a reason that was given it.
func (r *referee) finished(p *process, e coordinator.Finished) {
	p.h.done = e.Reason
	if e.Code != 0 && e.Code != wire.RefuseEnded {
		r.w.fail("%s is refused: %s", p.h.name, e.Reason)
	}
}
