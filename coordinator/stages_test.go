package coordinator

import (
	"slices"
	"testing"
	"time"

	"dunlin/wire"
)

func stagedSpec() *wire.RunSpec {
	s := testSpec()
	s.Fragments, s.Stages = 3, []uint64{0, 1, 2}
	return s
}

// offered asks for a stage and returns the answer.
func offered(t *testing.T, m *Machine, now time.Time, peer byte) int {
	t.Helper()
	for _, e := range m.Step(now, StageAsked{Peer: wire.PeerID{peer}}) {
		if o, ok := e.(Offer); ok && o.Peer == (wire.PeerID{peer}) {
			return o.Stage
		}
	}
	t.Fatal("no offer")
	return 0
}

// TestStagesAreOfferedInTurn has peers ask at once, go away, and move.
func TestStagesAreOfferedInTurn(t *testing.T) {
	m, err := New(Config{Spec: stagedSpec(), Run: hashOf("run"), Self: wire.PeerID{1}, State: make([]wire.FragmentHead, 3), Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	var got []int
	for peer := range byte(6) {
		got = append(got, offered(t, m, now, 10+peer))
	}
	if want := []int{0, 1, 2, 0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("six who ask at once are offered %v, want %v", got, want)
	}
	if again := offered(t, m, now, 11); again != 1 {
		t.Errorf("one that asks again is offered stage %d, it was 1", again)
	}
	m.Step(now, Placed{Peer: wire.PeerID{11}, Stage: 2})
	if moved := offered(t, m, now, 11); moved != 2 {
		t.Errorf("one that moves to stage 2 is offered %d", moved)
	}
	now = now.Add(moveWindow)
	for peer := range byte(3) { // nobody came: offers count no more
		if got := offered(t, m, now, 20+peer); got != int(peer) {
			t.Errorf("peer %d is offered stage %d after the others' offers are old", peer, got)
		}
	}
	// Slots that are logged count as well.
	for i := range byte(3) {
		m.Step(now, Connected{Peer: wire.PeerID{30 + i}})
		m.Step(now, Logged{Height: uint64(i) + 1, Term: 1, Body: &wire.Member{Op: wire.MemberAdmit, Slot: wire.Slot(i + 1), Peer: wire.PeerID{30 + i}, Stage: 9 * uint64(i/2)}})
	}
	if len(m.members) != 2 {
		t.Errorf("%d slots; a stage that there is not is refused", len(m.members))
	}
}

// TestStagesShareLeases: a trainer holds the lease, peers of every stage claim its
// windows, each fragment commits a window once, and a trainer's end takes nothing away.
func TestStagesShareLeases(t *testing.T) {
	l := newLeases(stagedSpec())
	for slot := range wire.Slot(3) {
		l.begin(slot + 1)
	}
	l.leased(&wire.Lease{Slot: 1, Ranges: []wire.Range{span(0, 20)}})
	claim := func(slot wire.Slot, fragment uint64, from, to uint64) error {
		return l.check(slot, fragment, []wire.Range{span(from, to)})
	}
	commit := func(slot wire.Slot, fragment uint64, from, to uint64) {
		l.committed(fragment, &wire.CommitTable{
			Contributors: []wire.Contributor{{Slot: slot, From: 1, To: 2, Windows: []wire.Range{span(from, to)}}}, Slabs: []wire.SlabResult{{Members: 1}},
		})
	}
	if err := claim(2, 1, 0, 10); err != nil {
		t.Errorf("a peer of another stage may not claim a trainer's windows: %v", err)
	}
	if claim(2, 1, 15, 25) == nil {
		t.Error("windows that nobody leased are claimed")
	}
	if claim(9, 1, 0, 10) == nil {
		t.Error("a slot that is not in the run claims windows")
	}
	commit(2, 1, 0, 10)
	if claim(3, 1, 5, 12) == nil {
		t.Error("a fragment commits a window twice, by two peers")
	}
	if err := claim(3, 2, 5, 12); err != nil {
		t.Errorf("another stage's fragment cannot claim what the first has: %v", err)
	}
	l.end(1)
	if err := claim(3, 2, 5, 20); err != nil {
		t.Errorf("the end of the trainer takes its windows from who trained on them: %v", err)
	}
	if len(l.returned) > 0 {
		t.Errorf("%v would be leased again", l.returned)
	}
	if got := l.free(5); !slices.Equal(got, []wire.Range{span(20, 25)}) {
		t.Errorf("the next lease is %v", got)
	}
	for slot := wire.Slot(10); slot < 10+2*maxOutlived; slot++ {
		l.begin(slot)
		l.leased(&wire.Lease{Slot: slot, Ranges: []wire.Range{span(l.next, l.next+1)}})
		l.end(slot)
	}
	if n := len(l.slots); n > maxOutlived+3 {
		t.Errorf("%d slots are remembered", n)
	}
}

// TestStagesKeepACheckpointThatIsWhole: three peers of one stage that hold a state are not enough to let older ones go.
func TestStagesKeepACheckpointThatIsWhole(t *testing.T) {
	m, err := New(Config{Spec: stagedSpec(), Run: hashOf("run"), Self: wire.PeerID{1}, State: make([]wire.FragmentHead, 3), Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	m.points.open = &wire.Checkpoint{At: 5}
	for slot := range wire.Slot(3) {
		m.members[slot+1] = &member{slot: slot + 1, peer: wire.PeerID{byte(10 + slot)}, beat: wire.Heartbeat{Holds: 5}}
	}
	for _, seed := range []uint64{4, 5} {
		m.points.seed = seed
		m.effects = nil
		m.proposeComplete()
		if said := len(m.effects) > 0; said != (seed == 5) {
			t.Errorf("the seed holds height %d: that the checkpoint is complete is said: %v", seed, said)
		}
	}
}

// TestTrainersOutliveLostWindows has a trainer whose micro-batches are lost in one stage now
// and then, for so long that it may hold no more of them.
func TestTrainersOutliveLostWindows(t *testing.T) {
	l := newLeases(stagedSpec())
	l.begin(1)
	const windows, lost, times = 4096, 1024, 2 * maxUnsettled / 1024
	for i := range times {
		granted, err := l.grant(1, windows)
		if err != nil {
			t.Fatalf("after %d leases: %v", i, err)
		}
		l.leased(&wire.Lease{Slot: 1, Ranges: granted})
		for fragment := range uint64(3) {
			counted := granted[0]
			if fragment == 1 {
				counted.From += lost
			}
			if err := l.check(1, fragment, []wire.Range{counted}); err != nil {
				t.Fatalf("after %d leases: %v", i, err)
			}
			l.committed(fragment, &wire.CommitTable{
				Contributors: []wire.Contributor{{Slot: 1, To: 1, Windows: []wire.Range{counted}}}, Slabs: []wire.SlabResult{{Members: 1}},
			})
		}
	}
	if n := l.slots[1].windows.count(); n > maxAwaited {
		t.Errorf("%d windows are awaited", n)
	}
}
