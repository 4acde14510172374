package figures

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/status"
	"dunlin/wire"
)

// A worker's page has its rounds from the snapshot to the merge, a failed attempt and the one that took its place.
func TestOwnRounds(t *testing.T) {
	o := newOwnRounds()
	began := time.Now()
	at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	o.Snapped(1, 7, at(1))
	o.Told(&wire.SignedReady{Ready: wire.Ready{Fragment: 1, Base: 7}}, at(2))
	o.Told(&wire.SignedReady{Ready: wire.Ready{Fragment: 1, Base: 7}}, at(2.5)) // sent again
	o.Entry(&wire.Attempt{Fragment: 1, Base: 7, ID: wire.AttemptID{Term: 1, Counter: 5}}, wire.Encode(&wire.AttemptTable{Members: make([]wire.AttemptMember, 3)}), at(3))
	o.Entry(&wire.Attempt{Fragment: 1, Base: 7, ID: wire.AttemptID{Term: 1, Counter: 6}}, nil, at(4))
	o.Told(&wire.Results{Fragment: 1, Base: 6}, at(4.5)) // of another version
	o.Told(&wire.Results{Fragment: 1, Base: 7}, at(5))
	o.Told(&wire.Have{Fragment: 1, Base: 7}, at(6))
	o.Entry(&wire.Commit{Fragment: 1, Base: 7}, nil, at(7))
	o.Told(&wire.Have{Fragment: 1, Base: 7}, at(7.5))
	o.Merging(1, 8, []bool{true, false, true})
	o.Merge(1, 8, 12, at(8))
	o.Entry(&wire.Commit{Fragment: 0, Base: 3}, nil, at(9)) // without this worker

	rows := o.rows(func(t time.Time) float64 { return t.Sub(began).Seconds() })
	if len(rows) != 3 {
		t.Fatalf("%d rounds, want 3: %+v", len(rows), rows)
	}
	times := func(r status.Round) (out [7]float64) {
		for i, at := range []*float64{r.Snapshot, r.Ready, r.Opened, r.Summed, r.Held, r.Closed, r.Merged} {
			if at != nil {
				out[i] = *at
			}
		}
		return out
	}
	for i, want := range []struct {
		times          [7]float64
		phase, failed  string
		members, steps int
	}{
		{[7]float64{1, 2, 3, 0, 0, 4, 0}, "failed", "attempt 1.6 took its place", 3, 0},
		{[7]float64{0, 4, 4, 5, 6, 7, 8}, "2 of 3 slabs have this worker's share", "", 0, 12},
		{[7]float64{0, 0, 0, 0, 0, 9, 0}, "committed without a contribution from here", "", 0, 0},
	} {
		r := rows[i]
		if got := times(r); got != want.times || r.Phase != want.phase || r.Failed != want.failed || r.Members != want.members || int(r.Overlap) != want.steps {
			t.Errorf("round %d: %v %+v, want %+v", i, got, r, want)
		}
	}
	for base := range uint64(2 * maxOwnRounds) {
		o.Snapped(0, 100+base, at(10))
	}
	if got := len(o.rows(func(time.Time) float64 { return 0 })); got != maxOwnRounds+2 {
		t.Errorf("%d rounds are kept, want %d", got, maxOwnRounds+2)
	}
}

func TestDeviceClass(t *testing.T) {
	for device, want := range map[string]string{
		"cpu avx512, 4 threads": "cpu avx512", "cpu avx2 bf16, 1 thread": "cpu avx2", "cuda:1 NVIDIA GeForce RTX 3060 fp16": "GeForce RTX 3060",
		"cuda:0 A + cuda:1 B": "several devices", "": "unknown", "quantum": "quantum",
	} {
		if got := deviceClass(device); got != want {
			t.Errorf("%q is of class %q, want %q", device, got, want)
		}
	}
}

// Of many classes the last place takes in the rest, and none changes its place.
func TestRateByClass(t *testing.T) {
	f := New(Subject{}, time.Now())
	now := time.Now()
	for i := range 9 {
		f.members[wire.PeerID{byte(i)}] = &memberFigures{alive: true, seen: now, heartbeat: wire.Heartbeat{
			State: wire.StateTraining, Device: string(rune('a' + i)), TokensPerSecond: wire.FloatOf(10),
		}}
	}
	rates := f.rateByClass(now)
	if len(f.classes) != maxClasses || f.classes[maxClasses-1] != restClass || len(rates) != maxClasses || rates[maxClasses-1] != 40 {
		t.Errorf("classes %q at %v", f.classes, rates)
	}
	first := f.classes[0]
	if again := f.rateByClass(now.Add(time.Hour)); len(again) != maxClasses || again[0] != 0 || f.classes[0] != first {
		t.Errorf("an hour later %q at %v", f.classes, again)
	}
}

// A worker goes by the ledger for the speed of the swarm, losses or none: by the last minute, or by the last two commits
// where they are further apart, until none comes.
func TestCommittedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Subject{}, time.Now())
		commit := func(after time.Duration, tokens uint64) {
			time.Sleep(after)
			f.Commit(1, &wire.Commit{Tokens: tokens})
		}
		holds := func(want float64) {
			t.Helper()
			if got := f.committedRate(time.Now()); math.Abs(got-want) > 1e-9 {
				t.Errorf("%v tokens a second, want %v", got, want)
			}
		}
		commit(time.Second, 1000)
		holds(0)
		for i := range uint64(200) {
			commit(time.Second, 2000+1000*i)
		}
		holds(1000)
		if len(f.pace) > 62 {
			t.Errorf("%d commits are kept", len(f.pace))
		}
		f.CaughtUp()
		holds(0)
		commit(time.Second, 200_000)
		commit(time.Second, 201_000)
		holds(1000)
		commit(300*time.Second, 201_000+30_000)
		holds(100)
		time.Sleep(599 * time.Second)
		holds(100)
		time.Sleep(2 * time.Second)
		holds(0)
	})
}
