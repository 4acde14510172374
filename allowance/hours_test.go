package allowance

import (
	"strings"
	"testing"
	"time"
)

func clock(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", text, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// 2026-05-04 is a Monday.
func TestHours(t *testing.T) {
	for _, c := range []struct {
		hours, at string
		open      bool
		change    string
	}{
		{"", "2026-05-04 03:00", true, ""},
		{"00:00-24:00", "2026-05-04 03:00", true, ""},
		{"22:00-07:00", "2026-05-04 21:59", false, "2026-05-04 22:00"},
		{"22:00-07:00", "2026-05-04 22:00", true, "2026-05-05 07:00"},
		{"22:00-07:00", "2026-05-05 06:59", true, "2026-05-05 07:00"},
		{"22:00-07:00", "2026-05-05 07:00", false, "2026-05-05 22:00"},
		{"09:00-12:00, 13:00-17:00", "2026-05-04 12:30", false, "2026-05-04 13:00"},
		{"09:00-12:00,12:00-17:00", "2026-05-04 11:00", true, "2026-05-04 17:00"},
		{"fri 22:00-07:00", "2026-05-09 06:00", true, "2026-05-09 07:00"},  // it began on Friday
		{"fri 22:00-07:00", "2026-05-08 06:00", false, "2026-05-08 22:00"}, // Thursday has none
		{"sun 22:00-07:00", "2026-05-04 06:00", true, "2026-05-04 07:00"},  // over the week's end
		{"sun 22:00-07:00", "2026-05-04 07:00", false, "2026-05-10 22:00"},
		{"mon-fri 22:00-07:00, sat, sun 00:00-24:00", "2026-05-09 12:00", true, "2026-05-11 00:00"},
		{"mon-fri 22:00-07:00, sat, sun 00:00-24:00", "2026-05-11 00:30", false, "2026-05-11 22:00"},
		{"Sat-Mon 10:00-11:00", "2026-05-04 10:30", true, "2026-05-04 11:00"},
		{"sat-mon 10:00-11:00", "2026-05-05 10:30", false, "2026-05-09 10:00"},
	} {
		h, err := ParseHours(c.hours)
		if err != nil {
			t.Errorf("%q: %v", c.hours, err)
			continue
		}
		at, change := clock(t, c.at), ""
		if next := h.Change(at); !next.IsZero() {
			change = next.Format("2006-01-02 15:04")
		}
		if h.Open(at) != c.open || change != c.change {
			t.Errorf("%q at %s: open %v, changes %q; want %v, %q", c.hours, c.at, h.Open(at), change, c.open, c.change)
		}
	}
}

// TestHoursOverClockChange: in Berlin the night to 2026-03-29 has no 02:30; the window still ends at 07:00.
func TestHoursOverClockChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here")
	}
	h, err := ParseHours("22:00-07:00")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 28, 23, 0, 0, 0, berlin)
	if got, want := h.Change(at), time.Date(2026, 3, 29, 7, 0, 0, 0, berlin); !got.Equal(want) || want.Sub(at) != 7*time.Hour {
		t.Errorf("changes at %v, want %v", got, want)
	}
}

func TestHoursRefused(t *testing.T) {
	for text, why := range map[string]string{
		"22-7": "neither a day", "22:00": "want from and to", "22:00-25:00": "no time of day", "22:00-22:00": "is empty",
		"24:00-07:00": "is empty", "22:0-07:00": "no time of day", "fri": "days without a window", "someday 10:00-11:00": "neither a day",
		"10:00-11:00,": "nothing beside it", ",": "nothing beside it", "10:60-11:00": "no time of day", "-1:00-2:00": "",
		"mon-someday 10:00-11:00": "neither a day", "24:01-07:00": "no time of day",
		strings.Repeat("10:00-11:00,", 20) + "1:00-2:00": "too many",
	} {
		if h, err := ParseHours(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, %v; want an error with %q", text, h, err, why)
		}
	}
}

func FuzzParseHours(f *testing.F) {
	for _, seed := range []string{"", "22:00-07:00", "mon-fri 22:00-07:00, sat, sun 00:00-24:00", "sun 23:59-00:01", ":-:", "mon-mon 1:00-0:59"} {
		f.Add(seed, int64(1_777_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		h, err := ParseHours(text)
		if err != nil {
			return
		}
		again, err := ParseHours(h.String())
		if err != nil {
			t.Fatalf("%q is not read again: %v", h, err)
		}
		at := time.Unix(unix%(1<<33), 0).UTC()
		next := h.Change(at)
		if h.Open(at) != again.Open(at) || !next.Equal(again.Change(at)) {
			t.Fatalf("%q means another thing when it is read again", h)
		}
		if !next.IsZero() && (!next.After(at) || h.Open(next) == h.Open(at) || next.Sub(at) > 8*24*time.Hour) {
			t.Fatalf("%q changes from %v at %v to %v", h, at, next, h.Open(next))
		}
	})
}
