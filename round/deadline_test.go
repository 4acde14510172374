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
