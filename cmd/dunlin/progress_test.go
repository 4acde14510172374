package main

import (
	"bytes"
	"log/slog"
	"math"
	"testing"
)

func TestLinesDoNotWrap(t *testing.T) {
	for _, c := range []struct {
		line    string
		columns int
		want    string
	}{{"training · 7", 0, "training · 7"}, {"training · 7", 13, "training · 7"}, {"training · 7", 12, "training ·…"}, {"ab", 1, "ab"}, {"ab", 2, "…"}} {
		if got := cut(c.line, c.columns); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.line, c.columns, got, c.want)
		}
	}
}

func TestFiguresAsPeopleReadThem(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1204: "1,204", 1204300: "1,204,300"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
	for x, want := range map[float64]string{0: "0.00", 2.614: "2.61", 48.24: "48.2", 99.9: "99.9", 123.4: "123", 8043: "8,040", 1234567: "1,230,000", -1: "–"} {
		if got := rate(x); got != want {
			t.Errorf("rate(%v) = %s, want %s", x, got, want)
		}
	}
	if got := rate(math.NaN()); got != "–" {
		t.Errorf("rate(NaN) = %s", got)
	}
}

func TestProgressRewritesOnlyOnATerminal(t *testing.T) {
	show := func(p *progress) {
		p.step("one", slog.Int("step", 1))
		p.step("two", slog.Int("step", 2))
		p.say("end", "done")
	}
	var out bytes.Buffer
	show(&progress{out: &out})
	if got, want := out.String(), "one\ntwo\nend\n"; got != want {
		t.Errorf("plain: %q, want %q", got, want)
	}
	out.Reset()
	show(&progress{out: &out, live: true})
	if got, want := out.String(), "\rone\x1b[K\rtwo\x1b[K\nend\n"; got != want {
		t.Errorf("live: %q, want %q", got, want)
	}
}
