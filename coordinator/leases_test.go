package coordinator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"dunlin/wire"
)

func TestIntervalsAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s intervals
		var want [64]bool
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		for range steps {
			from := rapid.Uint64Range(0, 63).Draw(t, "from")
			to := rapid.Uint64Range(from, 64).Draw(t, "to")
			add := rapid.Bool().Draw(t, "add")
			if add {
				s.add(span(from, to))
			} else {
				s.remove(span(from, to))
			}
			for p := from; p < to; p++ {
				want[p] = add
			}
			n := uint64(0)
			for p := range uint64(64) {
				in := len(s.overlap(span(p, p+1))) == 1
				if in != want[p] || in != s.covers(span(p, p+1)) {
					t.Fatalf("position %d: in %v is %v, want %v", p, s, in, want[p])
				}
				if in {
					n++
				}
			}
			if s.count() != n {
				t.Fatalf("%v counts %d, want %d", s, s.count(), n)
			}
			for i := 1; i < len(s); i++ {
				if s[i].From <= s[i-1].To {
					t.Fatalf("%v is not coalesced", s)
				}
			}
		}
	})
}

// trainee is a worker of the lease test: it consumes its leases in order and
// commits them fragment by fragment, as round.Member does.
type trainee struct {
	slot  wire.Slot
	order []uint64   // positions in the order of its leases
	step  uint64     // how many it has trained on
	done  [2]uint64  // of those, how many each fragment has committed
	open  [2]*ofOpen // what an attempt quotes
}

type ofOpen struct {
	to      uint64
	windows []wire.Range
}

func positionsOf(rs []wire.Range) []uint64 {
	var out []uint64
	for _, r := range rs {
		for p := r.From; p < r.To; p++ {
			out = append(out, p)
		}
	}
	return out
}

func rangesOf(positions []uint64) []wire.Range {
	var out []wire.Range
	for _, p := range positions {
		if n := len(out); n > 0 && out[n-1].To == p {
			out[n-1].To++
		} else {
			out = append(out, span(p, p+1))
		}
	}
	return out
}

// drill runs a swarm with deaths, misses and dropped attempts over the leases
// alone, until every position below total is consumed, and returns how often
// each was counted.
func drill(t *testing.T, seed uint64, workers int, total uint64) []int {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, uint64(workers)))
	l := newLeases(&wire.RunSpec{Fragments: 2, Model: wire.ModelSpec{Context: 1}, Data: wire.DataSpec{Batch: 1}})
	counted := make([]int, total)
	perFragment := [2]map[uint64]int{{}, {}}
	var swarm []*trainee
	last := wire.Slot(0)
	join := func() {
		last++
		l.begin(last)
		swarm = append(swarm, &trainee{slot: last})
	}
	for range workers {
		join()
	}
	tokens := uint64(0)
	for turn := 0; l.consumed.count() < total; turn++ {
		if turn > 1_000_000 {
			t.Fatalf("seed %d: stuck at %d of %d", seed, l.consumed.count(), total)
		}
		w := swarm[rng.IntN(len(swarm))]
		switch rng.IntN(8) {
		case 0: // a lease
			rs, err := l.propose(w.slot, 7)
			if err != nil {
				continue
			}
			// The stream ends at total here, so that every run leases the same.
			var kept []wire.Range
			for _, r := range rs {
				if r.From < total {
					kept = append(kept, span(r.From, min(r.To, total)))
				}
			}
			if len(kept) == 0 {
				delete(l.pending, w.slot)
				continue
			}
			l.leased(&wire.Lease{Slot: w.slot, Ranges: kept})
			w.order = append(w.order, positionsOf(kept)...)
		case 1, 2, 3: // a step
			if w.step < uint64(len(w.order)) {
				w.step++
				l.stepped(w.slot, w.step)
			}
		case 4: // an attempt, of some of the workers
			f := rng.IntN(2)
			var table wire.AttemptTable
			for _, x := range swarm {
				x.open[f] = nil
				if x.step > x.done[f] && rng.IntN(4) > 0 {
					windows := rangesOf(x.order[x.done[f]:x.step])
					if err := l.check(x.slot, uint64(f), windows); err != nil {
						t.Fatalf("seed %d: an honest contribution of slot %d is refused: %v", seed, x.slot, err)
					}
					x.open[f] = &ofOpen{to: x.step, windows: windows}
					table.Members = append(table.Members, wire.AttemptMember{Ready: wire.SignedReady{Ready: wire.Ready{Slot: x.slot, Windows: windows}}})
				}
			}
			l.attempted(uint64(f), 0, &table)
		case 5, 6: // its commit, in which some are missing
			f := rng.IntN(2)
			held := l.held[uint64(f)]
			if held == nil {
				continue
			}
			table := wire.CommitTable{Slabs: []wire.SlabResult{{}}}
			for i, slot := range sorted(held.by) {
				windows := held.by[slot]
				table.Contributors = append(table.Contributors, wire.Contributor{Slot: slot, Windows: windows})
				if rng.IntN(5) == 0 {
					continue
				}
				if err := l.check(slot, uint64(f), windows); err != nil {
					t.Fatalf("seed %d: slot %d of an open attempt may not commit: %v", seed, slot, err)
				}
				table.Slabs[0].Members |= 1 << i
				for _, p := range positionsOf(windows) {
					if perFragment[f][p]++; perFragment[f][p] > 1 {
						t.Fatalf("seed %d: fragment %d commits position %d twice", seed, f, p)
					}
				}
				for _, x := range swarm {
					if x.slot == slot && x.open[f] != nil {
						x.done[f] = x.open[f].to
					}
				}
			}
			fresh := l.fresh(&table)
			before := l.consumed.clone()
			l.committed(uint64(f), &table)
			var news intervals
			news.addAll(l.consumed)
			news.removeAll(before)
			if news.count() != fresh {
				t.Fatalf("seed %d: %d windows are new, %d were announced", seed, news.count(), fresh)
			}
			tokens += fresh
			for _, p := range positionsOf(news) {
				counted[p]++
			}
			for _, x := range swarm {
				x.open[f] = nil
			}
		case 7: // a death, now and then, and a successor
			if rng.IntN(10) == 0 {
				l.end(w.slot)
				swarm = slices.DeleteFunc(swarm, func(x *trainee) bool { return x == w })
				join()
			}
		}
	}
	if tokens != total {
		t.Fatalf("seed %d: %d tokens are counted for %d windows", seed, tokens, total)
	}
	if l.next > total || len(l.consumed) != 1 {
		t.Fatalf("seed %d: leased to %d, consumed %v; the set should be one range of %d", seed, l.next, l.consumed, total)
	}
	return counted
}

