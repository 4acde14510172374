package catchup

import (
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// plan is a checkpoint being loaded.
type plan struct {
	at        uint64
	fragments []wire.FragmentHead
	manifests []*wire.Manifest
	lists     []*want // of each fragment's manifest; nil where the state is here
	slabs     []*want
	notBefore time.Time // when it is not the first in a row
}

func (p *plan) wants() []*want { return slices.Concat(p.lists, p.slabs) }

// marked takes in a checkpoint entry.
func (m *Machine) marked(height uint64, c *wire.Checkpoint) {
	if len(c.Fragments) != len(m.heads) {
		m.note("checkpoint %d is of %d fragments, the run has %d", c.At, len(c.Fragments), len(m.heads))
		return
	}
	if m.newest == nil || c.At >= m.newest.At {
		m.newest = c
	}
	if c.Complete {
		if m.whole == nil || c.At > m.whole.At {
			m.whole = c
		}
		return
	}
	m.queue = append(m.queue, &entry{height: height, mark: c})
}

// reachMark keeps the state of a checkpoint when the replica stands at it, beside the commits that follow: a large one
// takes its time, and everybody keeps the same. A mark that a commit overtook on its way into the log is made again.
func (m *Machine) reachMark(c *wire.Checkpoint) {
	m.pop()
	switch {
	case !slices.Equal(c.Fragments, m.heads):
		m.note("checkpoint %d is of a state that this replica has left; it is not kept here", c.At)
	case m.saving != nil:
		m.note("checkpoint %d is not kept here: %d is still being written", c.At, m.saving.At)
	default:
		m.saving = c
		m.do(SaveCheckpoint{At: c.At})
	}
}

// choosePlan takes the cheaper of replaying and loading the newest complete
// checkpoint, or the newest when none is complete. When the next commit's
// frames are gone everywhere, a checkpoint above it is the only way.
func (m *Machine) choosePlan() {
	if m.order != nil || len(m.queue) == 0 {
		return
	}
	stuck := m.gone()
	if m.plan != nil {
		if stuck {
			m.replan()
		}
		return
	}
	c := m.best(m.floor)
	if c == nil || (!stuck && m.loadBytes(c) >= m.replayBytes(c.At)) {
		return
	}
	m.load(c.At, c.Fragments)
}

// replan gives up a checkpoint that nobody has: a newer one takes its place, or
// replay does.
func (m *Machine) replan() {
	c, at := m.best(m.plan.at), m.plan.at
	m.abandon()
	m.badMark = at
	switch {
	case c != nil:
		m.load(c.At, c.Fragments)
	case m.broken():
		m.reload()
	default:
		m.note("nobody who can be reached has checkpoint %d; replaying from %d", at, m.floor)
	}
}

// broken reports whether the replica as it is must not go on.
func (m *Machine) broken() bool { return m.heads[0].State.IsZero() }

// best returns the checkpoint to load above a height, if there is one.
func (m *Machine) best(above uint64) *wire.Checkpoint {
	for _, c := range []*wire.Checkpoint{m.whole, m.newest} {
		if c != nil && c.At > above && c.At != m.badMark {
			return c
		}
	}
	return nil
}

// gone reports whether something that is needed next is with nobody who can be
// reached.
func (m *Machine) gone() bool {
	var wants []*want
	if m.plan != nil {
		wants = m.plan.wants()
	} else if e := m.queue[0]; e.commit != nil {
		wants = []*want{e.tableAt, e.frames}
	}
	for _, w := range wants {
		if w == nil || w.here() {
			continue
		}
		for _, b := range w.list[w.next:] {
			if b.held || slices.Contains(m.fetcher.busy, b) || len(b.failed) == 0 {
				continue
			}
			if _, result := m.pick(b); result == gone {
				return true
			}
		}
	}
	return false
}

// loadBytes and replayBytes are what each way would fetch, about.
func (m *Machine) loadBytes(c *wire.Checkpoint) uint64 {
	var n uint64
	for f, head := range c.Fragments {
		if head != m.heads[f] && m.keeps(f) {
			n += m.stateBytes[f]
		}
	}
	return n
}

func (m *Machine) replayBytes(to uint64) uint64 {
	var n uint64
	for _, e := range m.queue {
		if e.commit != nil && e.height <= to && m.keeps(int(e.commit.Fragment)) {
			n += m.resultBytes(e.commit)
		}
	}
	return n
}

// left is what is still to come, about: of a checkpoint, then of the commits above it.
func (m *Machine) left() uint64 {
	var n, from uint64
	if p := m.plan; p != nil {
		from = p.at
		for f, list := range p.lists {
			switch {
			case p.slabs[f] != nil:
				n += p.slabs[f].left()
			case list != nil:
				n += m.stateBytes[f]
			}
		}
	}
	for _, e := range m.queue {
		switch {
		case e.commit == nil || e.height <= from || !m.keeps(int(e.commit.Fragment)):
		case e.frames != nil:
			n += e.frames.left()
		default:
			n += m.resultBytes(e.commit)
		}
	}
	return n
}

// resultBytes is what a commit's result takes, about.
func (m *Machine) resultBytes(c *wire.Commit) uint64 {
	return uint64(m.cfg.Slabs[c.Fragment]) * m.cfg.SlabBytes[c.Fragment]
}

// load begins to fetch a checkpoint; at height 0 there is nothing to fetch.
func (m *Machine) load(at uint64, fragments []wire.FragmentHead) {
	n := len(m.heads)
	p := &plan{at: at, fragments: fragments, manifests: make([]*wire.Manifest, n), lists: make([]*want, n), slabs: make([]*want, n)}
	for f := range p.lists {
		if at > 0 && fragments[f] != m.heads[f] && m.keeps(f) {
			p.lists[f] = m.fetcher.want(wire.ClassJoin, []thing{{ref: Ref{What: wire.WhatManifest, Hash: fragments[f].State}, inline: true}})
		}
	}
	for len(m.results) > 0 {
		m.forget(m.results[0])
	}
	for _, e := range m.queue {
		if e.height <= at {
			m.drop(e)
		}
	}
	m.plan, m.waiting = p, ""
	if at > 0 {
		m.note("loading checkpoint %d instead of replaying from %d", at, m.floor)
	}
}

// followPlan reads manifests, wants their slabs, and loads when all are here.
func (m *Machine) followPlan() {
	p := m.plan
	if p == nil || m.order != nil || m.now.Before(p.notBefore) {
		return
	}
	ready := true
	for f, list := range p.lists {
		if list == nil {
			continue
		}
		if p.slabs[f] == nil && list.here() {
			m.readManifest(f, list)
		}
		if p.slabs[f] == nil || !p.slabs[f].here() {
			ready = false
		}
	}
	if ready {
		m.begin(orderLoad, p.at, LoadCheckpoint{At: p.at, Fragments: p.fragments, Manifests: p.manifests})
	}
}

// readManifest checks a manifest against the state hash, which is its root.
func (m *Machine) readManifest(f int, list *want) {
	var man wire.Manifest
	err := wire.Decode(list.list[0].body, &man)
	if err == nil && (len(man.Slabs) != m.cfg.Slabs[f] || wire.MerkleRoot(man.Slabs) != m.plan.fragments[f].State) {
		err = fmt.Errorf("its %d slabs do not make state %s", len(man.Slabs), m.plan.fragments[f].State.Short())
	}
	if err != nil {
		m.note("manifest of fragment %d from %s: %v", f, list.list[0].from.Short(), err)
		m.fetcher.doubt(list, m.now)
		return
	}
	m.plan.manifests[f] = &man
	things := make([]thing, len(man.Slabs))
	for i, h := range man.Slabs {
		things[i] = thing{ref: Ref{What: wire.WhatBlob, Hash: h}, size: m.stateBytes[f] / uint64(len(man.Slabs))}
	}
	m.plan.slabs[f] = m.fetcher.want(wire.ClassJoin, things)
}

func (m *Machine) abandon() {
	for _, w := range m.plan.wants() {
		m.fetcher.release(w)
	}
	m.plan = nil
}

// loaded stands the replica at the checkpoint; what is above it is replayed.
func (m *Machine) loaded(e Loaded) {
	if m.plan == nil || !m.finish(orderLoad, e.At) {
		return
	}
	m.heads, m.waiting = slices.Clone(m.plan.fragments), ""
	m.abandon()
	m.do(Jumped{At: e.At, Fragments: slices.Clone(m.heads)})
	if e.At < m.floor {
		// The queue lacks what lies between: the ledger has it.
		for _, q := range m.queue {
			m.drop(q)
		}
		m.queue, m.logged, m.rereadTo = nil, e.At, 0
		m.settle()
		m.reread()
		return
	}
	for len(m.queue) > 0 && m.queue[0].height <= e.At {
		m.pop()
	}
	m.settle()
}

func (m *Machine) loadFailed(e LoadFailed) {
	if m.plan == nil || !m.finish(orderLoad, e.At) {
		return
	}
	m.note("checkpoint %d does not load: %s", e.At, e.Reason)
	m.badMark = e.At
	m.abandon()
	if m.broken() {
		m.reload()
	}
}

// repair starts over from a state that is surely the run's.
func (m *Machine) repair(height uint64, reason string) {
	m.brokeAt = max(m.brokeAt, height)
	m.do(Repair{Reason: reason})
	for f := range m.heads {
		m.heads[f] = wire.FragmentHead{} // nothing here is trusted
	}
	m.reload()
}

// reload takes the newest checkpoint that the replica had reached, or else
// state 0, and replays from there. When that led to the same end before, it
// takes state 0 and its time.
func (m *Machine) reload() {
	if c := m.whole; c != nil && c.At != m.badMark && m.reloads == 0 {
		m.load(c.At, c.Fragments)
	} else {
		m.load(0, m.cfg.State)
	}
	if m.reloads > 0 {
		m.plan.notBefore = m.now.Add(backoff(m.reloads))
	}
	m.reloads++
}
