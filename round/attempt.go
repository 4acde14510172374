package round

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dunlin/wire"
)

// attempt is the Leader's view of one try of a round.
type attempt struct {
	id       wire.AttemptID
	table    wire.Hash // of the AttemptTable
	members  []wire.AttemptMember
	rows     []slabRow   // by slab
	worked   []time.Time // by rank: last sign of progress as an owner
	progress time.Time   // last sign of progress at all
	told     time.Time   // when the results were last announced to the seed
	stranded bool        // too few hold the result, and too few are there to try anew

	results     *wire.CommitTable // once every slab is summed
	resultsHash wire.Hash
	root        wire.Hash
	seedHas     map[wire.Hash]bool
	haves       map[wire.PeerID]holding

	proposed, opened, summed, held time.Time
}

// holding is what a holder says it has: a whole result and the state after it.
type holding struct{ result, state wire.Hash }

// slabRow is one slab's place in an attempt.
type slabRow struct {
	owner, standby int // ranks
	moves          int
	done           *wire.SlabResult
}

func newAttempt(id wire.AttemptID, t *wire.AttemptTable, hash wire.Hash, slabs int, now time.Time) *attempt {
	a := &attempt{
		id: id, table: hash, members: t.Members, rows: make([]slabRow, slabs), worked: make([]time.Time, len(t.Members)),
		seedHas: make(map[wire.Hash]bool), haves: make(map[wire.PeerID]holding), progress: now, proposed: now,
	}
	for _, s := range t.Owners {
		for i := s.From; i < s.To; i++ {
			a.rows[i] = slabRow{owner: int(s.Owner), standby: int(s.Standby)}
		}
	}
	return a
}

func (a *attempt) begin(now time.Time) {
	a.opened, a.progress = now, now
	for r := range a.worked {
		a.worked[r] = now
	}
}

func (a *attempt) rank(peer wire.PeerID) int {
	return slices.IndexFunc(a.members, func(m wire.AttemptMember) bool { return m.Peer == peer })
}

// left returns the number of slabs without a result.
func (a *attempt) left() int {
	n := 0
	for i := range a.rows {
		if a.rows[i].done == nil {
			n++
		}
	}
	return n
}

// owing returns the ranks that own slabs without a result.
func (a *attempt) owing() uint64 {
	var set uint64
	for i := range a.rows {
		if a.rows[i].done == nil {
			set |= 1 << uint(a.rows[i].owner)
		}
	}
	return set
}

// reachable reports whether the member of a rank is connected.
func (l *Leader) reachable(a *attempt, rank int) bool {
	w := l.worker(a.members[rank].Ready.Ready.Slot)
	return w != nil && w.Connected && w.Peer == a.members[rank].Peer
}

// current returns the round whose attempt a message means, or nil and why.
func (l *Leader) current(fragment uint64, id wire.AttemptID, phases ...Phase) (*leaderRound, string) {
	if fragment >= uint64(len(l.rounds)) {
		return nil, "no such fragment"
	}
	r := l.rounds[fragment]
	if r.attempt == nil || r.attempt.id != id || !slices.Contains(phases, r.phase) {
		return nil, fmt.Sprintf("it is not the attempt that is %s", r.phase)
	}
	return r, ""
}

// slabDone takes in an owner's results.
func (l *Leader) slabDone(ev SlabDoneFrom) {
	r, reason := l.current(ev.Done.Fragment, ev.Done.Attempt, Summing)
	if r == nil {
		l.note("sums of %s for fragment %d, attempt %s, are refused: %s", ev.Peer.Short(), ev.Done.Fragment, ev.Done.Attempt, reason)
		return
	}
	a := r.attempt
	rank := a.rank(ev.Peer)
	for i := range ev.Done.Slabs {
		s := &ev.Done.Slabs[i]
		reason := a.refuseResult(rank, ev.Peer, s)
		if reason == "" {
			reason = l.refuseFeedback(r.fragment, s)
		}
		if reason != "" {
			l.note("the sum of %s for fragment %d, attempt %s, slab %d is refused: %s", ev.Peer.Short(), r.fragment, a.id, s.Slab, reason)
			continue
		}
		if row := &a.rows[s.Slab]; row.done == nil {
			result := *s
			row.done = &result
			a.progress, a.worked[rank] = l.now, l.now
		}
	}
	if a.left() == 0 {
		l.spread(r)
	}
}

