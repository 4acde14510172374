package catchup

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"time"

	"dunlin/wire"
)

// maxDown bounds the peers that are remembered to be gone.
const maxDown = 4096

// fetcher is what is wanted, who was asked for it and who failed. A thing that
// several commits name is fetched once.
type fetcher struct {
	blobs map[Ref]*blob
	busy  []*blob             // asked for, oldest first
	bytes uint64              // of busy
	load  map[wire.PeerID]int // of busy
	up    []wire.PeerID       // ascending
	down  map[wire.PeerID]bool
	retry time.Time // when a peer that failed may be asked again; zero: nobody
}

// thing is something to want.
type thing struct {
	ref     Ref
	inline  bool
	size    uint64
	owner   wire.PeerID   // asked first; zero: nobody in particular
	members []wire.PeerID // asked next
}

// blob is one thing on its way here.
type blob struct {
	thing
	class  wire.Class
	users  int
	held   bool
	body   []byte
	from   wire.PeerID // zero when it is not being fetched
	since  time.Time
	failed map[wire.PeerID]*failure
}

type failure struct {
	n     int
	gone  int // answers that the peer does not have it
	until time.Time
}

// want is a set of things that are needed together.
type want struct {
	list []*blob
	runs []int // by blob: where the next one of another owner is
	next int   // those before it are held
}

// here reports whether everything is.
func (w *want) here() bool {
	for w.next < len(w.list) && w.list[w.next].held {
		w.next++
	}
	return w.next == len(w.list)
}

// left is how many bytes are not here yet.
func (w *want) left() uint64 {
	var n uint64
	for _, b := range w.list[w.next:] {
		if !b.held {
			n += b.size
		}
	}
	return n
}

func newFetcher() fetcher {
	return fetcher{blobs: map[Ref]*blob{}, load: map[wire.PeerID]int{}, down: map[wire.PeerID]bool{}}
}

func (f *fetcher) want(class wire.Class, things []thing) *want {
	w := &want{list: make([]*blob, len(things)), runs: make([]int, len(things))}
	end := len(things)
	for i := len(things) - 1; i >= 0; i-- {
		if i+1 < len(things) && things[i].owner != things[i+1].owner {
			end = i + 1
		}
		w.runs[i] = end
	}
	for i, t := range things {
		b := f.blobs[t.ref]
		if b == nil {
			b = &blob{thing: t, class: class, failed: map[wire.PeerID]*failure{}}
			f.blobs[t.ref] = b
		}
		b.users++
		w.list[i] = b
	}
	return w
}

// release ends a want; what nobody else wants is forgotten.
func (f *fetcher) release(w *want) {
	if w == nil {
		return
	}
	for _, b := range w.list {
		if b.users--; b.users == 0 {
			f.free(b)
			delete(f.blobs, b.ref)
		}
	}
}

// doubt takes back that things are here, since their bytes are not what they
// should be.
func (f *fetcher) doubt(w *want, now time.Time) {
	for _, b := range w.list {
		b.held, b.body = false, nil
		f.fail(b, b.from, false, now)
	}
	w.next = 0
}

// free ends a fetch.
func (f *fetcher) free(b *blob) {
	if i := slices.Index(f.busy, b); i >= 0 {
		f.busy = slices.Delete(f.busy, i, i+1)
		f.bytes -= b.size
		if f.load[b.from]--; f.load[b.from] <= 0 {
			delete(f.load, b.from)
		}
	}
}

func (f *fetcher) fetched(e Fetched) {
	b := f.blobs[e.Ref]
	if b == nil || b.held {
		return
	}
	f.free(b)
	b.held, b.body = true, e.Body
}

func (f *fetcher) failed(ref Ref, peer wire.PeerID, gone bool, now time.Time) {
	b := f.blobs[ref]
	if b == nil || b.held || b.from != peer || !slices.Contains(f.busy, b) {
		return
	}
	f.free(b)
	f.fail(b, peer, gone, now)
}

func (f *fetcher) fail(b *blob, peer wire.PeerID, gone bool, now time.Time) {
	x := b.failed[peer]
	if x == nil {
		x = &failure{}
		b.failed[peer] = x
	}
	x.n++
	if gone {
		x.gone++
	}
	x.until = now.Add(backoff(x.n))
}

// peerUp gives a peer that is back a new chance at once.
func (f *fetcher) peerUp(peer wire.PeerID) {
	delete(f.down, peer)
	if i, found := f.find(peer); !found {
		f.up = slices.Insert(f.up, i, peer)
	}
	for _, b := range f.blobs {
		delete(b.failed, peer)
	}
}

func (f *fetcher) peerDown(peer wire.PeerID, now time.Time) {
	if i, found := f.find(peer); found {
		f.up = slices.Delete(f.up, i, i+1)
		if len(f.down) >= maxDown {
			clear(f.down) // at worst some are asked in vain
		}
		f.down[peer] = true
	}
	for _, b := range slices.Clone(f.busy) {
		if b.from == peer {
			f.free(b)
			f.fail(b, peer, false, now)
		}
	}
}

func (f *fetcher) find(peer wire.PeerID) (int, bool) {
	return slices.BinarySearchFunc(f.up, peer, func(a, b wire.PeerID) int { return bytes.Compare(a[:], b[:]) })
}

