package round

import (
	"encoding/binary"
	"testing"
	"time"

	"dunlin/wire"
)

// FuzzSteps feeds all three machines arbitrary events, hostile ones among
// them: no panic, bounded effects, never a deadline that has passed already,
// and every effect and event has a transcript line.
func FuzzSteps(f *testing.F) {
	f.Add([]byte("a round"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27})
	f.Add(seedRound())
	f.Fuzz(func(t *testing.T, script []byte) { playScript(t, script) })
}

// seedRound is a script that gets an attempt opened and summed in part.
func seedRound() []byte {
	var b []byte
	for _, op := range []byte{2, 3, 3, 3, 20, 4, 4, 4, 6, 6, 6, 20, 12, 12, 13, 14} {
		b = append(b, op, 1, 2, 3, 0, 0)
	}
	return b
}

func TestStepsOfManyRandomScripts(t *testing.T) {
	const seed = 11
	b := make([]byte, 600)
	state := uint64(seed)
	for range 300 {
		for i := range b {
			state = state*6364136223846793005 + 1442695040888963407
			b[i] = byte(state >> 56)
		}
		playScript(t, b)
	}
}

// reader takes numbers from a script; an exhausted one gives zeros.
type reader struct{ b []byte }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// small returns mostly small numbers, sometimes absurd ones.
func (r *reader) small() uint64 {
	v := r.byte()
	if v < 240 {
		return uint64(v % 5)
	}
	return ^uint64(0) >> (v - 240)
}

type scripted struct {
	leader *Leader
	owner  *Owner
	member *Member
	seen   []Append // for Logged events that the leader knows
}

func playScript(t *testing.T, script []byte) {
	spec := Spec{
		H: 4, Slabs: []int{3, 1}, StepTokens: 64, Context: 32,
		Deadlines: wire.DeadlineSpec{ReadyMin: 100, Stall: 300, Attempt: 1500, Leave: 500, Silence: 4500},
	}
	var s scripted
	var err error
	if s.leader, err = NewLeader(LeaderConfig{Spec: spec, Term: 1, Seed: wire.PeerID{9}, Heads: make([]wire.FragmentHead, 2)}); err != nil {
		t.Fatal(err)
	}
	if s.owner, err = NewOwner(spec, wire.PeerID{1}); err != nil {
		t.Fatal(err)
	}
	if s.member, err = NewMember(spec); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	r := &reader{script[:min(len(script), 4096)]}
	for len(r.b) > 0 {
		now = now.Add(time.Duration(r.byte()) * 10 * time.Millisecond)
		s.step(t, now, s.event(r))
	}
	s.leader.Snapshot()
	s.owner.Snapshot()
	s.member.Snapshot()
	s.member.Undecided()
	s.owner.Busy()
}

// step gives the event to every machine, and a Tick when one is due.
func (s *scripted) step(t *testing.T, now time.Time, ev Event) {
	_ = ev.String()
	for _, m := range []struct {
		name     string
		step     func(time.Time, Event) []Effect
		deadline func() time.Time
	}{{"leader", s.leader.Step, s.leader.Deadline}, {"owner", s.owner.Step, s.owner.Deadline}, {"member", s.member.Step, s.member.Deadline}} {
		effects := m.step(now, ev)
		for range 2 {
			if d := m.deadline(); !d.IsZero() && !d.After(now) {
				t.Fatalf("%s asks for a tick at %s, not after now, after %s", m.name, d, ev)
			}
			if len(effects) > 64 {
				t.Fatalf("%s has %d effects after %s", m.name, len(effects), ev)
			}
			for _, e := range effects {
				_ = e.String()
				switch e := e.(type) {
				case Append:
					s.seen = append(s.seen, e)
				case ProposeCommit:
					c := e.Commit
					s.seen = append(s.seen, Append{Body: &c, Table: e.Table})
				}
			}
			effects = m.step(now, Tick{})
		}
	}
}

func (r *reader) peer() wire.PeerID    { return wire.PeerID{r.byte() % 5} }
func (r *reader) root() wire.Hash      { return wire.Hash{r.byte() % 7} }
func (r *reader) id() wire.AttemptID   { return wire.AttemptID{Term: r.small(), Counter: r.small()} }
func (r *reader) ranges() []wire.Range { return []wire.Range{{From: r.small(), To: r.small()}} }
func (r *reader) versions() []uint64   { return []uint64{r.small(), r.small(), r.small()}[:r.byte()%4] }
func (r *reader) flag() bool           { return r.byte()%2 == 1 }
func (r *reader) result() wire.SlabResult {
	return wire.SlabResult{Slab: r.small(), Owner: r.peer(), Hash: r.root(), Length: r.small(), Weight: r.small(), Members: r.small()}
}

func (r *reader) ready() wire.Ready {
	ready := wire.Ready{
		Slot: wire.Slot(r.small()), Fragment: r.small(), Base: r.small(), Root: r.root(), From: r.small(), To: r.small(), Tokens: r.small(),
		Windows: r.ranges(), Norm: wire.Float(uint32(r.small())), StepTime: r.small(),
	}
	if r.flag() { // one that has a chance
		ready.Fragment, ready.From, ready.Windows, ready.Norm = ready.Fragment%2, 0, []wire.Range{{From: 0, To: 100}}, 0
		ready.To, ready.Tokens = 4, 200
	}
	return ready
}

