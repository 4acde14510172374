package sim

import (
	"slices"
	"time"

	"dunlin/contribution"
	"dunlin/replica"
	"dunlin/wire"
)

// referee keeps its own books of a run, from outside of all peers, and fails
// the world at the first promise that is broken.
type referee struct {
	w         *World
	books     books
	made      map[wire.Hash]*made // contributions by root
	steps     map[wire.Slot][]wire.Range
	holders   map[wire.PeerID]wire.Slot
	have      map[wire.Hash]wire.Hash         // result root and base -> state
	results   map[wire.Hash]*wire.CommitTable // announced, by root
	summed    map[wire.Hash]*process          // who announced a sum, by the error feedback after it
	ledTerm   uint64
	repairs   int
	atCalm    []uint64
	since     map[wire.PeerID]uint64 // commits with a contribution since the calm, by peer
	calmAt    time.Duration
	recording bool
	// Appends may have unknown outcomes: the same lease may come twice.
	repeatable bool
}

// books are what the log says; they are written again from the start when a
// coordinator lost entries that nobody had heard of.
type books struct {
	entries  []wire.Certified
	tables   map[uint64][]byte // by height
	audit    *replica.Replica
	heads    []wire.FragmentHead
	states   [][]wire.Hash // by fragment, of every version
	commits  []map[uint64]*wire.CommitTable
	attempts map[wire.AttemptID]*wire.AttemptTable
	attempt  wire.AttemptID
	newest   []wire.AttemptID // by fragment
	ends     map[slotFragment]uint64
	seen     []map[uint64]bool    // by fragment: positions that it committed
	owner    map[uint64]wire.Slot // of a position that is committed
	leased   map[uint64]wire.Slot // of a position, among live slots
	live     map[wire.Slot]wire.PeerID
	lastSlot wire.Slot
	tokens   uint64
	settings wire.Settings
	kept     map[slabOf]*kept // owners' error feedback
}

type slotFragment struct {
	slot     wire.Slot
	fragment uint64
}

// made is a contribution as its maker encoded it.
type made struct {
	by       *host
	step     uint64 // at whose border the snapshot was taken
	fragment uint64
	c        *contribution.Contribution
}

func newReferee(w *World) (*referee, error) {
	r := &referee{
		w: w, made: map[wire.Hash]*made{}, steps: map[wire.Slot][]wire.Range{}, holders: map[wire.PeerID]wire.Slot{},
		have: map[wire.Hash]wire.Hash{}, results: map[wire.Hash]*wire.CommitTable{}, since: map[wire.PeerID]uint64{}, summed: map[wire.Hash]*process{}, recording: true,
		repeatable: slices.ContainsFunc(w.sc.Faults, func(f Fault) bool { return f.Kind == Unknown }),
	}
	return r, r.reset()
}

func (r *referee) reset() error {
	audit, err := replica.NewFlat(r.w.spec, r.w.sc.Setup.SlabValues)
	if err != nil {
		return err
	}
	r.books = books{
		tables: map[uint64][]byte{}, audit: audit, heads: slices.Clone(r.w.state0), attempts: map[wire.AttemptID]*wire.AttemptTable{},
		newest: make([]wire.AttemptID, len(r.w.configs)), ends: map[slotFragment]uint64{}, owner: map[uint64]wire.Slot{},
		leased: map[uint64]wire.Slot{}, live: map[wire.Slot]wire.PeerID{}, kept: map[slabOf]*kept{},
	}
	for _, h := range r.w.state0 {
		r.books.states = append(r.books.states, []wire.Hash{h.State})
		r.books.commits = append(r.books.commits, map[uint64]*wire.CommitTable{})
		r.books.seen = append(r.books.seen, map[uint64]bool{})
	}
	return nil
}

