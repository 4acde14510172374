package core

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/round"
	"dunlin/wire"
)

// The bad peer of these tests is the second of five; the first round is a good one.
const (
	badOne   = 1
	badAmong = 5
)

// contribution is what an attempt takes of a slot: weight × clip factor × norm, 0 when
// the slot is not in it.
func (w *crowd) contribution(slot wire.Slot) float64 {
	for _, m := range w.table.Members {
		if r := &m.Ready.Ready; r.Slot == slot {
			return float64(m.Weight) * float64(m.Clip.Value()) * float64(r.Norm.Value()) / float64(r.Tokens)
		}
	}
	return 0
}

// TestBadPeer: whatever a peer claims of its work, a round's result takes at most
// three times the median of it, and what cannot be is refused with a reason. The
// others' rounds go on. Frames that are garbage, cut, too long or no numbers are the
// owners' to refuse (contribution, TestSumRefuses), broken messages and floods the
// network's (swarm, TestHostilePeersAreCutOff).
func TestBadPeer(t *testing.T) {
	for name, test := range map[string]struct {
		change func(r *wire.Ready)
		sign   int    // whose key signs the bad one's Ready
		reason string // why it is refused; "" where it is only clipped
	}{
		"absurd norm":      {func(r *wire.Ready) { r.Norm = wire.FloatOf(1e30) }, badOne, ""},
		"infinite norm":    {func(r *wire.Ready) { r.Norm = wire.FloatOf(float32(math.Inf(1))) }, badOne, "no norm"},
		"NaN":              {func(r *wire.Ready) { r.Norm = wire.FloatOf(float32(math.NaN())) }, badOne, "no norm"},
		"inflated tokens":  {func(r *wire.Ready) { r.Tokens *= 10 }, badOne, "at most 64 are possible"},
		"inflated steps":   {func(r *wire.Ready) { r.To = r.From + 1 }, badOne, "cannot train"},
		"another's lease":  {func(r *wire.Ready) { r.Windows = []wire.Range{{From: 0, To: crowdInterval}} }, badOne, "not leased to slot 2"},
		"a window twice":   {func(r *wire.Ready) { r.Windows = append(r.Windows, r.Windows[0]) }, badOne, "named twice"},
		"another's slot":   {func(r *wire.Ready) { r.Slot = 1 }, badOne, "not leased to slot 1"},
		"another's name":   {func(*wire.Ready) {}, 0, "signature"},
		"replay":           {func(r *wire.Ready) { r.From, r.To = 0, 4 }, badOne, "are committed"},
		"stale version":    {func(r *wire.Ready) { r.Base-- }, badOne, "the fragment's head is version"},
		"no such fragment": {func(r *wire.Ready) { r.Fragment = 9 }, badOne, "not in the run"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newCrowd(t, badAmong, badAmong)
			w.live(12 * time.Second) // a round of each fragment
			if w.commits < 2 || len(w.notes) > 0 && slices.ContainsFunc(w.notes, func(text string) bool { return strings.Contains(text, "refused") }) {
				t.Fatalf("%d commits before it is bad; %q", w.commits, w.notes)
			}
			before := w.commits
			w.notes = nil
			w.change = func(i int, r *wire.Ready) {
				if i == badOne {
					test.change(r)
				}
			}
			w.sign = func(i int) int {
				if i == badOne {
					return test.sign
				}
				return i
			}
			w.live(30 * time.Second)
			if w.commits < before+1 {
				t.Errorf("no commit while one is bad: %q", w.notes)
			}
			ordinary, bad := w.contribution(1), w.contribution(badOne+1)
			if bad > 3*ordinary*1.001 || test.reason != "" && bad != 0 {
				t.Errorf("a round takes %v of the bad one, %v of others", bad, ordinary)
			}
			if test.reason == "" {
				return
			}
			if !slices.ContainsFunc(w.notes, func(text string) bool {
				return strings.Contains(text, "refused") && strings.Contains(text, test.reason)
			}) {
				t.Errorf("no reason %q among %q", test.reason, w.notes)
			}
		})
	}
}

// TestStaleAttempt: sums, failures and holdings of an attempt that is decided change
// nothing, and are refused with a reason; so is another result for a slab that has one.
func TestStaleAttempt(t *testing.T) {
	w := newCrowd(t, badAmong, badAmong)
	w.live(12 * time.Second)
	old, before := w.newest, *w.c.leader
	for _, m := range []wire.Message{
		&wire.SlabDone{Attempt: old, Slabs: []wire.SlabResult{{Owner: w.ids[badOne], Hash: wire.Hash{1}, Length: 64, Weight: 64, Members: 1}}},
		&wire.SlabFailed{Attempt: old, Missing: 1, Reason: "so there"},
		&wire.Have{Base: w.c.log.heads[0].Version, Attempt: old, Result: wire.Hash{1}, State: wire.Hash{2}},
	} {
		w.notes = nil
		w.hear(badOne, m)
		if len(w.notes) != 1 || !strings.Contains(w.notes[0], "refused") || !strings.Contains(w.notes[0], "not the attempt that is") {
			t.Errorf("%T of an old attempt: %q", m, w.notes)
		}
	}
	if a, b := before.Snapshot(), w.c.leader.Snapshot(); len(a.Rounds) != len(b.Rounds) || a.Rounds[0].Phase != round.Collecting || b.Rounds[0].Phase != round.Collecting {
		t.Errorf("rounds %+v, they were %+v", b.Rounds, a.Rounds)
	}
}