func (r *reader) body() (wire.Body, []byte) {
	switch r.byte() % 5 {
	case 0:
		return &wire.Member{Op: wire.MemberOp(r.byte() % 4), Slot: wire.Slot(r.small())}, nil
	case 1:
		return &wire.Settings{Phase: wire.Phase(r.byte() % 4), Solo: r.flag()}, nil
	case 2:
		table := wire.AttemptTable{Pace: r.small()}
		slots := r.byte() % 4
		for i := range slots {
			ready := r.ready()
			ready.Slot = wire.Slot(i)
			table.Members = append(table.Members, wire.AttemptMember{
				Peer: wire.PeerID{i}, Ready: wire.SignedReady{Ready: ready}, Weight: r.small(), Clip: wire.FloatOf(1),
			})
		}
		table.Owners = []wire.Share{{From: 0, To: 3, Owner: r.small(), Standby: r.small()}}
		encoded := wire.Encode(&table)
		return &wire.Attempt{Fragment: r.small(), Base: r.small(), ID: r.id(), Table: wire.HashLeaf(encoded)}, encoded
	case 3:
		return &wire.Commit{Fragment: r.small(), Base: r.small(), Attempt: r.id(), Result: r.root(), State: r.root()}, binary.BigEndian.AppendUint64(nil, r.small())
	default:
		return &wire.Lease{Slot: wire.Slot(r.small()), Ranges: r.ranges()}, nil
	}
}

// logged repeats an entry that the leader proposed, or makes one up.
func (s *scripted) logged(r *reader) Event {
	if r.flag() && len(s.seen) > 0 {
		e := s.seen[int(r.byte())%len(s.seen)]
		return Logged{Height: r.small(), Term: 1, Body: e.Body, Table: e.Table}
	}
	body, table := r.body()
	return Logged{Height: r.small(), Term: r.small(), Body: body, Table: table}
}

func (s *scripted) event(r *reader) Event {
	switch op := r.byte() % 26; op {
	case 0:
		return s.logged(r)
	case 1, 2:
		var list []Worker
		for range r.byte() % 6 {
			slot := r.small()
			list = append(list, Worker{Slot: wire.Slot(slot), Peer: wire.PeerID{byte(slot)}, Upload: r.small(), StepTime: r.small(), Active: r.flag(), Connected: r.flag()})
		}
		return Members{list}
	case 3:
		ready := r.ready()
		return ReadyFrom{Peer: wire.PeerID{byte(ready.Slot)}, Ready: wire.SignedReady{Ready: ready}}
	case 4, 5:
		done := wire.SlabDone{Fragment: r.small(), Attempt: r.id(), Slabs: []wire.SlabResult{r.result()}}
		s.aim(r, &done.Fragment, &done.Attempt)
		return SlabDoneFrom{r.peer(), done}
	case 6:
		failed := wire.SlabFailed{Fragment: r.small(), Attempt: r.id(), Slab: r.small(), Missing: r.small()}
		s.aim(r, &failed.Fragment, &failed.Attempt)
		return SlabFailedFrom{r.peer(), failed}
	case 7:
		have := wire.Have{Fragment: r.small(), Base: r.small(), Attempt: r.id(), Result: r.root(), State: r.root()}
		s.aim(r, &have.Fragment, &have.Attempt)
		return HaveFrom{r.peer(), have}
	case 8:
		if r.flag() {
			refused := SeedRefused{Fragment: r.small(), Attempt: r.id(), Result: r.root(), Slab: r.small(), Reason: "r"}
			s.aim(r, &refused.Fragment, &refused.Attempt)
			return refused
		}
		return SeedHas{r.root()}
	case 9:
		failed := AppendFailed{Kind: wire.Kind(r.byte() % 7), Fragment: r.small(), Attempt: r.id(), Reason: "r"}
		s.aim(r, &failed.Fragment, &failed.Attempt)
		return failed
	case 10:
		return Reassigned{wire.Reassign{Fragment: r.small(), Attempt: r.id(), Slabs: []uint64{r.small(), r.small()}, Owner: r.small()}}
	case 11:
		return SlabFetched{r.peer(), r.root(), r.small()}
	case 12:
		return FetchFailed{r.peer(), r.root(), r.small(), "r"}
	case 13:
		return PeerUp{r.peer()}
	case 14:
		return PeerDown{r.peer()}
	case 15:
		return Summed{Fragment: r.small(), Attempt: r.id(), Slab: r.small(), Hash: r.root(), Length: r.small(), Members: r.small()}
	case 16:
		return SumFailed{Fragment: r.small(), Attempt: r.id(), Slab: r.small(), Reason: "r"}
	case 17:
		return Assigned{Slot: wire.Slot(r.small()), Versions: r.versions()}
	case 18, 19:
		return StepDone{Step: s.member.step + r.small(), Tokens: r.small(), Windows: r.ranges(), StepTime: r.small()}
	case 20:
		return Encoded{Fragment: r.small(), Base: r.small(), Step: r.small(), Root: r.root(), Norm: float32(r.small())}
	case 21:
		return EncodeFailed{Fragment: r.small(), Base: r.small(), Reason: "r"}
	case 22:
		return Applied{Fragment: r.small(), Version: r.small(), Table: &wire.CommitTable{
			Contributors: []wire.Contributor{{Slot: wire.Slot(r.small()), Root: r.root(), From: r.small(), To: r.small()}},
			Slabs:        []wire.SlabResult{r.result()},
		}}
	case 23:
		return Merged{Fragment: r.small(), Version: r.small()}
	case 24:
		if r.flag() {
			return Suspended{"r"}
		}
		return Resumed{r.versions()}
	default:
		return Reconnected{}
	}
}

// aim points a message at the attempt that is open, every other time.
func (s *scripted) aim(r *reader, fragment *uint64, id *wire.AttemptID) {
	if *fragment %= 3; *fragment < 2 && r.flag() && s.leader.rounds[*fragment].attempt != nil {
		*id = s.leader.rounds[*fragment].attempt.id
	}
}
