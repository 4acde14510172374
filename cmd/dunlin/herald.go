package main

import (
	"cmp"
	"fmt"
	"log/slog"

	"dunlin/status"
)

// herald says on the organiser's terminal how the run goes: each turn that it takes in a line that stays, and on a live
// terminal how it stands now. Its methods are called by one goroutine.
type herald struct {
	line   *progress
	export string // folder that the model is left in, or ""
	turn   string // what was said last
	done   bool
}

// show takes in a snapshot.
func (h *herald) show(s *status.Snapshot) {
	if turn := s.Run.Phase + "\x00" + s.Run.Reason; turn != h.turn {
		h.turn = turn
		h.say(s, cmp.Or(s.Run.Reason, status.Line(s)))
	}
	if s.Run.Done && !h.done {
		h.done = true
		left := "all workers have left; Ctrl-C stops this coordinator"
		if h.export != "" {
			left += "; the model is in " + h.export
		}
		h.say(s, status.Line(s)+" · "+left)
	}
	if h.line.live && !h.done {
		h.line.step(fmt.Sprintf("%-14s %s", s.Run.Phase, status.Line(s)))
	}
}

func (h *herald) say(s *status.Snapshot, text string) {
	h.line.say(fmt.Sprintf("%-14s %s", s.Run.Phase, text), "run", slog.String("phase", s.Run.Phase), slog.String("text", text), slog.Uint64("height", s.Run.Height), slog.Uint64("tokens", s.Run.Tokens))
}
