package allowance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Hours are the times of the week at which dunlin may train, by the wall clock of whoever asks. The zero value is always.
type Hours struct {
	text string
	open []stretch // ascending, neither overlapping nor touching
}

// stretch is minutes of the week, from Monday 00:00, the last one not included.
type stretch struct{ from, to int }

const (
	day  = 24 * 60
	week = 7 * day
	// maxStretches bounds what a text may hold.
	maxStretches = 64
)

// HoursForm is what ParseHours reads, for people.
const HoursForm = `windows like "22:00-07:00", "mon-fri 22:00-07:00, sat, sun 00:00-24:00"; empty is always`

// ParseHours reads windows that commas separate, each with the days before it on which it begins: single ones, or from
// one to another. Days without a window have the next one's; a window without days is of every day. One that ends
// before it begins crosses midnight.
func ParseHours(text string) (Hours, error) {
	h := Hours{text: strings.Join(strings.Fields(text), " ")}
	if h.text == "" {
		return h, nil
	}
	var days [7]bool
	waiting := false // days were named, their window was not
	var open []stretch
	for _, part := range strings.Split(strings.ToLower(h.text), ",") {
		words := strings.Fields(part)
		if len(words) == 0 {
			return Hours{}, errors.New("a comma with nothing beside it")
		}
		window := words[len(words)-1]
		if !strings.Contains(window, ":") {
			window = ""
		} else {
			words = words[:len(words)-1]
		}
		for _, w := range words {
			if err := addDays(&days, w); err != nil {
				return Hours{}, err
			}
			waiting = true
		}
		if window == "" {
			continue
		}
		from, to, err := parseWindow(window)
		if err != nil {
			return Hours{}, err
		}
		for d := range days {
			if days[d] || !waiting {
				open = append(open, stretch{d*day + from, d*day + to})
			}
		}
		days, waiting = [7]bool{}, false
		if len(open) > maxStretches {
			return Hours{}, errors.New("too many windows")
		}
	}
	if waiting {
		return Hours{}, errors.New("days without a window behind them")
	}
	h.open = tidy(open)
	return h, nil
}

var dayNames = [7]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

func addDays(days *[7]bool, word string) error {
	from, to, ranged := strings.Cut(word, "-")
	a := slices.Index(dayNames[:], from)
	b := a
	if ranged {
		b = slices.Index(dayNames[:], to)
	}
	if a < 0 || b < 0 {
		return fmt.Errorf("%q is neither a day (mon, tue, wed, thu, fri, sat, sun), nor days (mon-fri), nor a window (22:00-07:00)", word)
	}
	for d := a; ; d = (d + 1) % 7 {
		days[d] = true
		if d == b {
			return nil
		}
	}
}

// parseWindow returns minutes of a day; to is behind from, up to a day behind midnight.
func parseWindow(text string) (from, to int, err error) {
	a, b, ok := strings.Cut(text, "-")
	if !ok {
		return 0, 0, fmt.Errorf("window %q: want from and to, like 22:00-07:00", text)
	}
	if from, err = parseClock(a); err != nil {
		return 0, 0, err
	}
	if to, err = parseClock(b); err != nil {
		return 0, 0, err
	}
	switch {
	case from == to || from == day:
		return 0, 0, fmt.Errorf("window %q is empty; all day is 00:00-24:00", text)
	case to < from:
		to += day
	}
	return from, to, nil
}

func parseClock(text string) (int, error) {
	hours, minutes, ok := strings.Cut(text, ":")
	h, err1 := strconv.ParseUint(hours, 10, 8)
	m, err2 := strconv.ParseUint(minutes, 10, 8)
	if !ok || err1 != nil || err2 != nil || len(minutes) != 2 || m > 59 || h > 24 || h == 24 && m > 0 {
		return 0, fmt.Errorf("%q is no time of day from 00:00 to 24:00", text)
	}
	return int(h*60 + m), nil
}

// tidy brings stretches into one week, in order, and joins those that touch.
func tidy(open []stretch) []stretch {
	var within []stretch
	for _, s := range open {
		if s.to > week {
			within = append(within, stretch{0, s.to - week})
			s.to = week
		}
		within = append(within, s)
	}
	slices.SortFunc(within, func(a, b stretch) int { return a.from - b.from })
	out := within[:0]
	for _, s := range within {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// String is the text that ParseHours read, "" for always.
func (h Hours) String() string { return h.text }

// minuteOfWeek counts by t's own clock.
func minuteOfWeek(t time.Time) int {
	return (int(t.Weekday())+6)%7*day + t.Hour()*60 + t.Minute()
}

// Open tells whether training may go on at t, in t's time zone.
func (h Hours) Open(t time.Time) bool {
	m := minuteOfWeek(t)
	return len(h.open) == 0 || slices.ContainsFunc(h.open, func(s stretch) bool { return s.from <= m && m < s.to })
}

// Change returns when Open changes next after t; zero means never.
func (h Hours) Change(t time.Time) time.Time {
	open, m := h.Open(t), minuteOfWeek(t)
	var next time.Time
	for _, s := range h.open {
		for _, edge := range [2]int{s.from, s.to} {
			ahead := (edge - m + week) % week
			if ahead == 0 {
				ahead = week
			}
			// The calendar knows of days with 23 or 25 hours.
			at := time.Date(t.Year(), t.Month(), t.Day()+(m+ahead)/day-m/day, edge%day/60, edge%60, 0, 0, t.Location())
			if at.After(t) && h.Open(at) != open && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
}
