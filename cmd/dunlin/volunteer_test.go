package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/status"
)

// record keeps what a command writes; others may read it meanwhile.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// command is a command of this program that runs in this process.
type command struct {
	t        *testing.T
	out, err record
	stop     context.CancelFunc
	ended    chan error // closed behind its one value
}

func start(t *testing.T, args ...string) *command {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &command{t: t, stop: stop, ended: make(chan error, 1)}
	go func() {
		root := newRoot(&c.out, &c.err)
		root.SetArgs(args)
		c.ended <- root.ExecuteContext(ctx)
		close(c.ended)
	}()
	t.Cleanup(func() {
		stop()
		<-c.ended
	})
	return c
}

// await waits until what a function finds in the command's output is something.
func (c *command) await(what string, find func(out, err string) string) string {
	c.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; <-time.After(20 * time.Millisecond) {
		if found := find(c.out.String(), c.err.String()); found != "" {
			return found
		}
		select {
		case err := <-c.ended:
			c.t.Fatalf("it ended (%v) without %s:\n%s%s", err, what, c.out.String(), c.err.String())
		default:
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("no %s:\n%s%s", what, c.out.String(), c.err.String())
		}
	}
}

// says waits for a line on stderr.
func (c *command) says(pattern string) string {
	c.t.Helper()
	line := regexp.MustCompile("(?m)" + pattern)
	return c.await("line like "+pattern, func(_, err string) string { return line.FindString(err) })
}

// end stops a command and returns how it ended.
func (c *command) end() error {
	c.stop()
	return <-c.ended
}

