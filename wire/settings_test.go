package wire

import (
	"strings"
	"testing"
)

func TestTuningsGovernFromTheirVersions(t *testing.T) {
	log := NewTunings(24, FloatOf(0.7))
	log.Take(&Settings{Phase: PhasePaused}) // says nothing of it
	log.Take(&Settings{Phase: PhaseTraining, Tuning: &Tuning{H: 50, OuterLR: FloatOf(0.4), From: []uint64{5, 9}}})
	log.Take(&Settings{Phase: PhasePaused, Tuning: &Tuning{H: 50, OuterLR: FloatOf(0.4), From: []uint64{5, 9}}}) // the same again
	log.Take(&Settings{Phase: PhaseTraining, Tuning: &Tuning{H: 10, OuterLR: FloatOf(0.4), From: []uint64{8, 9}}})
	for _, c := range []struct {
		fragment int
		version  uint64
		h        uint64
		lr       float32
	}{
		{0, 0, 24, 0.7},
		{0, 4, 24, 0.7},
		{0, 5, 50, 0.4},
		{0, 7, 50, 0.4},
		{0, 8, 10, 0.4},
		{0, 99, 10, 0.4},
		{1, 8, 24, 0.7},
		{1, 9, 10, 0.4},  // what came later holds
		{2, 99, 24, 0.7}, // a fragment that nobody tuned
	} {
		if h, lr := log.At(c.fragment, c.version); h != c.h || lr.Value() != c.lr {
			t.Errorf("fragment %d, version %d: %d and %v, want %d and %v", c.fragment, c.version, h, lr.Value(), c.h, c.lr)
		}
	}
	if len(log.changes) != 2 {
		t.Errorf("%d changes kept, want 2", len(log.changes))
	}
	if h, _ := log.Newest(); h != 10 {
		t.Errorf("newest H %d", h)
	}
}

// Settings without what is new have the bytes that they had before it.
func TestPlainSettingsKeepTheirBytes(t *testing.T) {
	plain := Settings{Phase: PhasePaused, Reason: "a break"}
	if got := Encode(&plain); len(got) != 1+2+1+1+len("a break")+2 {
		t.Errorf("%d bytes: %x", len(got), got)
	}
	full := Settings{
		Phase: PhaseTraining, Tuning: &Tuning{H: 50, OuterLR: FloatOf(0.4), From: []uint64{5, 9}},
		Deadlines: new(DeadlineSpec), Workers: 7, Access: &Access{Secrets: []Hash{{1}}},
	}
	var again Settings
	if err := Decode(Encode(&full), &again); err != nil || !again.Equal(&full) || again.Equal(&plain) {
		t.Errorf("%+v, %v", again, err)
	}
	if err := Decode([]byte{0xa4, 1, 1, 2, 0x60, 3, 0xf4, 4, 0xf6}, &again); err == nil {
		t.Error("a tuning of null is taken")
	}
}

func TestSettingsNameTheirFaults(t *testing.T) {
	s := Settings{
		Reason: strings.Repeat("x", MaxReason+1), Tuning: &Tuning{H: MaxH + 1, From: make([]uint64, MaxFragments+1)},
		Deadlines: new(DeadlineSpec), Workers: MaxWorkers + 1, Access: &Access{Secrets: make([]Hash, MaxSecrets+1)},
	}
	err := s.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"phase(0)", "reason", "h 501", "outer lr 0", "65 fragments", "deadline stall", "10001 workers", "33 join secrets"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestAccessTakesThePlaceOfTheSpecsSecret(t *testing.T) {
	old, fresh := []byte("the old secret"), []byte("the fresh one")
	private, public := &RunSpec{Secret: HashLeaf(old)}, &RunSpec{}
	renewed := &Settings{Access: &Access{Secrets: []Hash{HashLeaf(fresh)}}}
	open := &Settings{Access: &Access{}}
	for _, c := range []struct {
		name   string
		spec   *RunSpec
		in     *Settings
		secret []byte
		want   bool
	}{
		{"no settings, right", private, nil, old, true},
		{"no settings, wrong", private, &Settings{}, fresh, false},
		{"public", public, nil, nil, true},
		{"renewed, old", private, renewed, old, false},
		{"renewed, fresh", private, renewed, fresh, true},
		{"made private", public, renewed, nil, false},
		{"opened", private, open, nil, true},
	} {
		if got := c.in.Admits(c.spec, c.secret); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
