package main

import (
	"bytes"
	"strings"
	"testing"

	"dunlin/status"
)

// TestTheOrganiserHearsEachTurnOnce: of snapshots without end only those that say something new are told where no terminal is live.
func TestTheOrganiserHearsEachTurnOnce(t *testing.T) {
	var out bytes.Buffer
	h := &herald{line: &progress{out: &out}, export: "out/model"}
	s := &status.Snapshot{Run: status.Run{Phase: "waiting"}}
	for _, step := range []struct {
		change func()
		want   string
	}{
		{func() {}, "waiting        0 tokens · 0 commits"},
		{func() { s.Run.Phase, s.Health.Training, s.Run.Tokens, s.Health.Commits = "training", 2, 4000, 1 }, "training       4,000 tokens · 2 training · 1 commit"},
		{func() { s.Run.Tokens, s.Health.Commits = 8000, 2 }, ""},
		{func() { s.Run.Phase, s.Run.Reason = "paused", "the organiser paused it" }, "paused         the organiser paused it"},
		{func() { s.Run.Phase, s.Run.Reason, s.Health.Training = "ended", "token budget committed", 1 }, "ended          token budget committed"},
		{func() { s.Health.Training, s.Run.Done = 0, true }, "ended          8,000 tokens · 2 commits · all workers have left; Ctrl-C stops this coordinator; the model is in out/model"},
	} {
		step.change()
		out.Reset()
		h.show(s)
		h.show(s)
		if got := strings.TrimSuffix(out.String(), "\n"); got != step.want {
			t.Errorf("%q, want %q", got, step.want)
		}
	}
	// A live line shows what lies between, too, until the end.
	out.Reset()
	h = &herald{line: &progress{out: &out, live: true}}
	s.Run = status.Run{Phase: "training", Tokens: 8000}
	h.show(s)
	s.Run.Tokens = 9000
	h.show(s)
	if got := out.String(); strings.Count(got, "8,000 tokens") != 2 || !strings.HasSuffix(got, "\rtraining       9,000 tokens · 2 commits\x1b[K") {
		t.Errorf("on a terminal: %q", got)
	}
}
