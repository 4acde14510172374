package sim

import (
	"testing"
	"time"

	"dunlin/wire"
)

// pace runs a scenario for some time and returns how many commits came in it and how
// many of them have a worker's contribution.
func pace(t *testing.T, sc Scenario, until time.Duration, worker int) (commits, with int) {
	t.Helper()
	w, err := New(sc)
	if err != nil {
		t.Fatal(err)
	}
	if w.RunUntil(until); w.Err() != nil {
		t.Fatal(w.Err())
	}
	slots := map[wire.Slot]wire.PeerID{}
	for _, m := range bodies[*wire.Member](w) {
		slots[m.Slot] = m.Peer
	}
	for _, c := range w.commits() {
		for _, m := range w.contributors(c).Contributors {
			if slots[m.Slot] == w.hosts[worker].id {
				with++
			}
		}
	}
	return len(w.commits()), with
}

// TestStragglerHoldsNobodyUp: one of four workers stands still for a second now and
// then, where an interval is 0.6 s. The others commit nearly as often as without it,
// and it is in many of the commits.
func TestStragglerHoldsNobodyUp(t *testing.T) {
	sc := Default(41)
	sc.Workers, sc.Setup.H, sc.Setup.Values = 4, 24, []int{90}
	sc.Setup.StepTime = []time.Duration{25 * time.Millisecond}
	sc.Links.Latency = [2]time.Duration{2 * time.Millisecond, 10 * time.Millisecond}
	sc.Calm = 62 * time.Second
	calm, _ := pace(t, sc, 60*time.Second, 4)
	for _, c := range []struct {
		every uint64
		least float64 // share of the commits that is left
	}{{17, 0.7}, {40, 0.8}, {75, 0.85}} {
		sc.Setup.Hiccup = Hiccup{Peer: 4, Every: c.every, For: time.Second}
		held, with := pace(t, sc, 60*time.Second, 4)
		t.Logf("%d commits in a minute without a straggler, %d with one each %d steps, which is in %d", calm, held, c.every, with)
		if float64(held) < c.least*float64(calm) || with < held/4 {
			t.Fail()
		}
	}
}

// TestLateWorkerIsNotLeftOut: a worker is always ready some seconds after the others,
// where a commit takes longer than that. It is in most commits all the same.
func TestLateWorkerIsNotLeftOut(t *testing.T) {
	sc := Default(42)
	sc.Workers, sc.Setup.H, sc.Setup.Values, sc.Setup.SlabValues = 5, 30, []int{6000}, 600
	sc.Setup.StepTime = []time.Duration{400 * time.Millisecond}
	sc.Links.Upload = 4e3
	sc.Calm = 400 * time.Second
	for _, at := range []time.Duration{2, 3, 4} {
		sc.Faults = []Fault{{Kind: Freeze, Peer: 5, At: 2 * time.Second, For: at * time.Second}}
		commits, with := pace(t, sc, 390*time.Second, 5)
		t.Logf("%v late: %d of %d commits", at*time.Second, with, commits)
		if with < commits/2 {
			t.Fail()
		}
	}
}