// refuseResult returns why a slab's result does not count, or "".
func (a *attempt) refuseResult(rank int, peer wire.PeerID, s *wire.SlabResult) string {
	switch {
	case s.Slab >= uint64(len(a.rows)):
		return "no such slab"
	case rank < 0 || a.rows[s.Slab].owner != rank || s.Owner != peer:
		return "it is another's to sum"
	case s.Hash.IsZero() || s.Length == 0 || s.Length > wire.MaxFrame:
		return fmt.Sprintf("a frame of %d bytes", s.Length)
	case s.Members&^allRanks(len(a.members)) != 0:
		return fmt.Sprintf("members %b of %d", s.Members, len(a.members))
	case s.Weight != weightOf(a.members, s.Members):
		return fmt.Sprintf("weight %d, its members weigh %d", s.Weight, weightOf(a.members, s.Members))
	case !quorum(a.members, s.Members):
		return fmt.Sprintf("members %b are below quorum", s.Members)
	case a.rows[s.Slab].done != nil && *a.rows[s.Slab].done != *s:
		return "it was announced with another result"
	}
	return ""
}

// refuseFeedback returns why the error feedback that a sum names cannot be the
// owner's, or "" (R10).
func (l *Leader) refuseFeedback(fragment int, s *wire.SlabResult) string {
	switch {
	case s.After.IsZero() == l.cfg.OwnerFeedback:
		return "error feedback is named where owners keep none, or the other way round"
	case !l.history.follows(fragment, s):
		return "its error feedback is not what the newest commit left it with"
	}
	return ""
}

// slabFailed hears that an owner cannot sum a slab. When members did not
// deliver, the attempt fails; when the fault is the owner's, another owner
// takes the slab.
func (l *Leader) slabFailed(ev SlabFailedFrom) {
	m := &ev.Failed
	refused := func(reason string) {
		l.note("the word of %s that it cannot sum slab %d of fragment %d, attempt %s, is refused: %s", ev.Peer.Short(), m.Slab, m.Fragment, m.Attempt, reason)
	}
	r, reason := l.current(m.Fragment, m.Attempt, Summing)
	if r == nil {
		refused(reason)
		return
	}
	a := r.attempt
	rank := a.rank(ev.Peer)
	if rank < 0 || m.Slab >= uint64(len(a.rows)) || a.rows[m.Slab].owner != rank || a.rows[m.Slab].done != nil || m.Missing&^allRanks(len(a.members)) != 0 {
		refused("it is another's to sum")
		return
	}
	if m.Missing != 0 {
		l.mute(r, a.members[rank].Ready.Ready.Slot, 1, "too few reached it")
		l.fail(r, fmt.Sprintf("slab %d has too few of its members, without %s: %s", m.Slab, a.slots(m.Missing), m.Reason), m.Missing)
		return
	}
	l.reassign(r, rank, []int{int(m.Slab)}, "the owner could not sum: "+m.Reason)
}

// slots names members by their slots, for people.
func (a *attempt) slots(ranks uint64) string {
	var names []string
	for rank := range a.members {
		if ranks>>uint(rank)&1 == 1 {
			names = append(names, fmt.Sprintf("slot %d", a.members[rank].Ready.Ready.Slot))
		}
	}
	return strings.Join(names, ", ")
}

// watchOwners moves slabs away from owners that are gone, or make no progress
// where another could, and gives the attempt up when nobody does.
func (l *Leader) watchOwners(r *leaderRound) {
	a := r.attempt
	if !l.now.Before(a.progress.Add(l.limit())) {
		l.fail(r, fmt.Sprintf("no slab was summed for %s, %d are left", l.limit(), a.left()), 0)
		return
	}
	owing := a.owing()
	for rank := range a.members {
		switch {
		case !l.reachable(a, rank):
			l.reassign(r, rank, l.lost(a, rank, true), ownerGone)
		case owing>>uint(rank)&1 == 0:
		case !l.now.Before(a.worked[rank].Add(l.patience())) && l.successor(a, rank, rank) >= 0:
			reason := fmt.Sprintf("the owner made no progress for %s", l.patience())
			l.mute(r, a.members[rank].Ready.Ready.Slot, mutePause, reason)
			l.reassign(r, rank, l.lost(a, rank, false), reason)
		}
		if r.phase != Summing {
			return
		}
	}
}

// ownerGone is the reason of a Reassign whose slabs' owner cannot be reached.
const ownerGone = "the owner is gone"

