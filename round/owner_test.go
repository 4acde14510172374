package round

import (
	"testing"
	"time"

	"dunlin/wire"
)

// Two members may have the same contribution, by chance or by copying: what
// one does not deliver is asked of the other.
func TestOwnerAsksAnotherMemberForTheSameBytes(t *testing.T) {
	spec := Spec{H: 1, Slabs: []int{1}, StepTokens: 1, Context: 1, Deadlines: wire.DefaultDeadlines()}
	members := []candidate{someone(1, 10, 1, 0), someone(2, 10, 1, 0), someone(3, 10, 1, 0)}
	root := members[1].ready.Ready.Root
	members[2].ready.Ready.Root = root
	encoded := wire.Encode(attemptTable(members, shares(members, 1, 0), 0))
	table := attemptTable(members, shares(members, 1, 0), 0)
	self, second, third := members[0].worker.Peer, members[1].worker.Peer, members[2].worker.Peer
	if table.Owners[0].Owner != 2 {
		t.Fatalf("rank %d owns the slab", table.Owners[0].Owner)
	}
	owner, err := NewOwner(spec, self)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	step := func(ev Event) []Effect { return owner.Step(now, ev) }
	id := wire.AttemptID{Term: 1, Counter: 1}
	step(Logged{Body: &wire.Attempt{ID: id, Table: wire.HashLeaf(encoded)}, Table: encoded})
	expect := func(effects []Effect, peer wire.PeerID) {
		t.Helper()
		for _, e := range effects {
			if f, ok := e.(FetchSlab); ok && f.Peer == peer && f.Root == root {
				return
			}
		}
		t.Fatalf("%s is not asked: %v", peer.Short(), effects)
	}
	expect(step(Reassigned{wire.Reassign{Attempt: id, Slabs: []uint64{0}, Owner: 0}}), second)
	step(PeerDown{second})
	expect(step(FetchFailed{Peer: second, Root: root, Reason: "gone"}), third)
	for _, e := range step(SlabFetched{Peer: third, Root: root}) {
		if s, ok := e.(SumSlab); ok && s.Ranks == 0b111 {
			return
		}
	}
	t.Fatal("the slab is not summed over all that have it")
}

// TestOwnerForgetsStrangers: peers that came and went do not fill an owner's memory.
func TestOwnerForgetsStrangers(t *testing.T) {
	owner, err := NewOwner(Spec{H: 1, Slabs: []int{1}, StepTokens: 1, Context: 1, Deadlines: wire.DefaultDeadlines()}, wire.PeerID{1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxDown {
		owner.Step(time.Unix(0, 0), PeerDown{Peer: wire.PeerID{2, byte(i), byte(i >> 8)}})
	}
	if len(owner.down) > maxDown {
		t.Errorf("%d peers are remembered to be gone", len(owner.down))
	}
}

// TestOwnerSumsWithoutACopyOfAnotherFragment: a member that names one contribution for two fragments is in one sum; the other one waits
// neither for it nor for the first one's end.
func TestOwnerSumsWithoutACopyOfAnotherFragment(t *testing.T) {
	spec := Spec{H: 1, Slabs: []int{1, 1}, StepTokens: 1, Context: 1, Deadlines: wire.DefaultDeadlines()}
	self := wire.PeerID{1}
	owner, err := NewOwner(spec, self)
	if err != nil {
		t.Fatal(err)
	}
	var out []Effect
	step := func(ev Event) { out = append(out, owner.Step(time.Unix(0, 0), ev)...) }
	summed := func() (ranks [2]uint64) {
		for _, e := range out {
			if s, ok := e.(SumSlab); ok {
				ranks[s.Fragment] = s.Ranks
			}
		}
		return ranks
	}
	copied := someone(3, 10, 1, 0).ready.Ready.Root
	for f := range uint64(2) {
		members := []candidate{someone(1, 10, 1, 0), someone(2, 10, 1, 0), someone(3, 10, 1, 0)}
		members[1].ready.Ready.Root[2] = byte(f)
		table := attemptTable(members, shares(members, 1, 0), 0)
		table.Owners = []wire.Share{{From: 0, To: 1, Owner: 0, Standby: 1}}
		encoded := wire.Encode(table)
		step(Logged{Body: &wire.Attempt{Fragment: f, ID: wire.AttemptID{Term: 1, Counter: f + 1}, Table: wire.HashLeaf(encoded)}, Table: encoded})
		root := members[1].ready.Ready.Root
		step(SlabFetched{Peer: members[1].worker.Peer, Root: root})
	}
	if got := summed(); got != [2]uint64{0, 0b011} {
		t.Errorf("before the copied slab comes, ranks %b are summed", got)
	}
	step(SlabFetched{Peer: wire.PeerID{3}, Root: copied})
	if got := summed(); got != [2]uint64{0b111, 0b011} {
		t.Errorf("in the end ranks %b are summed", got)
	}
}
