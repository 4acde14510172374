package round

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/wire"
)

func someone(slot wire.Slot, tokens uint64, norm float32, upload uint64) candidate {
	return candidate{
		worker: Worker{Slot: slot, Peer: wire.PeerID{byte(slot), byte(slot >> 8)}, Upload: upload, Active: true, Connected: true},
		ready: wire.SignedReady{Ready: wire.Ready{
			Slot: slot, Root: wire.Hash{byte(slot), 1}, From: 0, To: 10, Tokens: tokens, Norm: wire.FloatOf(norm),
		}},
	}
}

func TestRanksAscendBySlotAndWeightsAreCapped(t *testing.T) {
	members := choose([]candidate{someone(9, 100, 1, 0), someone(2, 100, 1, 0), someone(5, 1000, 10, 0)})
	table := attemptTable(members, shares(members, 7, 1), 60)
	if err := table.Validate(7); err != nil {
		t.Fatal(err)
	}
	var slots []wire.Slot
	var weights []uint64
	for _, m := range table.Members {
		slots = append(slots, m.Ready.Ready.Slot)
		weights = append(weights, m.Weight)
	}
	if !slices.Equal(slots, []wire.Slot{2, 5, 9}) || !slices.Equal(weights, []uint64{100, 200, 100}) {
		t.Fatalf("slots %d, weights %d", slots, weights)
	}
}

func TestOfTooManyTheLeastRecentlyIncludedComeFirst(t *testing.T) {
	var all []candidate
	for slot := wire.Slot(1); slot <= 70; slot++ {
		c := someone(slot, 10, 1, 0)
		if slot <= 10 {
			c.included = 5
		}
		all = append(all, c)
	}
	chosen := choose(all)
	if len(chosen) != wire.MaxMembers {
		t.Fatalf("%d members", len(chosen))
	}
	for _, c := range chosen {
		// 60 were never included; 4 of the others fill up, by slot.
		if c.worker.Slot > 4 && c.worker.Slot <= 10 {
			t.Fatalf("slot %d was drawn before one that waits longer", c.worker.Slot)
		}
	}
	if !slices.IsSortedFunc(chosen, func(a, b candidate) int { return int(a.worker.Slot) - int(b.worker.Slot) }) {
		t.Fatal("ranks do not ascend by slot")
	}
	if err := attemptTable(chosen, shares(chosen, 3, 8), 0).Validate(3); err != nil {
		t.Fatal(err)
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		name  string
		norms []float32
		want  []float32
	}{
		{"three members are not clipped", []float32{1, 1, 100}, []float32{1, 1, 1}},
		{"from four the outlier is", []float32{1, 1, 1, 30}, []float32{1, 1, 1, 0.1}},
		{"three times the median passes", []float32{1, 1, 1, 3}, []float32{1, 1, 1, 1}},
		{"a median of zero compares nothing", []float32{0, 0, 0, 3}, []float32{1, 1, 1, 1}},
		{"a factor stays positive", []float32{1e-38, 1e-38, 1e-38, 3e38}, []float32{1, 1, 1, minClip}},
	} {
		var members []candidate
		for i, n := range c.norms {
			members = append(members, someone(wire.Slot(i+1), 10, n, 0))
		}
		table := attemptTable(members, shares(members, 1, 1), 0)
		if err := table.Validate(1); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for i, m := range table.Members {
			if got := m.Clip.Value(); got < 0.999*c.want[i] || got > 1.001*c.want[i] {
				t.Errorf("%s: member %d has %v, want %v", c.name, i, got, c.want[i])
			}
		}
	}
}

func TestSharesCoverAndFollowUpload(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		n, slabs := 1+rng.IntN(64), 1+rng.IntN(200)
		members := make([]candidate, n)
		for i := range members {
			members[i] = someone(wire.Slot(i+1), 10, 1, rng.Uint64N(3)*rng.Uint64N(1<<50))
		}
		if err := attemptTable(members, shares(members, slabs, rng.Uint64()), 0).Validate(slabs); err != nil {
			t.Fatalf("seed %d: %d members, %d slabs: %v", seed, n, slabs, err)
		}
	}
	owned := make(map[uint64]uint64)
	for _, s := range shares([]candidate{someone(1, 1, 1, 100), someone(2, 1, 1, 300), someone(3, 1, 1, 0)}, 70, 0) {
		owned[s.Owner] += s.To - s.From
		if s.Standby != (s.Owner+1)%3 {
			t.Fatalf("share %+v: standby is not the next rank", s)
		}
	}
	if owned[0] != 10 || owned[1] != 30 || owned[2] != 30 {
		t.Fatalf("slabs by rank: %v", owned)
	}
}

