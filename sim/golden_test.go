package sim

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"dunlin/wire"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt")

// check compares a transcript with the committed one.
func check(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name + ".txt"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	at := common(got, string(want))
	line := strings.Count(got[:at], "\n") + 1
	t.Errorf("%s differs from line %d on; look at the difference, explain it in the commit and run with -update", path, line)
}

// transcript runs a scenario up to a time.
func transcript(t *testing.T, sc Scenario, until time.Duration, hook func(w *World, p *process, what any)) string {
	t.Helper()
	sc.Record = true
	w, err := New(sc)
	if err != nil {
		t.Fatal(err)
	}
	if hook != nil {
		w.hook = func(p *process, what any) { hook(w, p, what) }
	}
	if w.RunUntil(until); w.Err() != nil {
		t.Fatalf("%v\n%s", w.Err(), w.Transcript())
	}
	return w.Transcript()
}

// TestThreeWorkers is how three workers join and commit the first versions.
func TestThreeWorkers(t *testing.T) {
	check(t, "three-workers", transcript(t, Default(1), 4*time.Second, nil))
}

// TestOwnerKilled is how slabs move on when their owner dies.
func TestOwnerKilled(t *testing.T) {
	killed := false
	check(t, "owner-killed", transcript(t, Default(1), 9*time.Second, func(w *World, _ *process, what any) {
		if _, ok := what.(*wire.Attempt); ok && !killed {
			killed = true
			w.after(100*time.Millisecond, nil, func() { w.restart(w.hosts[3], 6*time.Second) })
		}
	}))
}

// TestJoinerLoadsCheckpoint is how a joiner takes a checkpoint and the tail.
func TestJoinerLoadsCheckpoint(t *testing.T) {
	sc := Default(1)
	sc.Calm = 20 * time.Second
	sc.Faults = []Fault{{Kind: Join, At: 14 * time.Second}}
	var own strings.Builder
	for line := range strings.Lines(transcript(t, sc, 20*time.Second, nil)) {
		if strings.Contains(line, "w4") {
			own.WriteString(line)
		}
	}
	check(t, "joiner", own.String())
}
