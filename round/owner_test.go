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