// lost accepts that a coordinator writes a height again when nobody had heard of
// what stood there: its disk was replaced by an older one.
func (r *referee) lost(height uint64) {
	for _, h := range r.w.hosts[1:] {
		if h.done == "" && uint64(len(h.disk.entries)) >= height {
			r.w.fail("the coordinator writes entry %d again, %s has it", height, h.name)
			return
		}
	}
	r.rewind(int(height) - 1)
}

// rewind forgets entries above a height: their writer lost them, and nobody
// else has them.
func (r *referee) rewind(height int) {
	old, tables := r.books.entries, r.books.tables
	if height >= len(old) {
		return
	}
	if err := r.reset(); err != nil {
		r.w.fail("%v", err)
		return
	}
	r.recording = false
	for i := range old[:height] {
		r.write(&old[i], tables[uint64(i)+1])
	}
	r.recording = true
}

// appended checks an entry that the coordinator has made durable.
func (r *referee) appended(c *wire.Certified, table []byte) {
	if term := r.w.hosts[0].disk.term; c.Entry.Term != term {
		r.w.fail("entry %d of term %d while term %d is durable", c.Entry.Height, c.Entry.Term, term)
	}
	if c.Entry.Height <= uint64(len(r.books.entries)) {
		r.lost(c.Entry.Height)
	}
	r.write(c, table)
}

// followed checks an entry that another peer took.
func (r *referee) followed(p *process, c *wire.Certified) {
	h := c.Entry.Height
	if h > uint64(len(r.books.entries)) {
		r.w.fail("%s has entry %d, which no coordinator holds durably", p.h.name, h)
		return
	}
	if ours := r.books.entries[h-1].Entry.Hash(); ours != c.Entry.Hash() {
		r.w.fail("%s has another entry %d than the coordinator", p.h.name, h)
	}
}

func (r *referee) write(c *wire.Certified, table []byte) {
	b := &r.books
	e := &c.Entry
	if e.Height != uint64(len(b.entries))+1 {
		r.w.fail("entry %d follows %d", e.Height, len(b.entries))
		return
	}
	if n := len(b.entries); n > 0 && e.Term < b.entries[n-1].Entry.Term {
		r.w.fail("entry %d of term %d after term %d", e.Height, e.Term, b.entries[n-1].Entry.Term)
	}
	body, err := e.Body()
	if err != nil {
		r.w.fail("entry %d: %v", e.Height, err)
		return
	}
	if table == nil && !r.recording {
		table = b.tables[e.Height]
	}
	b.entries = append(b.entries, *c)
	b.tables[e.Height] = table
	if r.recording {
		r.w.recorder.entry(e.Height, e.Term, body)
	}
	switch body := body.(type) {
	case *wire.Member:
		r.member(body)
	case *wire.Lease:
		r.lease(body)
	case *wire.Attempt:
		r.attempt(body, table)
	case *wire.Commit:
		r.commit(e.Height, body, table)
	case *wire.Settings:
		r.books.settings = *body
		r.books.audit.Govern(body)
	case *wire.Checkpoint:
	}
}

func (r *referee) member(m *wire.Member) {
	b := &r.books
	if m.Op == wire.MemberAdmit {
		if m.Slot <= b.lastSlot {
			r.w.fail("slot %d is given after slot %d", m.Slot, b.lastSlot)
		}
		b.live[m.Slot], b.lastSlot = m.Peer, m.Slot
		return
	}
	delete(b.live, m.Slot)
	for pos, slot := range b.leased {
		if slot == m.Slot {
			delete(b.leased, pos)
		}
	}
}

// lease checks that no window has two live slots and none is given again once
// it is committed.
func (r *referee) lease(l *wire.Lease) {
	b := &r.books
	for _, rg := range l.Ranges {
		for pos := rg.From; pos < rg.To; pos++ {
			if slot, ok := b.leased[pos]; ok && (slot != l.Slot || !r.repeatable) {
				r.w.fail("window %d is leased to slot %d, slot %d has it", pos, l.Slot, slot)
			}
			if slot, ok := b.owner[pos]; ok && slot != l.Slot {
				r.w.fail("window %d is leased to slot %d, slot %d committed it", pos, l.Slot, slot)
			}
			b.leased[pos] = l.Slot
		}
	}
}

