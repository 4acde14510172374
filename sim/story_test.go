package sim

import (
	"slices"
	"testing"
	"time"

	"dunlin/coordinator"
	"dunlin/wire"
)

// story runs a scenario to its end, where everything must have drained to one
// state. hook sees every durable entry and every message before it is sent.
func story(t *testing.T, sc Scenario, hook func(w *World, p *process, what any)) *World {
	t.Helper()
	sc.Record = true
	w, err := New(sc)
	if err != nil {
		t.Fatal(err)
	}
	if hook != nil {
		w.hook = func(p *process, what any) { hook(w, p, what) }
	}
	if err := w.Run(); err != nil {
		t.Fatalf("%v\n%s", err, w.Transcript())
	}
	return w
}

// commits returns all commits of a run.
func (w *World) commits() []*wire.Commit { return bodies[*wire.Commit](w) }

func bodies[B wire.Body](w *World) (out []B) {
	for i := range w.referee.books.entries {
		body, err := w.referee.books.entries[i].Entry.Body()
		if b, ok := body.(B); err == nil && ok {
			out = append(out, b)
		}
	}
	return out
}

// contributors returns who is in a commit.
func (w *World) contributors(c *wire.Commit) *wire.CommitTable {
	return w.referee.books.commits[c.Fragment][c.Base]
}

// restart kills a host now and starts it again later.
func (w *World) restart(h *host, after time.Duration) {
	h.kill("killed")
	w.after(after, nil, h.start)
}

// The interleavings below are named by the protocol document.

func TestLeaderCommitsAndDiesUntold(t *testing.T) {
	var died *wire.Commit
	w := story(t, Default(2), func(w *World, p *process, what any) {
		if c, ok := what.(*wire.Commit); ok && died == nil && c.Base == 1 {
			died = c
			w.restart(w.hosts[0], time.Second)
		}
	})
	if died == nil {
		t.Fatal("no commit came")
	}
	found := slices.ContainsFunc(w.commits(), func(c *wire.Commit) bool { return *c == *died })
	if !found || w.referee.ledTerm < 2 {
		t.Fatalf("the commit that nobody heard of stands: %t; term %d", found, w.referee.ledTerm)
	}
}

func TestAppendOutcomeUnknown(t *testing.T) {
	sc := Default(3)
	sc.Calm = 20 * time.Second
	sc.Faults = []Fault{{Kind: Unknown, At: 2 * time.Second, For: 15 * time.Second, Rate: 0.5}}
	if w := story(t, sc, nil); len(w.commits()) < 4 {
		t.Fatalf("%d commits", len(w.commits()))
	}
}

func TestRestoredBackup(t *testing.T) {
	sc := Default(4)
	sc.Calm = 30 * time.Second
	sc.Faults = []Fault{{Kind: Backup, At: 6 * time.Second, For: 9 * time.Second}}
	w := story(t, sc, nil)
	before := 0
	for _, e := range w.referee.books.entries {
		if e.Entry.Term == 1 {
			before++
		}
	}
	if w.referee.ledTerm != 2 || before < 20 {
		t.Fatalf("term %d; %d entries of term 1 are left, the backup forgot none that a worker had", w.referee.ledTerm, before)
	}
}

func TestSecondAttemptCommits(t *testing.T) {
	var first wire.AttemptID
	held := 0
	w := story(t, Default(5), func(w *World, p *process, what any) {
		switch m := what.(type) {
		case *wire.Have:
			if first.Counter == 0 { // one worker holds it, the others die
				first = m.Attempt
				for _, h := range w.hosts[1:] {
					if h != p.h {
						w.restart(h, 20*time.Second)
					}
				}
			}
			if m.Attempt == first {
				held++
			}
		}
	})
	c := w.commits()[0]
	if first.Counter == 0 || held == 0 || slices.ContainsFunc(w.commits(), func(c *wire.Commit) bool { return c.Attempt == first }) {
		t.Fatalf("attempt %s was held by %d; the first commit is %s's", first, held, c.Attempt)
	}
}

func TestContributorDeliversHalf(t *testing.T) {
	sc := Default(6)
	sc.Setup.Values, sc.Setup.SlabValues = []int{640}, 32
	sc.Setup.H = 12 // with shorter intervals nobody would wait for the slow one's Ready
	sc.Faults = []Fault{{Kind: Slow, Peer: 3, At: 0, For: sc.Calm, Rate: 0.001}}
	fragments := 0
	w := story(t, sc, func(w *World, p *process, what any) {
		if m, ok := what.(*wire.SlabDone); ok && m.Attempt.Counter == 1 && p.h.index != 3 {
			if fragments++; fragments == 3 {
				w.restart(w.hosts[3], 5*time.Second)
			}
		}
	})
	t1 := w.contributors(w.commits()[0])
	var sets []uint64
	for _, s := range t1.Slabs {
		if !slices.Contains(sets, s.Members) {
			sets = append(sets, s.Members)
		}
	}
	if len(sets) < 2 {
		t.Fatalf("every slab has members %b, want slabs with and without the one that died", sets)
	}
}