// patience is how long an owner may be silent: a member that stalls costs it
// two stalls before it sums without.
func (l *Leader) patience() time.Duration { return 2*millis(l.cfg.Deadlines.Stall) + time.Second }

// lost returns the slabs of an owner that have no result, and, when it is
// gone, those whose result nobody else has.
func (l *Leader) lost(a *attempt, rank int, gone bool) []int {
	var out []int
	for i := range a.rows {
		row := &a.rows[i]
		if row.owner == rank && (row.done == nil || (gone && !a.seedHas[row.done.Hash])) {
			out = append(out, i)
		}
	}
	return out
}

// reassign gives slabs of one owner to their standbys, or the next members in
// rank order that can be reached.
func (l *Leader) reassign(r *leaderRound, from int, slabs []int, reason string) {
	a := r.attempt
	moved := make(map[int][]uint64)
	for _, i := range slabs {
		row := &a.rows[i]
		to := l.successor(a, row.standby, from)
		if to < 0 || row.moves >= 2*len(a.members) {
			l.fail(r, fmt.Sprintf("nobody is left to sum slab %d: %s", i, reason), 0)
			return
		}
		row.done, row.owner, row.standby = nil, to, (to+1)%len(a.members)
		row.moves++
		a.worked[to] = l.now
		moved[to] = append(moved[to], uint64(i))
	}
	for to := range a.members {
		if len(moved[to]) > 0 {
			l.emit(Send{To: l.peers(), Message: &wire.Reassign{
				Fragment: uint64(r.fragment), Attempt: a.id, Slabs: moved[to], Owner: uint64(to), Reason: cut(reason),
			}})
		}
	}
}

// successor returns the first reachable rank from start on, but not from; or -1.
func (l *Leader) successor(a *attempt, start, from int) int {
	for i := range a.members {
		if rank := (start + i) % len(a.members); rank != from && l.reachable(a, rank) {
			return rank
		}
	}
	return -1
}

func (l *Leader) ownersDeadline(r *leaderRound) time.Time {
	a := r.attempt
	next, owing := a.progress.Add(l.limit()), a.owing()
	for rank := range a.members {
		if owing>>uint(rank)&1 == 1 && l.successor(a, rank, rank) >= 0 {
			next = earliest(next, a.worked[rank].Add(l.patience()))
		}
	}
	return next
}

// spread announces the result of an attempt to everyone and the seed.
func (l *Leader) spread(r *leaderRound) {
	a := r.attempt
	slabs := make([]wire.SlabResult, len(a.rows))
	for i := range a.rows {
		slabs[i] = *a.rows[i].done
	}
	table := commitTable(a.members, slabs)
	a.results, a.resultsHash, a.root = &table, wire.HashLeaf(wire.Encode(&table)), table.ResultRoot()
	a.summed, a.progress = l.now, l.now
	r.phase = Spreading
	a.told = l.now
	l.announce(r, append(l.peers(), l.cfg.Seed)...)
}

// announce tells peers the results of an attempt.
func (l *Leader) announce(r *leaderRound, to ...wire.PeerID) {
	a := r.attempt
	l.emit(Send{To: to, Message: &wire.Results{Fragment: uint64(r.fragment), Attempt: a.id, Base: r.head.Version, Table: *a.results}})
}

// have takes in a holder's word. It counts once that result is the announced
// one, which may be after an owner's slabs were summed anew.
func (l *Leader) have(ev HaveFrom) {
	h := &ev.Have
	r, reason := l.current(h.Fragment, h.Attempt, Summing, Spreading, Committing)
	switch {
	case r == nil:
	case h.Base != r.head.Version || r.attempt.summed.IsZero():
		reason = "nothing is announced"
	case h.State.IsZero():
		reason = "no state"
	case ev.Peer != l.cfg.Seed && !slices.ContainsFunc(l.workers, func(w Worker) bool { return w.Peer == ev.Peer }):
		reason = "not a member"
	default:
		if _, known := r.attempt.haves[ev.Peer]; !known {
			r.attempt.progress = l.now
		}
		r.attempt.haves[ev.Peer] = holding{h.Result, h.State}
		return
	}
	if r != nil || !l.settled(h) {
		l.note("the word of %s that it holds %s, attempt %s, is refused: %s", ev.Peer.Short(), about(h.Fragment, h.Base), h.Attempt, reason)
	}
}

