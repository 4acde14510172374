package round

import (
	"strings"
	"testing"

	"dunlin/wire"
)

func TestQuorum(t *testing.T) {
	members := func(weights ...uint64) []wire.AttemptMember {
		out := make([]wire.AttemptMember, len(weights))
		for i, w := range weights {
			out[i].Weight = w
		}
		return out
	}
	for _, c := range []struct {
		weights []uint64
		set     uint64
		want    bool
	}{
		{[]uint64{5}, 0b1, true},
		{[]uint64{5}, 0, false},
		{[]uint64{5, 5}, 0b01, false},
		{[]uint64{5, 5}, 0b11, true},
		{[]uint64{9, 1, 1}, 0b110, false},
		{[]uint64{9, 1, 1}, 0b011, true},
		{[]uint64{1, 1, 1, 1}, 0b0011, true},
		{[]uint64{1, 1, 1, 1, 1}, 0b00011, false},
	} {
		if got := quorum(members(c.weights...), c.set); got != c.want {
			t.Errorf("%b of %d: %t, want %t", c.set, c.weights, got, c.want)
		}
	}
}

func TestSpecNamesEveryFault(t *testing.T) {
	err := Spec{Slabs: []int{0}}.Validate()
	if err == nil {
		t.Fatal("an empty spec passed")
	}
	for _, want := range []string{"h 0", "fragment 0", "0 tokens a step", "deadlines"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
	if _, err := NewMember(Spec{}); err == nil {
		t.Error("a member of nothing")
	}
	if _, err := NewOwner(Spec{}, wire.PeerID{1}); err == nil {
		t.Error("an owner of nothing")
	}
	good := Spec{H: 1, Slabs: []int{1}, StepTokens: 1, Context: 1, Deadlines: wire.DefaultDeadlines()}
	for _, cfg := range []LeaderConfig{
		{Spec: good, Seed: wire.PeerID{1}},
		{Spec: good, Heads: make([]wire.FragmentHead, 1)},
		{Spec: good, Heads: make([]wire.FragmentHead, 1), Seed: wire.PeerID{1}, History: NewHistory(2)},
	} {
		if _, err := NewLeader(cfg); err == nil {
			t.Errorf("a leader of %+v", cfg)
		}
	}
}
