package sim

import (
	"testing"
	"time"
)

// TestBadWorker: one of three workers harms rounds by what it does as an owner or a member, in messages that are well formed. Whatever it
// is, the others find a way around it after some attempts: there are half as many commits as without at least. Who lets owners wait for
// what it has ready is not found out: each second attempt is without it, so that there are a quarter at least.
func TestBadWorker(t *testing.T) {
	play := func(t *testing.T, seed uint64, bad badness) int {
		sc := Default(3000 + seed)
		sc.Calm = 40 * time.Second
		return len(story(t, sc, func(w *World, _ *process, _ any) { w.hosts[1].bad = bad }).commits())
	}
	for name, bad := range map[string]badness{
		"sums garbage": sumsGarbage, "vetoes sums": vetoesSums, "never sums": neverSums, "gives no result": givesNoResult,
		"keeps its contribution": keepsContribution,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3) {
				got, without := play(t, seed, bad), play(t, seed, honest)
				t.Logf("seed %d: %d commits, %d without it", seed, got, without)
				least := without / 2
				if bad == keepsContribution {
					least = without / 4
				}
				if got < least {
					t.Errorf("seed %d: %d commits, %d without it", seed, got, without)
				}
			}
		})
	}
}

// TestRandomWithBadWorker plays drawn schedules of faults with a worker that is bad from the start: every promise holds, and the others
// get on once the faults are over. In the last one a worker is always a little later than the deadline that suits the other two.
func TestRandomWithBadWorker(t *testing.T) {
	from, to := seeds(t, 40)
	for i := from; i <= to; i++ {
		seed := i
		if i == to {
			seed = 1456
		}
		sc := Random(seed)
		if sc.Workers = max(sc.Workers, 3); sc.LeadWork {
			sc.Workers++
		}
		for len(sc.Setup.StepTime) <= sc.Workers {
			sc.Setup.StepTime = append(sc.Setup.StepTime, sc.Setup.StepTime[0])
		}
		w, err := New(sc)
		if err != nil {
			t.Fatal(err)
		}
		bad := sumsGarbage + badness(seed)%(givesNoResult-honest) // of who keeps its contribution nothing is committed
		w.hook = func(*process, any) { w.hosts[1].bad = bad }
		if err := w.Run(); err != nil {
			t.Errorf("seed %d, bad in way %d: %v", seed, bad, err)
		}
	}
}
