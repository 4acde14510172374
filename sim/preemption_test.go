package sim

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// arm is one line of the table.
type arm struct {
	policy Policy
	period time.Duration
}

func arms() []arm {
	return []arm{
		{Fixed, time.Minute}, {Published, 5 * time.Minute}, {Published, time.Minute}, {Guarded, 5 * time.Minute}, {Guarded, time.Minute},
	}
}

// measure returns each arm's mean over seeds.
func measure(t *testing.T, p Preemption, seeds int) map[arm]Balance {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := make(map[arm]Balance)
	slots := make(chan struct{}, min(2, runtime.GOMAXPROCS(0)))
	for _, a := range arms() {
		for seed := range seeds {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				b, err := p.Run(uint64(seed), a.policy, a.period)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				sum, k := out[a], float64(seeds)
				sum.Overall += b.Overall / k
				sum.First += b.First / k
				sum.Last += b.Last / k
				sum.Moves += b.Moves / k
				sum.Bytes += b.Bytes / k
				sum.Empty += b.Empty / time.Duration(seeds)
				out[a] = sum
			})
		}
	}
	wg.Wait()
	for _, a := range arms() {
		b := out[a]
		t.Logf("%-9s every %-5v %5.1f %% of the optimum, first hour %5.1f %%, last hour %5.1f %%, %5.1f moves/h, %6.1f GB/h, a stage empty for %v",
			a.policy, a.period, 100*b.Overall, 100*b.First, 100*b.Last, b.Moves, b.Bytes/1e9, b.Empty)
	}
	return out
}

// within fails unless a share lies between two percentages.
func within(t *testing.T, what string, share, least, most float64) {
	t.Helper()
	if 100*share < least || 100*share > most {
		t.Errorf("%s: %.2f %%, not within %v to %v %%", what, 100*share, least, most)
	}
}

// TestRebalanceTrace checks the trace's calibration and then package
// pipeline's rule on the same seeds. REBALANCE names how many (make bench-rebalance: 10).
func TestRebalanceTrace(t *testing.T) {
	s := os.Getenv("REBALANCE")
	if s == "" {
		t.Skip("takes a minute: make bench-rebalance")
	}
	seeds, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	got := measure(t, DefaultPreemption(), seeds)
	fixed := got[arm{Fixed, time.Minute}]
	within(t, "no rebalancing", fixed.Overall, 80, 85)
	within(t, "no rebalancing, last hour", fixed.Last, 40, 50)
	within(t, "published rule at 300 s", got[arm{Published, 5 * time.Minute}].Overall, 94.5, 96.5)
	within(t, "published rule at 60 s", got[arm{Published, time.Minute}].Overall, 97.2, 98)
	within(t, "guarded rule at 300 s", got[arm{Guarded, 5 * time.Minute}].Overall, 97, 100)
	within(t, "guarded rule at 60 s", got[arm{Guarded, time.Minute}].Overall, 98.5, 100)
}

// TestRebalanceStorm is the trace in small: six hours, most of them storm, and
// one seed. The order of the policies is that of the whole.
func TestRebalanceStorm(t *testing.T) {
	p := DefaultPreemption()
	p.Length, p.At, p.Rise = 5*time.Hour, 90*time.Minute, 20*time.Minute
	got := measure(t, p, 1)
	share := func(policy Policy, period time.Duration) float64 { return got[arm{policy, period}].Overall }
	slow, fast := share(Published, 5*time.Minute), share(Published, time.Minute)
	if fixed := share(Fixed, time.Minute); fixed > slow-0.05 || slow > fast {
		t.Errorf("no rebalancing %.3f, published rule %.3f at 300 s and %.3f at 60 s: the trace tells nothing", fixed, slow, fast)
	}
	if g := share(Guarded, 5*time.Minute); g < fast {
		t.Errorf("the guarded rule reaches %.3f at 300 s, the published one %.3f at 60 s", g, fast)
	}
	for _, period := range []time.Duration{time.Minute, 5 * time.Minute} {
		if ours, theirs := got[arm{Guarded, period}].Moves, got[arm{Published, time.Minute}].Moves; ours > theirs/2 {
			t.Errorf("the guarded rule moves %.1f peers an hour, the published one at 60 s %.1f", ours, theirs)
		}
	}
}