func (r *referee) attempt(a *wire.Attempt, table []byte) {
	b := &r.books
	if a.ID.Term < b.attempt.Term || (a.ID.Term == b.attempt.Term && a.ID.Counter <= b.attempt.Counter) {
		r.w.fail("attempt %s after attempt %s", a.ID, b.attempt)
	}
	if a.Base != b.heads[a.Fragment].Version {
		r.w.fail("attempt %s of fragment %d on version %d, its head is %d", a.ID, a.Fragment, a.Base, b.heads[a.Fragment].Version)
	}
	b.attempt, b.newest[a.Fragment] = a.ID, a.ID
	var t wire.AttemptTable
	if err := wire.Decode(table, &t); err != nil || wire.HashLeaf(table) != a.Table {
		r.w.fail("attempt %s without its table: %v", a.ID, err)
		return
	}
	b.attempts[a.ID] = &t
}

// commit checks everything that a commit promises.
func (r *referee) commit(height uint64, c *wire.Commit, encoded []byte) {
	b := &r.books
	if c.Base != b.heads[c.Fragment].Version || c.BaseState != b.heads[c.Fragment].State {
		r.w.fail("two commits of fragment %d on version %d: entry %d, head %d", c.Fragment, c.Base, height, b.heads[c.Fragment].Version)
		return
	}
	if c.Attempt != b.newest[c.Fragment] {
		r.w.fail("commit %d of attempt %s, the newest is %s", height, c.Attempt, b.newest[c.Fragment])
	}
	var t wire.CommitTable
	if err := wire.Decode(encoded, &t); err != nil || wire.HashLeaf(encoded) != c.Table {
		r.w.fail("commit %d without its table: %v", height, err)
		return
	}
	if err := t.Validate(r.w.configs[c.Fragment].Layout.Slabs()); err != nil || t.ResultRoot() != c.Result {
		r.w.fail("commit %d: its table is not of its result: %v", height, err)
		return
	}
	for _, m := range t.Contributors {
		r.contributor(height, c, &m)
	}
	if c.Tokens != b.tokens && !(r.repeatable && c.Tokens < b.tokens) {
		r.w.fail("commit %d counts %d tokens, its windows make %d", height, c.Tokens, b.tokens)
	}
	r.audit(height, c, &t)
	b.heads[c.Fragment] = wire.FragmentHead{Version: c.Base + 1, State: c.State}
	b.states[c.Fragment] = append(b.states[c.Fragment], c.State)
	b.commits[c.Fragment][c.Base] = &t
	if r.recording {
		r.held(height, c, &t)
	}
}