// expire fails what the driver's own watchdog should have failed.
func (f *fetcher) expire(now time.Time) {
	for len(f.busy) > 0 && !now.Before(f.busy[0].since.Add(fetchWait)) {
		b := f.busy[0]
		f.free(b)
		f.fail(b, b.from, false, now)
	}
}

func (f *fetcher) deadline() time.Time {
	if len(f.busy) > 0 {
		return earlier(f.retry, f.busy[0].since.Add(fetchWait))
	}
	return f.retry
}

// donors are those who may have anything: the coordinator, then whoever is up.
func (f *fetcher) donors(coordinator, self wire.PeerID) []wire.PeerID {
	var out []wire.PeerID
	if coordinator != self {
		out = append(out, coordinator)
	}
	for _, p := range f.up {
		if p != coordinator && p != self {
			out = append(out, p)
		}
	}
	return out
}

// sources tells who may have a thing, best first. What is new is with its owner first, then with the members that
// pull it, then with the coordinator. What a latecomer needs all have: each gives a part of it, so that it comes over
// all of their links. This peer's own store is looked at by the driver whoever is named; it is named itself when it is the owner or
// when there is nobody else.
func (m *Machine) sources(b *blob) iter.Seq[wire.PeerID] {
	f := &m.fetcher
	near := append([]wire.PeerID{b.owner}, b.members...)
	donors := f.donors(m.cfg.Coordinator, m.cfg.Self)
	order := [][]wire.PeerID{near, donors}
	if n := len(donors); n > 0 && b.class == wire.ClassJoin {
		at := int(b.ref.Hash[0]) % n
		order = [][]wire.PeerID{donors[at:], donors[:at], near}
	}
	return func(yield func(wire.PeerID) bool) {
		named := map[wire.PeerID]bool{}
		for _, peers := range order {
			for _, p := range peers {
				if p.IsZero() || f.down[p] || named[p] || (p == m.cfg.Self && p != b.owner) {
					continue
				}
				if named[p] = true; !yield(p) {
					return
				}
			}
		}
		if len(named) == 0 {
			yield(m.cfg.Self)
		}
	}
}

// outcome says what pick found.
type outcome uint8

const (
	found   outcome = iota // somebody to ask now
	full                   // whoever has it is asked for enough already
	cooling                // everybody failed lately
	gone                   // and has answered twice that it does not have it
)

// pick returns whom to ask for a blob now.
func (m *Machine) pick(b *blob) (wire.PeerID, outcome) {
	f := &m.fetcher
	result := gone
	for p := range m.sources(b) {
		x := b.failed[p]
		if x != nil && m.now.Before(x.until) {
			f.retry = earlier(f.retry, x.until)
			if result == gone && !f.hopeless(p, x) {
				result = cooling
			}
			continue
		}
		if f.load[p] < maxFromPeer {
			return p, found
		}
		result = full
		if b.class != wire.ClassJoin {
			break // the next in line would not have it yet
		}
	}
	return wire.PeerID{}, result
}

// hopeless reports whether a peer that failed will not have it: it has answered
// so twice, or it failed twice and is not connected. Who left for ever never
// answers.
func (f *fetcher) hopeless(p wire.PeerID, x *failure) bool {
	_, up := f.find(p)
	return x.gone >= 2 || (x.n >= 2 && !up)
}

// pump asks for what is needed, the soonest needed first.
func (m *Machine) pump() {
	m.fetcher.retry = time.Time{}
	if m.plan != nil {
		for _, w := range m.plan.wants() {
			m.fetch(w, fmt.Sprintf("checkpoint %d", m.plan.at))
		}
	}
	ahead := 0
	for _, e := range m.queue {
		if e.commit == nil || (m.plan != nil && e.height <= m.plan.at) || !m.keeps(int(e.commit.Fragment)) {
			continue
		}
		if ahead++; ahead > commitsAhead {
			break
		}
		m.needs(e)
		w := e.frames
		if w == nil {
			w = e.tableAt
		}
		m.fetch(w, fmt.Sprintf("commit %d", e.height))
	}
	for _, r := range m.results {
		m.fetch(r.frames, "attempt "+r.attempt.String())
	}
}

func (m *Machine) fetch(w *want, purpose string) {
	f := &m.fetcher
	if w == nil || w.here() {
		return
	}
	for i := w.next; i < len(w.list); i++ {
		b := w.list[i]
		if b.held || slices.Contains(f.busy, b) {
			continue
		}
		if len(f.busy) >= maxFetches || (f.bytes > 0 && f.bytes+b.size > maxBytes) {
			return
		}
		peer, result := m.pick(b)
		switch {
		case result == found:
			b.from, b.since = peer, m.now
			f.busy, f.bytes = append(f.busy, b), f.bytes+b.size
			f.load[peer]++
			m.do(Fetch{Ref: b.ref, Peer: peer, Class: b.class, Size: b.size, Inline: b.inline})
		case result == full && len(b.failed) == 0:
			i = w.runs[i] - 1 // so is everything else of the same owner
		case result == gone:
			m.wait(fmt.Sprintf("nobody who can be reached has %s of %s; waiting for a holder", b.ref, purpose))
		}
	}
}

// wait says once why nothing moves.
func (m *Machine) wait(reason string) {
	if m.waiting == "" {
		m.waiting = reason
		m.note("%s", reason)
	}
}