// runs runs a command to its end.
func runs(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, errs record
	root := newRoot(&out, &errs)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// TestVolunteersEvening joins a run of one coordinator, pauses, changes limits as the page does, comes back, runs out of
// the day's upload, and says goodbye; then the folder is opened again by a newer process.
func TestVolunteersEvening(t *testing.T) {
	dir := t.TempDir()
	words := filepath.Join(dir, "words.txt")
	if err := os.WriteFile(words, bytes.Repeat([]byte("if err != nil { return err }\n"), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	lead := start(t, "coordinator", "--loopback", "--data-dir", filepath.Join(dir, "c"), "--data", words, "--preset", "pico", "--tokens", "1000000000", "--name", "evening")
	invite := lead.await("invite", func(out, _ string) string {
		_, rest, _ := strings.Cut(out, "invite  ")
		line, _, whole := strings.Cut(rest, "\n")
		if !whole {
			return ""
		}
		return line
	})
	home := filepath.Join(dir, "w")
	join := []string{"join", invite, "--loopback", "--data-dir", home, "--threads", "1", "--duty", "0.2", "--pause-on-battery=false", "--name", "Ana"}
	w := start(t, join...)
	w.says(`^dunlin joins   run \S+ "evening" \(public\), gpt2`)
	w.says(`^this machine   cpu .* tokens/s$`)
	w.says(`^it will        train on the CPU, micro-batch 2 · sends up to [\d.]+ [kMG]B and receives as much in a day of training · 20 % of the time · web page http://127.0.0.1:\d+/$`)
	w.says(`^training       step `)

	shot := func() *status.Snapshot {
		t.Helper()
		for began := time.Now(); ; {
			pages, err := (&Config{DataDir: home}).pages(nil)
			if err != nil {
				t.Fatal(err)
			}
			s, _, err := askPages(t.Context(), pages)
			if err == nil {
				return s
			}
			if time.Since(began) > time.Minute { // a question alone is not given so long
				t.Fatal(err)
			}
		}
	}
	until := func(what string, holds func(*status.Snapshot) bool) *status.Snapshot {
		t.Helper()
		for deadline := time.Now().Add(3 * time.Minute); ; <-time.After(20 * time.Millisecond) {
			if s := shot(); s.Machine != nil && holds(s) {
				return s
			} else if time.Now().After(deadline) {
				t.Fatalf("never %s: %+v\n%s", what, s.Machine, w.err.String())
			}
		}
	}
	gave := until("counted by the ledger", func(s *status.Snapshot) bool { return len(s.Thanks.Ranks) == 1 && s.Thanks.Ranks[0].Tokens > 0 })
	if g := gave.Thanks.Ranks[0]; !g.You || g.Rank != 1 || g.Name != "Ana" && g.Name != "" {
		t.Errorf("the leaderboard says %+v", g)
	}

	if out, err := runs(t, "pause", "--data-dir", home); err != nil || !strings.HasPrefix(out, "paused") {
		t.Fatalf("pause: %q, %v", out, err)
	}
	w.says(`^handing over   rounds after height \d+`)
	w.says(`^paused         you paused it; dunlin resume goes on$`)
	paused := until("paused", func(s *status.Snapshot) bool {
		return s.Machine.State == "paused" && s.Run.Phase == "paused" && s.Speed.Own == nil
	})
	if m := paused.Machine; !m.Paused || m.SentToday == 0 {
		t.Errorf("while it is paused: %+v", m)
	}

	// Limits: all of a change or none of it.
	pages, err := (&Config{DataDir: home}).pages(nil)
	if err != nil {
		t.Fatal(err)
	}
	set := func(limits map[string]string) error {
		return steer(t.Context(), pages[0], status.Change{Limits: limits})
	}
	for _, bad := range []map[string]string{{"up": "1"}, {"schedule": "22-7"}, {"up": "2mbit", "duty": "7"}, {"name": "x"}} {
		if err := set(bad); err == nil || !strings.Contains(err.Error(), "allowed: ") {
			t.Errorf("%v: %v", bad, err)
		}
	}
	value := func(s *status.Snapshot, key string) string {
		for _, l := range s.Machine.Limits {
			if l.Key == key {
				return l.Value
			}
		}
		return "no such limit"
	}
	if got := value(shot(), "up"); got != "" {
		t.Errorf("a refused change left up at %q", got)
	}
	if err := set(map[string]string{"up": "20mbit", "duty": "0.5"}); err != nil {
		t.Fatal(err)
	}
	if _, err := runs(t, "resume", "--data-dir", home); err != nil {
		t.Fatal(err)
	}
	again := until("training again", func(s *status.Snapshot) bool {
		n := len(s.Peers)
		return s.Machine.State == "training" && n > 0 && s.Peers[n-1].You && s.Peers[n-1].Step >= 20 // one alone has no rest yet
	})
	if value(again, "up") != "20mbit" || value(again, "duty") != "0.5" || value(again, "threads") != "1" {
		t.Errorf("limits now: %+v", again.Machine.Limits)
	}
	if own := again.Peers[len(again.Peers)-1]; own.Utilisation > 0.9 {
		t.Errorf("in steps for %v of the time with a duty of a half", own.Utilisation)
	}

	// The day's upload is used up: it pauses by itself, until midnight.
	if err := set(map[string]string{"up-per-day": "1kB"}); err != nil {
		t.Fatal(err)
	}
	spent := until("out of upload", func(s *status.Snapshot) bool { return s.Machine.State == "paused" })
	if m := spent.Machine; !strings.Contains(m.Reason, "today's upload") || m.Until == nil || m.Paused {
		t.Errorf("out of upload: %+v", m)
	}
	if err := set(map[string]string{"up-per-day": "0"}); err != nil {
		t.Fatal(err)
	}
	until("training at last", func(s *status.Snapshot) bool { return s.Machine.State == "training" })
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	w.says(`^handing over   rounds after height [\d,]+ … saved … goodbye \(you gave \S+( [kM])? tokens, rank 1 of 1\)$`)
	if _, err := runs(t, "pause", "--data-dir", home); err == nil || !strings.Contains(err.Error(), "no peer runs in") {
		t.Errorf("pause of nobody: %v", err)
	}
	if _, err := runs(t, "pause", lead.await("page", func(out, _ string) string {
		return regexp.MustCompile(`http://\S+`).FindString(out)
	})); err == nil || !strings.Contains(err.Error(), "not of a worker") {
		t.Errorf("pause of a coordinator: %v", err)
	}

	// A folder of an older release has none of these.
	for _, name := range []string{allowances, filepath.Join("runs", "*", "thanks")} {
		found, err := filepath.Glob(filepath.Join(home, name))
		if err != nil || len(found) > 1 {
			t.Fatalf("%s: %v, %v", name, found, err)
		}
		for _, path := range found { // gifts are kept at a checkpoint, which a slow machine may not have come to
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}

	// The next process knows the limits; its flags come before them.
	next := start(t, append(join, "--up", "30mbit")...)
	next.says(`^it will .* at most 30.0 Mbit/s up .* 20 % of the time`) // duty is a flag, too
	next.says(`^training       step `)
	if s := shot(); value(s, "up") != "30mbit" || value(s, "up-per-day") != "0" {
		t.Errorf("limits of the next process: %+v", s.Machine.Limits)
	}
	if err := next.end(); err != nil {
		t.Error(err)
	}
	if err := lead.end(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
