package allowance

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestGate plays a volunteer's evening. A line is an event at a time of day and what it brings, "" for nothing.
func TestGate(t *testing.T) {
	night, err := ParseHours("22:00-07:00")
	if err != nil {
		t.Fatal(err)
	}
	all := Rules{Hours: night, Busy: true, Battery: true, UpPerDay: 2e9, Cores: 8}
	for name, lines := range map[string][]struct {
		at   string
		ev   Event
		want string
	}{
		"hours": {
			{"21:00:00", Ruled{Rules{Hours: night}}, "pause: outside its hours, 22:00-07:00, until 04 22:00"},
			{"21:59:59", Tick{}, ""},
			{"22:00:00", Tick{}, "resume"},
			{"23:59:59", Tick{}, ""},
			{"31:00:00", Tick{}, "keep 2026-05-05 0 false; pause: outside its hours, 22:00-07:00, until 05 22:00"},
		},
		"busy": {
			{"22:00:00", Ruled{all}, ""},
			{"22:00:05", Seen{Others: 1.9}, ""},
			{"22:00:10", Seen{Others: 3}, ""},
			{"22:00:15", Seen{Others: 1}, ""}, // a moment is not busy
			{"22:00:20", Seen{Others: 3}, ""},
			{"22:00:25", Seen{Others: 3}, ""},
			{"22:00:30", Seen{Others: 4.25}, "pause: other programs use 4.2 of 8 cores"},
			{"22:00:35", Seen{Others: 7}, ""},
			{"22:01:00", Seen{Others: 0.2}, ""},
			{"22:01:30", Seen{Others: 1.5}, ""}, // not busy enough to pause, but not quiet
			{"22:01:35", Seen{Others: 0.2}, ""},
			{"22:02:30", Seen{Others: 0.2}, ""},
			{"22:02:35", Seen{Others: 0.2}, "resume"},
		},
		"no rule, no pause": {
			{"12:00:00", Ruled{}, ""},
			{"12:00:05", Seen{Others: 8, Battery: true}, ""},
			{"12:01:05", Seen{Others: 8, Battery: true}, ""},
			{"12:01:06", Moved{Sent: 1 << 50}, "keep 2026-05-04 1125899906842624 false"},
		},
		"a rule that goes": {
			{"22:00:00", Ruled{all}, ""},
			{"22:00:05", Seen{Others: 8}, ""},
			{"22:00:15", Seen{Others: 8}, "pause: other programs use 8.0 of 8 cores"},
			{"22:00:16", Ruled{Rules{Cores: 8}}, "resume"},
		},
		"reasons": {
			{"12:00:00", Ruled{all}, "pause: outside its hours, 22:00-07:00, until 04 22:00"},
			{"12:00:05", Seen{Battery: true}, "pause: this machine runs on battery"},
			{"12:00:06", Asked{Pause: true}, "keep 2026-05-04 0 true; pause: you paused it; dunlin resume goes on"},
			{"12:00:10", Seen{}, ""},
			{"12:00:11", Asked{}, "keep 2026-05-04 0 false; pause: outside its hours, 22:00-07:00, until 04 22:00"},
			{"22:30:00", Tick{}, "resume"},
		},
		"a day's upload": {
			{"22:00:00", Ruled{all}, ""},
			{"22:00:01", Moved{Sent: 1.5e9}, "keep 2026-05-04 1500000000 false"},
			{"23:00:00", Moved{Sent: 5e8}, "keep 2026-05-04 2000000000 false; pause: today's upload of 2000 MB is used up, until 05 00:00"},
			{"23:00:01", Moved{Sent: 1}, "keep 2026-05-04 2000000001 false"},
			{"24:00:00", Tick{}, "keep 2026-05-05 0 false; resume"},
		},
		"a day's download": {
			{"22:00:00", Ruled{Rules{DownPerDay: 1e9}}, ""},
			{"23:00:00", Moved{Sent: 7, Received: 1e9}, "keep 2026-05-04 7 false; pause: today's download of 1000 MB is used up, until 05 00:00"},
			{"24:00:00", Tick{}, "keep 2026-05-05 0 false; resume"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewGate(Rules{}, State{Day: "2026-05-04"})
			for _, l := range lines {
				var h, m, s int
				if _, err := fmt.Sscanf(l.at, "%d:%d:%d", &h, &m, &s); err != nil {
					t.Fatal(err)
				}
				now := time.Date(2026, 5, 4, h, m, s, 0, time.UTC)
				var got []string
				for _, e := range g.Step(now, l.ev) {
					got = append(got, describe(e))
				}
				if text := strings.Join(got, "; "); text != l.want {
					t.Errorf("%s %T%+v: %q, want %q", l.at, l.ev, l.ev, text, l.want)
				}
				if d := g.Deadline(now); !d.IsZero() && !d.After(now) {
					t.Errorf("%s: deadline %v has passed", l.at, d)
				}
			}
		})
	}
}

func describe(e Effect) string {
	switch e := e.(type) {
	case Pause:
		if e.Until.IsZero() {
			return "pause: " + e.Reason
		}
		return "pause: " + e.Reason + ", until " + e.Until.Format("02 15:04")
	case Resume:
		return "resume"
	case Keep:
		return fmt.Sprintf("keep %s %d %v", e.State.Day, e.State.Sent, e.State.Paused)
	}
	return fmt.Sprintf("%T", e)
}

// TestGateRemembers: a pause and the day's bytes outlive the process.
func TestGateRemembers(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	g := NewGate(Rules{}, State{})
	g.Step(now, Asked{Pause: true})
	g.Step(now, Moved{7, 8})
	again := NewGate(Rules{}, g.State())
	if got := again.Step(now, Tick{}); len(got) != 1 || describe(got[0]) != "pause: you paused it; dunlin resume goes on" {
		t.Errorf("a restarted gate says %v", got)
	}
	if s := again.State(); s.Sent != 7 || s.Received != 8 {
		t.Errorf("%d and %d bytes remembered, want 7 and 8", s.Sent, s.Received)
	}
}