// Slabs stay with the owner that has their error feedback; a member that comes gets its
// part, one that goes leaves its slabs to the others (R10).
func TestLastingShares(t *testing.T) {
	last := make([]wire.PeerID, 12)
	assign := func(members ...candidate) (owned map[wire.Slot]int, moved int) {
		owned = make(map[wire.Slot]int)
		out := lastingShares(members, last, 0)
		if err := attemptTable(members, out, 0).Validate(len(last)); err != nil {
			t.Fatal(err)
		}
		for _, s := range out {
			for i := s.From; i < s.To; i++ {
				m := members[s.Owner].worker
				if last[i] != m.Peer {
					moved++
				}
				last[i] = m.Peer
				owned[m.Slot]++
			}
		}
		return owned, moved
	}
	a, b, c := someone(1, 1, 1, 0), someone(2, 1, 1, 0), someone(3, 1, 1, 0)
	for i, step := range []struct {
		members []candidate
		owned   map[wire.Slot]int
		moved   int
	}{
		{[]candidate{a, b}, map[wire.Slot]int{1: 6, 2: 6}, 12},
		{[]candidate{a, b}, map[wire.Slot]int{1: 6, 2: 6}, 0},
		{[]candidate{a, b, c}, map[wire.Slot]int{1: 4, 2: 4, 3: 4}, 4},
		{[]candidate{b, c}, map[wire.Slot]int{2: 6, 3: 6}, 4},
		{[]candidate{b, someone(3, 1, 1, 100), someone(4, 1, 1, 200)}, map[wire.Slot]int{2: 5, 3: 3, 4: 4}, 4},
	} {
		if owned, moved := assign(step.members...); !maps.Equal(owned, step.owned) || moved != step.moved {
			t.Errorf("step %d: slabs by slot %v, %d moved; want %v, %d", i, owned, moved, step.owned, step.moved)
		}
	}
	if one := lastingShares([]candidate{a, b, c}, make([]wire.PeerID, 1), 4); one[0].Owner != 1 {
		t.Errorf("the only slab of the fifth slab's fragment goes to rank %d", one[0].Owner)
	}
}

// A sum must begin with the error feedback that its owner was left with, or with none.
func TestSumFollowsTheOwnersFeedback(t *testing.T) {
	h := NewHistory(2)
	first, other := wire.Hash{1}, wire.Hash{2}
	owner, stranger := wire.PeerID{1}, wire.PeerID{2}
	row := func(by wire.PeerID, before wire.Hash) *wire.SlabResult {
		return &wire.SlabResult{Slab: 0, Owner: by, Before: before, After: other}
	}
	if h.follows(0, row(owner, first)) || !h.follows(0, row(owner, wire.Hash{})) {
		t.Error("before any commit only empty error feedback is right")
	}
	h.Committed(&wire.Commit{}, &wire.CommitTable{Slabs: []wire.SlabResult{{Owner: owner, After: first}}})
	for name, c := range map[string]struct {
		fragment int
		row      *wire.SlabResult
		want     bool
	}{
		"what the commit left": {0, row(owner, first), true},
		"nothing":              {0, row(owner, wire.Hash{}), true},
		"something else":       {0, row(owner, other), false},
		"another owner's":      {0, row(stranger, first), false},
		"of another fragment":  {1, row(owner, first), false},
	} {
		if h.follows(c.fragment, c.row) != c.want {
			t.Errorf("%s: follows is %t", name, !c.want)
		}
	}
	if h.Untold(0); h.follows(0, row(owner, first)) {
		t.Error("a commit whose table is not known leaves nothing to go on from")
	}
}

func TestRotationSharesASingleSlab(t *testing.T) {
	members := []candidate{someone(1, 1, 1, 0), someone(2, 1, 1, 0), someone(3, 1, 1, 0)}
	owners := make(map[uint64]int)
	for turn := range uint64(9) {
		owners[shares(members, 1, turn)[0].Owner]++
	}
	if owners[0] != 3 || owners[1] != 3 || owners[2] != 3 {
		t.Fatalf("the slab went to %v", owners)
	}
}

func TestCommitTableLeavesOutWhoIsInNoSlab(t *testing.T) {
	ready := []candidate{someone(1, 10, 1, 0), someone(2, 10, 1, 0), someone(3, 20, 1, 0)}
	members := attemptTable(ready, shares(ready, 2, 0), 0).Members
	h := wire.Hash{1}
	table := commitTable(members, []wire.SlabResult{
		{Slab: 0, Hash: h, Length: 1, Weight: 30, Members: 0b101},
		{Slab: 1, Hash: h, Length: 1, Weight: 20, Members: 0b100},
	})
	if err := table.Validate(2); err != nil {
		t.Fatal(err)
	}
	if len(table.Contributors) != 2 || table.Rank(2) != -1 || table.Rank(3) != 1 {
		t.Fatalf("contributors %+v", table.Contributors)
	}
	if table.Slabs[0].Members != 0b11 || table.Slabs[1].Members != 0b10 {
		t.Fatalf("bits %b %b", table.Slabs[0].Members, table.Slabs[1].Members)
	}
}

func TestPaceIsTheFastTenth(t *testing.T) {
	var workers []Worker
	for i := range 20 {
		workers = append(workers, Worker{Active: true, StepTime: uint64(100 + i)})
	}
	workers = append(workers, Worker{Active: false, StepTime: 1}, Worker{Active: true})
	if got := paceOf(workers); got != 101 {
		t.Fatalf("pace %d, want the second fastest of 20", got)
	}
	liar := []Worker{{Active: true, StepTime: 1}, {Active: true, StepTime: 1600}, {Active: true, StepTime: 1600}, {Active: true, StepTime: 3200}}
	if got := paceOf(liar); got != 100 {
		t.Fatalf("pace %d where one of four says that a step takes a microsecond, want a 16th of the median", got)
	}
	if paceOf(nil) != 0 {
		t.Fatal("a pace of nobody")
	}
}