func TestMemberMissesCommit(t *testing.T) {
	missed := false
	w := story(t, Default(7), func(w *World, p *process, what any) {
		if c, ok := what.(*wire.Commit); ok && c.Base == 1 && !missed {
			missed = true
			w.hosts[2].freeze()
			w.after(5*time.Second, nil, w.hosts[2].thaw)
		}
	})
	versions := w.referee.books.heads[0].Version
	if !missed || versions < 4 {
		t.Fatalf("version %d", versions)
	}
	if admitted := len(bodies[*wire.Member](w)) / 2; admitted != 3 { // admissions and leaves
		t.Fatalf("%d slots were given, want the 3 of the start", admitted)
	}
}

func TestCrashAfterReadyStillCommits(t *testing.T) {
	var slot wire.Slot
	w := story(t, Default(8), func(w *World, p *process, what any) {
		m, ok := what.(*wire.SlabDone)
		if !ok || slot != 0 || m.Attempt.Counter != 1 {
			return
		}
		// Everybody who owns a slab has all that is needed of worker 2, unless it owns one.
		table := w.referee.books.attempts[m.Attempt]
		victim := w.hosts[2]
		for rank, member := range table.Members {
			if member.Peer == victim.id && m.Slabs[0].Includes(rank) && p.h != victim {
				slot = member.Ready.Ready.Slot
				w.restart(victim, time.Second)
			}
		}
	})
	if slot == 0 {
		t.Fatal("nobody summed what worker 2 had contributed")
	}
	if !slices.ContainsFunc(w.commits(), func(c *wire.Commit) bool { return w.contributors(c).Rank(slot) >= 0 }) {
		t.Fatal("the contribution of the worker that crashed is in no commit")
	}
	again := slices.ContainsFunc(bodies[*wire.Member](w), func(m *wire.Member) bool {
		return m.Op == wire.MemberAdmit && m.Peer == w.hosts[2].id && m.Slot != slot
	})
	if !again {
		t.Fatal("the worker that crashed got no new slot")
	}
}

func TestAllHoldersDieAfterCommit(t *testing.T) {
	died := false
	w := story(t, Default(9), func(w *World, p *process, what any) {
		if c, ok := what.(*wire.Commit); ok && !died && c.Base == 2 {
			died = true
			for _, h := range w.hosts[1:] {
				h.powerOff()
				w.after(2*time.Second, nil, h.start)
			}
		}
	})
	if !died || w.referee.books.heads[0].Version < 4 {
		t.Fatalf("version %d", w.referee.books.heads[0].Version)
	}
}

