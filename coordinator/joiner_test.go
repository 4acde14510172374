package coordinator

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dunlin/wire"
)

// joinerConfig is of a run with two windows a step.
func joinerConfig(h uint64) JoinerConfig {
	spec := testSpec()
	spec.H = h
	return JoinerConfig{Spec: spec}
}

// lifeLine turns one line of a joiner's script into an event.
func lifeLine(t *testing.T, height *uint64, words []string) JoinerEvent {
	t.Helper()
	num := func(i int) uint64 {
		n, err := strconv.ParseUint(words[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	logged := func(b wire.Body) JoinerEvent {
		*height++
		return Logged{Height: *height, Term: 1, Body: b}
	}
	switch words[0] {
	case "reached":
		return Reached{}
	case "lost":
		return Lost{Reason: "reset"}
	case "welcome":
		return Welcomed{Welcome: wire.Welcome{Slot: wire.Slot(num(1)), Head: 7, Term: 1}}
	case "refuse":
		return Refused{Refuse: wire.Refuse{Code: wire.RefuseCode(num(1)), Reason: "because"}}
	case "caughtup":
		return CaughtUp{Height: num(1)}
	case "warmed":
		return Warmed{StepTime: num(1)}
	case "windows":
		return WindowsLeft{Windows: num(1)}
	case "drain":
		return Drained{Reason: "ctrl-c", AtOnce: len(words) > 1}
	case "handed":
		return HandedOver{}
	case "diverged":
		return Diverged{Reason: "fragment 1 differs"}
	case "leave", "ban":
		op := wire.MemberLeave
		if words[0] == "ban" {
			op = wire.MemberBan
		}
		return logged(&wire.Member{Op: op, Slot: wire.Slot(num(1)), Peer: peerNamed("a"), Reason: "silent for 45s"})
	case "lease":
		return logged(&wire.Lease{Slot: wire.Slot(num(1)), Ranges: []wire.Range{span(0, num(2))}})
	case "phase":
		return logged(&wire.Settings{Phase: wire.Phase(num(1)), Reason: "token budget committed"})
	}
	t.Fatalf("unknown line %q", words)
	return nil
}

func TestJoinerTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/joiner", func(t *testing.T, path string) {
		var j *Joiner
		var height uint64
		start := time.Unix(1_700_000_000, 0)
		now := start
		names := letters()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			step := func(ev JoinerEvent) {
				fmt.Fprintf(&out, "%8s > %s\n", now.Sub(start).Round(time.Millisecond), ev)
				for _, eff := range j.Step(now, ev) {
					fmt.Fprintf(&out, "           %s\n", eff)
				}
			}
			if d.Cmd == "new" {
				var err error
				if j, err = NewJoiner(joinerConfig(24), rand.New(rand.NewPCG(1, 1))); err != nil {
					t.Fatal(err)
				}
				height = 7
				step(Tick{})
			}
			for line := range strings.Lines(d.Input) {
				words := strings.Fields(line)
				if len(words) == 0 {
					continue
				}
				if text, ok := strings.CutPrefix(words[0], "+"); ok {
					wait, err := time.ParseDuration(text)
					if err != nil {
						t.Fatal(err)
					}
					now = now.Add(wait)
					continue
				}
				if words[0] != "tick" {
					step(lifeLine(t, &height, words))
					continue
				}
				if at := j.Deadline(); at.IsZero() {
					out.WriteString("no deadline\n")
				} else {
					if at.After(now) {
						now = at
					}
					step(Tick{})
				}
			}
			return names.Replace(out.String())
		})
	})
}

// TestLeaseRequestTellsSteps: in a run so large that heartbeats are far apart a worker
// that asks for windows says first what it has trained.
func TestLeaseRequestTellsSteps(t *testing.T) {
	j, err := NewJoiner(joinerConfig(24), rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	j.Step(now, Tick{})
	for i := range 10_000 {
		j.Step(now, Logged{Height: uint64(i + 1), Term: 1, Body: &wire.Member{Op: wire.MemberAdmit, Slot: wire.Slot(i + 1), Peer: peerNamed("b")}})
	}
	for _, ev := range []JoinerEvent{
		Reached{}, Welcomed{Welcome: wire.Welcome{Slot: 10_000, Head: 10_000, Term: 1}}, CaughtUp{Height: 10_000}, Warmed{StepTime: 500_000}, WindowsLeft{Windows: 1 << 15},
	} {
		j.Step(now, ev)
	}
	if j.state != wire.StateTraining {
		t.Fatalf("it is %s", j.state)
	}
	beats := 0
	count := func(effects []JoinerEffect) (asked bool) {
		for _, e := range effects {
			switch e.(type) {
			case SendHeartbeat:
				beats++
			case RequestLease:
				asked = true
			default:
			}
		}
		return asked
	}
	for range 20 { // of a second
		now = now.Add(time.Second)
		count(j.Step(now, Tick{}))
	}
	if beats > 1 {
		t.Errorf("%d heartbeats within 20 s among 10,000 members", beats)
	}
	beats = 0
	if !count(j.Step(now, WindowsLeft{Windows: 1})) || beats != 1 {
		t.Errorf("it asks for windows with %d heartbeats, want one before", beats)
	}
}
