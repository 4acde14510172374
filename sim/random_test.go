package sim

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"testing"
)

// seeds returns how many seeds to play and from which one on: SIM_SEEDS and
// SIM_FROM say otherwise than the tests' own numbers.
func seeds(t *testing.T, n uint64) (from, to uint64) {
	t.Helper()
	read := func(name string, otherwise uint64) uint64 {
		s := os.Getenv(name)
		if s == "" {
			return otherwise
		}
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return v
	}
	from = read("SIM_FROM", 0)
	return from, from + read("SIM_SEEDS", n)
}

// play runs a scenario and says how to run it again when it fails.
func play(sc Scenario) error {
	w, err := New(sc)
	if err != nil {
		return err
	}
	return w.Run()
}

// TestRandom plays schedules of faults drawn from seeds; every promise must
// hold at every moment, and everybody must get on once the faults are over.
func TestRandom(t *testing.T) {
	from, to := seeds(t, 120)
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range 2 {
		wg.Go(func() {
			for seed := range next {
				if err := play(Random(seed)); err != nil {
					t.Errorf("seed %d: %v\nreplay: SIM_REPLAY=%d go test ./sim -run Replay -v", seed, err, seed)
				}
			}
		})
	}
	for seed := from; seed < to; seed++ {
		next <- seed
	}
	close(next)
	wg.Wait()
}

// TestReplay plays one seed and prints its transcript.
func TestReplay(t *testing.T) {
	s := os.Getenv("SIM_REPLAY")
	if s == "" {
		t.Skip("SIM_REPLAY names no seed")
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	sc := Random(seed)
	sc.Bug, sc.Record = Bug(os.Getenv("SIM_BUG")), true
	w, err := New(sc)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Run()
	t.Logf("%d workers, the coordinator works: %t, %+v, calm at %v, faults %v\n%s", sc.Workers, sc.LeadWork, sc.Setup, sc.Calm, sc.Faults, w.Transcript())
	if err != nil {
		t.Error(err)
	}
}

// TestDeterministic plays seeds twice: the transcripts are equal, byte for byte.
func TestDeterministic(t *testing.T) {
	for seed := range uint64(5) {
		var first string
		for range 2 {
			sc := Random(seed)
			sc.Record = true
			w, err := New(sc)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Run(); err != nil && !errors.Is(err, ErrStuck) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			switch text := w.Transcript(); {
			case first == "":
				first = text
			case text != first:
				t.Fatalf("seed %d: two runs differ after %d bytes", seed, common(first, text))
			}
		}
	}
}

func common(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