func TestEveryWindowIsCommittedOnceForAnyNumberOfWorkers(t *testing.T) {
	for _, workers := range []int{1, 3, 8} {
		for seed := range uint64(40) {
			t.Run(fmt.Sprintf("%d workers seed %d", workers, seed), func(t *testing.T) {
				for p, n := range drill(t, seed, workers, 300) {
					if n != 1 {
						t.Errorf("position %d is counted %d times", p, n)
					}
				}
			})
		}
	}
}

func TestAForgottenCommitIsNotLeasedAgain(t *testing.T) {
	l := newLeases(testSpec())
	l.begin(1)
	l.leased(&wire.Lease{Slot: 1, Ranges: []wire.Range{span(0, 20)}})
	l.forget(0)
	l.end(1)
	if len(l.returned) != 0 {
		t.Errorf("%v would be leased again, though a commit may have consumed it", l.returned)
	}
}

func TestALateAttemptTakesBackWhatWasReturned(t *testing.T) {
	l := newLeases(testSpec())
	l.begin(1)
	l.leased(&wire.Lease{Slot: 1, Ranges: []wire.Range{span(0, 20)}})
	l.end(1)
	table := &wire.AttemptTable{Members: []wire.AttemptMember{{Ready: wire.SignedReady{Ready: wire.Ready{Slot: 1, Windows: []wire.Range{span(0, 5)}}}}}}
	l.attempted(0, 0, table)
	if want := (intervals{span(5, 20)}); !slices.Equal(l.returned, want) {
		t.Errorf("returned %v, want %v: the attempt quotes the rest", l.returned, want)
	}
	l.attempted(0, 0, &wire.AttemptTable{})
	if want := (intervals{span(0, 20)}); !slices.Equal(l.returned, want) {
		t.Errorf("returned %v, want %v after the attempt is dropped", l.returned, want)
	}
}

func TestANewReignReturnsWhatAnOldAttemptHeldBack(t *testing.T) {
	l := newLeases(testSpec())
	l.begin(1)
	l.leased(&wire.Lease{Slot: 1, Ranges: []wire.Range{span(0, 20)}})
	l.attempted(1, 0, &wire.AttemptTable{Members: []wire.AttemptMember{{Ready: wire.SignedReady{Ready: wire.Ready{Slot: 1, Windows: []wire.Range{span(0, 5)}}}}}})
	l.end(1)
	if want := (intervals{span(5, 20)}); !slices.Equal(l.returned, want) {
		t.Errorf("returned %v, want %v", l.returned, want)
	}
	l.newReign()
	if want := (intervals{span(0, 20)}); !slices.Equal(l.returned, want) {
		t.Errorf("returned %v after a new reign, want %v", l.returned, want)
	}
}
