package main

import (
	"testing"
	"time"

	"dunlin/status"
)

func TestBar(t *testing.T) {
	for share, want := range map[float64]string{
		-1:  "░░░░░░░░░░░░░░░░░░ 0 %",
		0.5: "█████████░░░░░░░░░ 50 %",
		2:   "██████████████████ 100 %",
	} {
		if got := bar(share); got != want {
			t.Errorf("bar(%v) = %q, want %q", share, got, want)
		}
	}
	for _, c := range []struct {
		share float64
		took  time.Duration
		want  string
	}{{0, time.Second, ""}, {0.25, 10 * time.Second, " · 30 s left"}, {1, time.Second, ""}, {0.5, 0, ""}} {
		if got := left(c.share, c.took); got != c.want {
			t.Errorf("left(%v, %v) = %q, want %q", c.share, c.took, got, c.want)
		}
	}
}

// TestSyncingLine: a download says how much of what, from whom, how fast and for how long.
func TestSyncingLine(t *testing.T) {
	rate, seconds := 4.75e6, 17.7
	s := &status.Snapshot{Run: status.Run{Phase: "syncing", Reason: "following the ledger to its head"}}
	s.Transfers = []status.Transfer{{What: "checkpoint", Done: 412e6, Total: 496e6, Donors: 5, Rate: &rate, SecondsLeft: &seconds}}
	line, attrs := workerLine(s)
	if want := "syncing        checkpoint 412 MB of 496 MB from 5 donors ██████████████░░░░ 83 % · 38.0 Mbit/s · 18 s left"; line != want {
		t.Errorf("%q, want %q", line, want)
	}
	if len(attrs) < 3 {
		t.Errorf("a program reads only %v", attrs)
	}
	s.Transfers = nil
	if line, _ = workerLine(s); line != "syncing        following the ledger to its head" {
		t.Errorf("%q", line)
	}
}