func TestTailCollectedWhileJoining(t *testing.T) {
	sc := Default(10)
	sc.Setup.Checkpoint, sc.Calm = 2, 30*time.Second
	sc.Links.Upload = 3e3
	sc.Faults = []Fault{{Kind: Join, At: 12 * time.Second}}
	w := story(t, sc, nil)
	joiner := w.hosts[4]
	if w.referee.since[joiner.id] == 0 {
		t.Fatal("nothing of the joiner is committed")
	}
	if first := slices.Min(slices.Collect(keys(joiner.disk.pins))); first < 10 {
		t.Fatalf("the joiner replayed from %d: its tail was not collected", first)
	}
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestSettingsBetweenOpenAndCommit(t *testing.T) {
	var open wire.AttemptID
	var moved bool
	w := story(t, Default(11), func(w *World, p *process, what any) {
		switch b := what.(type) {
		case *wire.Attempt:
			if open.Counter == 0 && b.Base == 1 {
				open = b.ID
				w.after(time.Millisecond, nil, func() { w.organise(coordinator.Change{Phase: wire.PhasePaused, Reason: "a break"}) })
				w.after(3*time.Second, nil, func() { w.organise(coordinator.Change{Phase: wire.PhaseTraining, Reason: "on"}) })
			}
		case *wire.Settings:
			moved = true
		}
	})
	paused := wire.Settings{Phase: wire.PhasePaused, Reason: "a break"}
	for _, c := range w.commits() {
		if c.Attempt == open && c.Settings != paused.Hash() {
			t.Fatalf("attempt %s was opened before the break and committed under settings %s", open, c.Settings.Short())
		}
	}
	if !moved || open.Counter == 0 {
		t.Fatal("no settings came between")
	}
}

func TestFragmentsCommitInReverse(t *testing.T) {
	sc := Default(12)
	sc.Setup.Values = []int{1600, 8} // the first one is slow to sum and to spread
	sc.Links.Upload = 6e3
	w := story(t, sc, nil)
	var newest wire.AttemptID
	reversed := false
	for _, c := range w.commits() {
		reversed = reversed || c.Attempt.Counter < newest.Counter
		newest = c.Attempt
	}
	if !reversed {
		t.Fatal("attempts committed in the order of their opening")
	}
}

func TestMajorityCutOffForFiftyRounds(t *testing.T) {
	sc := Default(13)
	sc.Workers, sc.Setup.H, sc.Setup.Values = 5, 2, []int{40}
	sc.Setup.StepTime = []time.Duration{150 * time.Millisecond}
	sc.Calm = 100 * time.Second
	sc.Faults = []Fault{{Kind: Split, Peer: 1, Rest: []int{2, 3}, At: 8 * time.Second, For: 90 * time.Second}}
	start, end := uint64(0), uint64(0)
	w := story(t, sc, func(w *World, p *process, what any) {
		if c, ok := what.(*wire.Commit); ok {
			if w.now < 15*time.Second {
				start = c.Base
			}
			if w.now < 97*time.Second {
				end = c.Base
			}
		}
	})
	if end-start < 50 {
		t.Fatalf("%d rounds while three of five were cut off", end-start)
	}
	for i := 1; i <= 3; i++ {
		if w.referee.since[w.hosts[i].id] == 0 {
			t.Fatalf("nothing of %s is committed after the cut", w.hosts[i].name)
		}
	}
}

func TestLidClosed(t *testing.T) {
	sc := Default(14)
	sc.Calm = 140 * time.Second
	sc.Faults = []Fault{{Kind: Freeze, Peer: 1, At: 6 * time.Second, For: 130 * time.Second}}
	w := story(t, sc, nil)
	if w.referee.since[w.hosts[1].id] == 0 || w.referee.repairs > 0 {
		t.Fatalf("after the lid opened: %d contributions committed, %d repairs", w.referee.since[w.hosts[1].id], w.referee.repairs)
	}
}

// TestAdmissionsOfUnknownOutcome: several admissions of one worker reach the
// log. It ends up with one slot, and nobody goes on giving it new ones.
func TestAdmissionsOfUnknownOutcome(t *testing.T) {
	for seed := range uint64(40) {
		sc := Default(seed)
		sc.Faults = []Fault{{Kind: Unknown, For: 3 * time.Second, Rate: 0.6}}
		w := story(t, sc, nil)
		if n := w.referee.books.lastSlot; n > 30 {
			t.Fatalf("seed %d: %d slots were given to three workers", seed, n)
		}
	}
}

// The organiser changes H and the outer learning rate twice while rounds go on: every peer makes every version with the
// same rate (the referee makes each outer step again), and no version that was under way is touched.
func TestTuningWhileRoundsGoOn(t *testing.T) {
	sc := Default(21)
	sc.Calm = 20 * time.Second
	sc.Faults = []Fault{{Kind: Tune, N: 9, At: 6 * time.Second, For: 5 * time.Second}, {Kind: Join, At: 15 * time.Second}}
	w := story(t, sc, nil)
	var tunings []*wire.Tuning
	heads := make([]uint64, w.spec.Fragments)
	for _, e := range bodies[wire.Body](w) {
		switch b := e.(type) {
		case *wire.Settings:
			if b.Tuning == nil {
				continue
			}
			for f, from := range b.Tuning.From {
				if n := len(tunings); from < heads[f]+wire.TuningAhead && (n == 0 || !tunings[n-1].Same(b.Tuning)) {
					t.Errorf("fragment %d at version %d is tuned from version %d", f, heads[f], from)
				}
			}
			tunings = append(tunings, b.Tuning)
		case *wire.Commit:
			heads[b.Fragment] = b.Base + 1
		default:
		}
	}
	if len(tunings) < 2 || tunings[0].H != 12 || tunings[len(tunings)-1].H != 12 || tunings[0].Same(tunings[len(tunings)-1]) {
		t.Fatalf("tunings %v, want H 12 with one rate and then with another", tunings)
	}
	if last := tunings[len(tunings)-1]; heads[0] <= last.From[0]+1 {
		t.Errorf("fragment 0 ends at version %d, nothing was made under the tuning from %d", heads[0], last.From[0])
	}
}
