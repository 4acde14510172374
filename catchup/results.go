package catchup

import (
	"slices"
	"time"

	"dunlin/wire"
)

// basesAhead is how far above the replica's version an announced result may
// be: its frames are fetched while the commits before it are applied.
const basesAhead = 2

// result is an announced attempt that the log has not decided.
type result struct {
	fragment uint64
	base     uint64
	attempt  wire.AttemptID
	table    *wire.CommitTable
	name     wire.Hash // address of the table
	root     wire.Hash
	frames   *want
	state    resultState
	have     wire.Hash // state that it makes, once prepared
	since    time.Time
	tries    int
	retry    time.Time
}

type resultState uint8

const (
	resultFetching resultState = iota
	resultPreparing
	resultPrepared
)

// announced takes in a summed attempt. It takes the place of older attempts of
// its round, which cannot commit any more (R7).
func (m *Machine) announced(e *wire.Results) {
	if e.Fragment >= uint64(len(m.heads)) {
		m.note("results of fragment %d, the run has %d", e.Fragment, len(m.heads))
		return
	}
	if !m.keeps(int(e.Fragment)) {
		return
	}
	if v := m.heads[e.Fragment].Version; e.Base < v || e.Base > v+basesAhead {
		return // decided, or too far ahead to be of use before it commits
	}
	if err := e.Table.Validate(m.cfg.Slabs[e.Fragment]); err != nil {
		m.note("results of attempt %s: %v", e.Attempt, err)
		return
	}
	for _, r := range slices.Clone(m.results) {
		if r.fragment != e.Fragment || r.base != e.Base {
			continue
		}
		switch c := compare(r.attempt, e.Attempt); {
		case c > 0:
			return
		case c == 0 && r.root == e.Table.ResultRoot():
			m.sayHave(r)
			return
		default:
			m.forget(r)
		}
	}
	table := e.Table
	r := &result{fragment: e.Fragment, base: e.Base, attempt: e.Attempt, table: &table, name: wire.HashLeaf(wire.Encode(&table)), root: table.ResultRoot()}
	r.frames = m.fetcher.want(wire.ClassResult, m.frames(r.table))
	m.results = append(m.results, r)
}

func compare(a, b wire.AttemptID) int {
	switch {
	case a.Term < b.Term || (a.Term == b.Term && a.Counter < b.Counter):
		return -1
	case a == b:
		return 0
	}
	return 1
}

// resultOf returns the announced result that a commit names: the same frames,
// and the same word on who contributed.
func (m *Machine) resultOf(c *wire.Commit) *result {
	for _, r := range m.results {
		if r.fragment == c.Fragment && r.base == c.Base && r.attempt == c.Attempt && r.root == c.Result && r.name == c.Table {
			return r
		}
	}
	return nil
}

// prepareResults computes shadows of results whose frames are here and whose
// base is the replica's.
func (m *Machine) prepareResults() {
	for _, r := range m.results {
		switch {
		case r.state == resultPreparing && !m.now.Before(r.since.Add(orderWait)):
			r.since = m.now
			m.note("still preparing attempt %s after %v", r.attempt, orderWait)
		case r.state != resultFetching || m.plan != nil || m.now.Before(r.retry) || !r.frames.here():
		case r.base != m.heads[r.fragment].Version || m.decided(r.fragment):
		default:
			r.state, r.since = resultPreparing, m.now
			m.do(Prepare{Fragment: r.fragment, Base: r.base, Attempt: r.attempt, Table: r.table})
		}
	}
}

// decided reports whether a commit of the fragment waits to be applied.
func (m *Machine) decided(fragment uint64) bool {
	return slices.ContainsFunc(m.queue, func(e *entry) bool { return e.commit != nil && e.commit.Fragment == fragment })
}

// find returns the result that an answer about its preparation means. When an
// owner's slabs were summed anew, an attempt has had several.
func (m *Machine) find(fragment, base uint64, attempt wire.AttemptID, root wire.Hash) *result {
	for _, r := range m.results {
		if r.fragment == fragment && r.base == base && r.attempt == attempt && r.root == root && r.state == resultPreparing {
			return r
		}
	}
	return nil
}

func (m *Machine) prepared(e Prepared) {
	r := m.find(e.Fragment, e.Base, e.Attempt, e.Result)
	if r == nil {
		m.do(DropShadow{Fragment: e.Fragment, Attempt: e.Attempt, Result: e.Result}) // decided meanwhile
		return
	}
	r.state, r.have = resultPrepared, e.State
	m.sayHave(r)
}

// prepareFailed tries again a few times; the log's commit is applied anyway.
func (m *Machine) prepareFailed(e PrepareFailed) {
	r := m.find(e.Fragment, e.Base, e.Attempt, e.Result)
	if r == nil {
		return
	}
	m.note("attempt %s of fragment %d is not prepared: %s", e.Attempt, e.Fragment, e.Reason)
	r.state = resultFetching
	if r.tries++; r.tries >= maxTries {
		m.forget(r)
		return
	}
	m.fetcher.release(r.frames) // a frame may be lost or damaged: look again
	r.frames = m.fetcher.want(wire.ClassResult, m.frames(r.table))
	r.retry = m.now.Add(backoff(r.tries))
}

func (m *Machine) sayHave(r *result) {
	if r.state == resultPrepared {
		m.do(SendHave{Have: wire.Have{Fragment: r.fragment, Base: r.base, Attempt: r.attempt, Result: r.root, State: r.have}})
	}
}

// sayHaves says everything again that may not have been heard.
func (m *Machine) sayHaves() {
	for _, r := range m.results {
		m.sayHave(r)
	}
}

// forget drops a result and its shadow; one that is on its way is dropped when
// it comes.
func (m *Machine) forget(r *result) {
	m.results = slices.DeleteFunc(m.results, func(x *result) bool { return x == r })
	m.fetcher.release(r.frames)
	if r.state == resultPrepared {
		m.do(DropShadow{Fragment: r.fragment, Attempt: r.attempt, Result: r.root})
	}
}

// dropResults drops what a commit has decided.
func (m *Machine) dropResults(c *wire.Commit, promoted bool) {
	chosen := m.resultOf(c)
	for _, r := range slices.Clone(m.results) {
		if r.fragment != c.Fragment || r.base > c.Base {
			continue
		}
		if promoted && r == chosen {
			r.state = resultFetching // its shadow became the state
		}
		m.forget(r)
	}
}