// settled reports whether a Have is about a version that is committed: the
// last holders' word is late as a rule.
func (l *Leader) settled(h *wire.Have) bool {
	return h.Fragment < uint64(len(l.rounds)) && h.Base < l.rounds[h.Fragment].head.Version
}

// seedHas hears that the local seed holds a frame, so it cannot be lost. Of a large result frames come for longer than an attempt may
// stand still.
func (l *Leader) seedHas(frame wire.Hash) {
	for _, r := range l.rounds {
		if r.phase != Spreading {
			continue
		}
		for i := range r.attempt.results.Slabs {
			if r.attempt.results.Slabs[i].Hash == frame {
				r.attempt.seedHas[frame], r.attempt.progress = true, l.now
			}
		}
	}
}

// has reports whether a peer said that it holds the announced result.
func (a *attempt) has(peer wire.PeerID) bool {
	h, ok := a.haves[peer]
	return ok && h.result == a.root
}

// needed is how many workers must hold a result (R6).
func (a *attempt) needed() int { return min(len(a.members), max(2, (len(a.members)+1)/2)) }

// agreed returns how many workers hold the result with the seed's state, and
// the state; zero when the seed has not spoken. A seed that works counts as both.
func (l *Leader) agreed(a *attempt) (int, wire.Hash) {
	seed := a.haves[l.cfg.Seed]
	if !a.has(l.cfg.Seed) {
		return 0, wire.Hash{}
	}
	n := 0
	for _, w := range l.workers {
		if a.haves[w.Peer] == seed {
			n++
		}
	}
	return n, seed.state
}

// watchHolders proposes the commit when enough hold one state, and looks after
// results whose owner is gone before anyone else has them.
func (l *Leader) watchHolders(r *leaderRound) {
	a := r.attempt
	n, state := l.agreed(a)
	if n >= a.needed() {
		l.proposeCommit(r, state)
		return
	}
	stranded := l.stranded(r)
	if a.stranded && !stranded {
		a.stranded, a.progress = false, l.now
	}
	if !l.now.Before(l.holdersDeadline(r)) {
		if stranded {
			l.strand(r)
			return
		}
		l.shun(r)
		l.fail(r, fmt.Sprintf("the result did not spread: %s", l.holders(a)), 0)
		return
	}
	if !a.has(l.cfg.Seed) && !l.now.Before(l.tellAgain(a)) {
		a.told = l.now
		l.announce(r, l.cfg.Seed)
	}
	if l.held(a) {
		return
	}
	for rank := range a.members {
		if l.reachable(a, rank) {
			continue
		}
		if lost := l.lost(a, rank, true); len(lost) > 0 {
			a.results, a.progress, r.phase = nil, l.now, Summing
			l.reassign(r, rank, lost, "the owner is gone and nobody else has its results")
		}
		if r.phase == Collecting {
			return
		}
	}
}

// tellAgain is when the seed, without which nothing commits, hears of the results
// again: it may still have been on its way to the head when they were announced.
func (l *Leader) tellAgain(a *attempt) time.Time { return a.told.Add(millis(l.cfg.Deadlines.Stall)) }

// An owner who cannot sum, or whose sums are of no use, owns nothing for some versions of the fragment, each time for twice as many, up to
// some number of doublings: for the round's next attempt at first where the fault may be another's.
const (
	mutePause = 16
	muteMost  = 8
)

// shun has owners who are here, but whose sums came to nobody else, own nothing for some rounds: behind a router, or by intent, they
// announce what they do not give.
func (l *Leader) shun(r *leaderRound) {
	a := r.attempt
	for rank, m := range a.members {
		given := func(w Worker) bool { return a.has(w.Peer) && w.Peer != m.Peer }
		if a.has(l.cfg.Seed) || slices.ContainsFunc(l.workers, given) || !l.reachable(a, rank) || len(l.lost(a, rank, true)) == 0 {
			continue
		}
		l.mute(r, m.Ready.Ready.Slot, mutePause, "nobody could have what it summed")
	}
}

// mute has a slot own nothing for some versions, at least so many.
func (l *Leader) mute(r *leaderRound, slot wire.Slot, least uint64, reason string) {
	s := l.record(slot)
	pause := least << min(s.mutes, muteMost)
	s.mute[r.fragment] = max(s.mute[r.fragment], r.head.Version+pause)
	s.mutes++
	l.note("%s: slot %d owns nothing for %d versions: %s", r, slot, pause, reason)
}

