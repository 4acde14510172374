package sim

import (
	"testing"
	"time"
)

// TestBadWorker: one of three workers harms rounds by what it does as an owner or a member, in messages that are well formed. Whatever it
// is, the others find a way around it after some attempts: there are half as many commits as without at least.
func TestBadWorker(t *testing.T) {
	play := func(t *testing.T, seed uint64, bad badness) int {
		sc := Default(3000 + seed)
		sc.Calm = 40 * time.Second
		return len(story(t, sc, func(w *World, _ *process, _ any) { w.hosts[1].bad = bad }).commits())
	}
	for name, bad := range map[string]badness{
		"sums garbage": sumsGarbage, "vetoes sums": vetoesSums, "never sums": neverSums, "gives no result": givesNoResult,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3) {
				got, without := play(t, seed, bad), play(t, seed, honest)
				t.Logf("seed %d: %d commits, %d without it", seed, got, without)
				if 2*got < without {
					t.Errorf("seed %d: %d commits, %d without it", seed, got, without)
				}
			}
		})
	}
}
