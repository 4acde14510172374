package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows how a command gets on: one line rewritten in place on a terminal, appended lines elsewhere, or one
// JSON object a step.
type progress struct {
	mu    sync.Mutex // logs come from many goroutines
	out   io.Writer
	json  *slog.Logger // nil unless logs are JSON
	live  bool         // out is a terminal
	open  bool         // the last line can be rewritten
	shown time.Time    // when state wrote last
}

func (t *terminal) progress(c *Config) *progress {
	p := &progress{out: t.err}
	if c.LogFormat == "json" {
		p.json = slog.New(slog.NewJSONHandler(t.err, nil))
		return p
	}
	if f, ok := t.err.(*os.File); ok {
		p.live = term.IsTerminal(int(f.Fd()))
	}
	return p
}

// step replaces the current line. attrs are the same facts for the JSON form.
func (p *progress) step(line string, attrs ...slog.Attr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.json != nil:
		p.json.LogAttrs(context.Background(), slog.LevelInfo, "step", attrs...)
	case p.live:
		fmt.Fprint(p.out, "\r"+cut(line, p.columns())+"\x1b[K")
		p.open = true
	default:
		fmt.Fprintln(p.out, line)
	}
}

// columns is the terminal's width now, 0 when it does not tell.
func (p *progress) columns() int {
	f, ok := p.out.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// cut shortens a line so that it does not wrap, since a wrapped line cannot be rewritten; 0 columns is no bound.
func cut(line string, columns int) string {
	if runes := []rune(line); columns > 1 && len(runes) >= columns {
		return string(runes[:columns-2]) + "…"
	}
	return line
}

// state shows what goes on now: on a terminal at every call, elsewhere once in a while.
func (p *progress) state(line string, attrs []slog.Attr) {
	if now := time.Now(); p.live || now.Sub(p.shown) >= stateEvery {
		p.shown = now
		p.step(line, attrs...)
	}
}

// stateEvery is the pace of lines where they cannot be rewritten.
const stateEvery = 5 * time.Second

// say appends a line that stays. msg and attrs are its JSON form.
func (p *progress) say(line, msg string, attrs ...slog.Attr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	if p.json != nil {
		p.json.LogAttrs(context.Background(), slog.LevelInfo, msg, attrs...) //nolint:sloglint // callers pass a literal
		return
	}
	fmt.Fprintln(p.out, line)
}

// close ends a line that was being rewritten.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func (p *progress) end() {
	if p.open {
		fmt.Fprintln(p.out)
		p.open = false
	}
}

// Write implements io.Writer for logs, which begin on a line of their own.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	return p.out.Write(b)
}

// grouped writes an integer with thousands set apart: 1,204,300.
func grouped[N int | int64 | uint64](n N) string {
	digits := strconv.FormatUint(uint64(max(n, 0)), 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// rate writes a positive figure with three significant digits, whole from 100 on: 2.61, 48.2, 8,040.
func rate(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0) || x < 0:
		return "–"
	case x < 10:
		return strconv.FormatFloat(x, 'f', 2, 64)
	case x < 100:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-2)
	return grouped(int64(math.Round(x/unit) * unit))
}
