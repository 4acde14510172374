package round

import (
	"testing"
	"time"
)

func TestReadyDeadline(t *testing.T) {
	const ms = time.Millisecond
	add := func(ds ...time.Duration) *readyTimes {
		var r readyTimes
		for _, d := range ds {
			r.add(d)
		}
		return &r
	}
	for _, c := range []struct {
		name  string
		times *readyTimes
		step  time.Duration
		want  time.Duration
	}{
		{"first round waits 2·H·t", add(), 100 * ms, 4800 * ms},
		{"first round without step times waits the least", add(), 0, 1000 * ms},
		{"median and four deviations", add(0, 1000*ms, 2000*ms), 100 * ms, 4800 * ms},
		{"median and four deviations within bounds", add(900*ms, 1000*ms, 1100*ms), 100 * ms, 1400 * ms},
		{"at least the least", add(0, 1*ms, 2*ms), 100 * ms, 1000 * ms},
		{"at most 2·H·t", add(0, 50000*ms, 100000*ms), 100 * ms, 4800 * ms},
	} {
		if got := c.times.wait(24, c.step, 1000*ms); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestReadyTimesForgetTheOldest(t *testing.T) {
	var r readyTimes
	r.add(time.Hour)
	for range readySamples {
		r.add(2 * time.Second)
	}
	if len(r.samples) != readySamples || r.wait(500, time.Second, time.Second) != 2*time.Second {
		t.Fatalf("%v", r.samples)
	}
}

// TestWaitingForLatecomers: a wait pays while the tokens that it brings, as a share of
// those that are there, are more than the wait, as a share of the round.
func TestWaitingForLatecomers(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name    string
		arrived float64
		late    []latecomer
		elapsed time.Duration
		want    time.Duration // 0: no wait
	}{
		{"all are there", 4, nil, s, 0},
		{"an eighth of an interval is waited in any case", 60, []latecomer{{1, -1}}, 100 * time.Millisecond, 1500 * time.Millisecond},
		{"one of four who is soon there", 3, []latecomer{{1, 4 * s}}, 2 * s, 4 * s},
		{"one of four who takes too long", 3, []latecomer{{1, 7 * s}}, 2 * s, 0},
		{"the same with the work of three rounds", 3, []latecomer{{3, 7 * s}}, 2 * s, 7 * s},
		{"one of sixty-four", 63, []latecomer{{1, 4 * s}}, 2 * s, 0},
		{"the first of two", 6, []latecomer{{1, 11 * s}, {1, 3 * s}}, 2 * s, 3 * s},
		{"the second of two as well", 2, []latecomer{{2, 6 * s}, {1, 5 * s}}, 2 * s, 6 * s},
		{"later than usual, by little", 3, []latecomer{{1, 4 * s}}, 4500 * time.Millisecond, 5250 * time.Millisecond},
		{"later than usual, by much", 3, []latecomer{{1, 2 * s}}, 9 * s, 0},
		{"nobody knows when", 3, []latecomer{{1, -1}}, 2 * s, 4 * s},
		{"nobody knows when, for long", 3, []latecomer{{1, -1}}, 7 * s, 0},
	} {
		until, wait := worthwhile(c.arrived, c.late, c.elapsed, 12*s)
		if wait != (c.want > 0) || until != c.want {
			t.Errorf("%s: %v, %t, want %v", c.name, until, wait, c.want)
		}
		if wait && until <= c.elapsed {
			t.Errorf("%s: it waits until %v, which is over", c.name, until)
		}
	}
}