// seedRefused gives an attempt up whose result nobody can apply, and has the owner who made it so own nothing.
func (l *Leader) seedRefused(ev SeedRefused) {
	r, _ := l.current(ev.Fragment, ev.Attempt, Spreading)
	if r == nil || r.attempt.root != ev.Result || ev.Slab >= uint64(len(r.attempt.rows)) {
		return // it was summed anew meanwhile
	}
	m := &r.attempt.members[r.attempt.rows[ev.Slab].owner]
	l.mute(r, m.Ready.Ready.Slot, mutePause, ev.Reason)
	l.fail(r, fmt.Sprintf("what slot %d summed is no result: %s", m.Ready.Ready.Slot, ev.Reason), 0)
}

// held reports whether someone who can be reached has the whole result.
func (l *Leader) held(a *attempt) bool {
	return a.has(l.cfg.Seed) || slices.ContainsFunc(l.workers, func(w Worker) bool { return w.Connected && a.has(w.Peer) })
}

// stranded reports whether an attempt that too few can hold now waits for those who are away, since no other could be opened: whoever comes
// back says what it holds, which may be all that was missing. It ends when they have left the run.
func (l *Leader) stranded(r *leaderRound) bool {
	needed := r.attempt.needed()
	return l.able(r) < needed && len(l.stage(r.fragment)) >= needed && len(l.candidates(r)) < l.quorum(r)
}

// able counts the workers that hold the result or can be reached.
func (l *Leader) able(r *leaderRound) (n int) {
	for _, w := range l.stage(r.fragment) {
		if w.Connected || r.attempt.has(w.Peer) {
			n++
		}
	}
	return n
}

// strand has an attempt wait for its holders.
func (l *Leader) strand(r *leaderRound) {
	if a := r.attempt; !a.stranded {
		a.stranded = true
		l.note("%s: attempt %s waits for workers to come back: %s", r, a.id, l.holders(a))
	}
}

// holdersDeadline is the attempt's, or sooner when too few are left to hold.
func (l *Leader) holdersDeadline(r *leaderRound) time.Time {
	switch needed := r.attempt.needed(); {
	case len(l.stage(r.fragment)) < needed: // who left does not come back
		return r.attempt.progress
	case l.able(r) < needed:
		return r.attempt.progress.Add(min(l.limit(), millis(l.cfg.Deadlines.Stall)))
	}
	return r.attempt.progress.Add(l.limit())
}

// holders says in words who holds what.
func (l *Leader) holders(a *attempt) string {
	n, state := l.agreed(a)
	others := -n
	for _, w := range l.workers {
		if a.has(w.Peer) {
			others++
		}
	}
	if state.IsZero() {
		return fmt.Sprintf("the coordinator does not hold the result, %d others do, %d are needed", others, a.needed())
	}
	return fmt.Sprintf("%d of %d needed hold the result in the coordinator's state, %d in another", n, a.needed(), others)
}

// proposeCommit asks for the entry that decides the round.
func (l *Leader) proposeCommit(r *leaderRound, state wire.Hash) {
	a := r.attempt
	peers := make([]wire.PeerID, 0, len(a.haves))
	for p, has := range a.haves {
		if has.result == a.root && has.state != state {
			peers = append(peers, p)
		}
	}
	slices.SortFunc(peers, func(x, y wire.PeerID) int { return cmp.Compare(string(x[:]), string(y[:])) })
	for _, p := range peers {
		l.note("%s: %s has state %s, the others %s: it must repair itself", r, p.Short(), a.haves[p].state.Short(), state.Short())
	}
	var weight uint64
	for _, c := range a.results.Contributors {
		weight += c.Weight
	}
	a.progress = l.now
	if a.held.IsZero() {
		a.held = l.now
	}
	r.phase = Committing
	l.emit(ProposeCommit{
		Commit: wire.Commit{
			Fragment: uint64(r.fragment), Base: r.head.Version, BaseState: r.head.State, Attempt: a.id, Settings: l.inForce,
			Table: a.resultsHash, Result: a.root, Weight: weight, State: state,
		},
		Table: wire.Encode(a.results),
	})
}

// cut keeps a reason within what a message may carry.
func cut(reason string) string {
	if len(reason) > wire.MaxReason {
		return reason[:wire.MaxReason]
	}
	return reason
}