// contributor checks the interval and the windows of one member's part.
func (r *referee) contributor(height uint64, c *wire.Commit, m *wire.Contributor) {
	b := &r.books
	key := slotFragment{m.Slot, c.Fragment}
	if m.From < b.ends[key] || m.From >= m.To {
		r.w.fail("commit %d: steps (%d, %d] of slot %d for fragment %d, (…, %d] are committed", height, m.From, m.To, m.Slot, c.Fragment, b.ends[key])
	}
	b.ends[key] = m.To
	trained := map[uint64]bool{}
	steps := r.steps[m.Slot]
	if m.To > uint64(len(steps)) {
		r.w.fail("commit %d: slot %d contributes step %d, it made %d", height, m.Slot, m.To, len(steps))
		return
	}
	for _, rg := range steps[m.From:m.To] {
		for pos := rg.From; pos < rg.To; pos++ {
			trained[pos] = true
		}
	}
	for _, rg := range m.Windows {
		for pos := rg.From; pos < rg.To; pos++ {
			if b.seen[c.Fragment][pos] {
				r.w.fail("commit %d: window %d is committed twice by fragment %d", height, pos, c.Fragment)
			}
			b.seen[c.Fragment][pos] = true
			slot, known := b.owner[pos]
			if known && slot != m.Slot {
				r.w.fail("commit %d: window %d is committed by slots %d and %d", height, pos, slot, m.Slot)
			}
			if !known {
				b.owner[pos] = m.Slot
				b.tokens += windowTokens
			}
			if !trained[pos] {
				r.w.fail("commit %d: slot %d claims window %d in steps (%d, %d], it read others", height, m.Slot, pos, m.From, m.To)
			}
		}
	}
	made := r.made[m.Root]
	if made == nil || made.fragment != c.Fragment {
		r.w.fail("commit %d: nobody made contribution %s", height, m.Root.Short())
		return
	}
	if made.c.Base != c.Base {
		r.w.fail("commit %d on version %d takes a contribution from version %d", height, c.Base, made.c.Base)
	}
	if made.step != m.To {
		r.w.fail("commit %d: slot %d contributes steps up to %d, its snapshot was taken after %d", height, m.Slot, m.To, made.step)
	}
	if r.recording && r.calmAt > 0 {
		r.since[made.by.id]++
	}
}

// audit sums every slab again and makes the outer step on a state of its own.
func (r *referee) audit(height uint64, c *wire.Commit, t *wire.CommitTable) {
	attempt := r.books.attempts[c.Attempt]
	if attempt == nil {
		r.w.fail("commit %d of attempt %s, which was never opened", height, c.Attempt)
		return
	}
	var weight uint64
	for _, m := range attempt.Members {
		weight += m.Weight
	}
	summer := contribution.NewSummer(r.w.codec, r.w.result)
	frames := make([][]byte, len(t.Slabs))
	for i, s := range t.Slabs {
		var shares []contribution.Share
		var in uint64
		for rank, m := range t.Contributors {
			made := r.made[m.Root]
			if !s.Includes(rank) || made == nil {
				continue
			}
			in += m.Weight
			shares = append(shares, contribution.Share{Frame: made.c.Frames[i], Weight: m.Weight, Clip: m.Clip.Value(), Norm: made.c.Norm})
		}
		from, to := r.w.configs[c.Fragment].Layout.SlabValues(i)
		sum, err := r.sum(height, summer, c.Fragment, &s, to-from, shares)
		if err != nil {
			r.w.fail("commit %d: slab %d has no sum: %v", height, i, err)
			return
		}
		if wire.HashLeaf(sum.Frame) != s.Hash {
			r.w.fail("commit %d: slab %d is not the mean of its %d contributions", height, i, len(shares))
			return
		}
		if 2*in < weight || len(shares) < min(2, len(attempt.Members)) || in != s.Weight {
			r.w.fail("commit %d: slab %d of %d weighs %d of %d", height, i, len(shares), in, weight)
		}
		frames[i] = sum.Frame
	}
	if err := r.books.audit.Apply(c, frames); err != nil {
		r.w.fail("commit %d: replayed outside: %v", height, err)
	}
}

// held checks that enough peers hold a result durably when it is committed.
func (r *referee) held(height uint64, c *wire.Commit, t *wire.CommitTable) {
	n, seed := 0, false
	for _, h := range r.w.hosts {
		whole := !slices.ContainsFunc(t.Slabs, func(s wire.SlabResult) bool { return !h.durable(s.Hash) })
		switch {
		case whole && h.index == 0:
			if seed = true; h.works {
				n++
			}
		case whole:
			n++
		}
	}
	members := len(r.books.attempts[c.Attempt].Members)
	if need := min(members, max(2, (members+1)/2)); n < need || !seed {
		r.w.fail("commit %d is held by %d workers of %d needed, by the seed: %t", height, n, need, seed)
	}
}
