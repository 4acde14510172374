package contribution_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/compress"
	"dunlin/contribution"
	"dunlin/optimizer"
)

// volunteer is a worker as the law sees it: its tracker, its live parameters and the
// exact bookkeeping in float64.
type volunteer struct {
	tracker   *contribution.Tracker
	live      [][]float32
	movement  []float64 // sum of all inner steps, block order
	committed []float64 // sum of decoded shares that commits took
	base      []float32 // where live drift counts from
	sent      *contribution.Contribution
}

type world struct {
	t       *testing.T
	layout  *compress.Layout
	codec   compress.Codec
	rng     *rand.Rand
	outer   optimizer.Outer
	version uint64
	weights []float32
	moment  []float32
	workers []*volunteer
	largest float64 // largest magnitude that a rounding applied to
	rounds  int
}

func newWorld(t *testing.T, seed uint64, layout *compress.Layout, codec compress.Codec, workers int) *world {
	w := &world{
		t: t, layout: layout, codec: codec, rng: rand.New(rand.NewPCG(seed, 9)),
		outer:  optimizer.Outer{LearningRate: 0.7, Momentum: 0.9},
		moment: make([]float32, layout.Values()), weights: make([]float32, layout.Values()),
	}
	start := zeros(layout)
	for _, tensor := range start {
		for i := range tensor {
			tensor[i] = float32(w.rng.NormFloat64() * 0.1)
		}
	}
	layout.Gather(w.weights, start)
	cfg := contribution.Config{Layout: layout, Codec: codec, Merge: optimizer.Rebase, Decay: 1}
	for range workers {
		tracker, err := contribution.New(cfg, 0, w.weights)
		if err != nil {
			t.Fatal(err)
		}
		v := &volunteer{tracker: tracker, live: zeros(layout), base: w.weights}
		v.movement, v.committed = make([]float64, layout.Values()), make([]float64, layout.Values())
		layout.Scatter(v.live, w.weights)
		w.workers = append(w.workers, v)
	}
	return w
}

func zeros(l *compress.Layout) [][]float32 {
	var out [][]float32
	for _, s := range l.Shapes() {
		out = append(out, make([]float32, s.Values()))
	}
	return out
}

func (w *world) gather(v *volunteer) []float32 {
	out := make([]float32, w.layout.Values())
	w.layout.Gather(out, v.live)
	return out
}

// train makes inner steps and records how far the parameters really moved.
func (w *world) train(v *volunteer, steps int) {
	for range steps {
		before := w.gather(v)
		for _, tensor := range v.live {
			for i := range tensor {
				tensor[i] += float32(w.rng.NormFloat64() * 2e-3)
			}
		}
		for i, x := range w.gather(v) {
			v.movement[i] += float64(x) - float64(before[i])
			w.largest = max(w.largest, math.Abs(float64(x)))
		}
	}
}

func (w *world) snapshot(v *volunteer) {
	w.t.Helper()
	v.base = w.gather(v)
	if err := v.tracker.Snapshot(v.live); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) encode(v *volunteer) {
	w.t.Helper()
	c, err := v.tracker.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	v.sent = c
}

// commit sums what arrived of each slab, makes the outer step and has every worker
// merge. arrived says who delivered which slab.
func (w *world) commit(arrived func(worker, slab int) bool) {
	w.t.Helper()
	summer := contribution.NewSummer(w.codec, w.codec)
	mean := make([]float32, w.layout.Values())
	taken := make([][]bool, len(w.workers))
	for i := range taken {
		taken[i] = make([]bool, w.layout.Slabs())
	}
	for s := range w.layout.Slabs() {
		from, to := w.layout.SlabValues(s)
		shares := make([]contribution.Share, len(w.workers))
		for i, v := range w.workers {
			if v.sent != nil && arrived(i, s) {
				shares[i] = contribution.Share{Frame: v.sent.Frames[s], Weight: uint64(100 + i), Clip: 1, Norm: v.sent.Norm}
			}
		}
		sum, err := summer.Sum(to-from, shares)
		if err != nil {
			continue // nobody delivered: the slab keeps a zero gradient
		}
		for i, ok := range sum.Included {
			taken[i][s] = ok
		}
		if err := w.codec.Decode(mean[from:to], sum.Frame); err != nil {
			w.t.Fatal(err)
		}
		w.layout.ZeroPadding(mean[from:to], s) // as a replica does: a transform leaves something there
	}
	next, moment := make([]float32, len(w.weights)), make([]float32, len(w.weights))
	if !w.outer.Step(next, moment, w.weights, w.moment, mean) {
		w.t.Fatal("the outer step is not finite")
	}
	w.weights, w.moment = next, moment
	w.version++
	for i, v := range w.workers {
		w.book(v, taken[i])
		w.merge(v, func(s int) bool { return taken[i][s] })
	}
	w.rounds++
}

// book adds the decoded shares that the commit took.
func (w *world) book(v *volunteer, taken []bool) {
	w.t.Helper()
	for s, ok := range taken {
		if !ok {
			continue
		}
		from, to := w.layout.SlabValues(s)
		decoded := make([]float32, to-from)
		if err := w.codec.Decode(decoded, v.sent.Frames[s]); err != nil {
			w.t.Fatal(err)
		}
		for j, x := range decoded {
			v.committed[from+j] += float64(x)
		}
	}
}

func (w *world) merge(v *volunteer, included func(int) bool) {
	w.t.Helper()
	if _, err := v.tracker.Merge(v.live, contribution.Commit{Version: w.version, Weights: w.weights, Included: included}); err != nil {
		w.t.Fatal(err)
	}
	v.base, v.sent = w.weights, nil
}

// violation returns by how much the worst value breaks the law, in units of one
// rounding a round.
func (w *world) violation(v *volunteer) float64 {
	e := make([]float32, w.layout.Values())
	v.tracker.Feedback(e)
	live := w.gather(v)
	worst := 0.0
	for i := range live {
		held := v.committed[i] + float64(e[i]) + float64(v.base[i]) - float64(live[i])
		worst = max(worst, math.Abs(held+v.movement[i]))
	}
	ulp := w.largest * 0x1p-23
	return worst / (ulp * float64(w.rounds+1))
}

func layouts(t *testing.T) map[string]*compress.Layout {
	t.Helper()
	flat, err := compress.NewFlatLayout("w", 90, 32)
	if err != nil {
		t.Fatal(err)
	}
	tiled, err := compress.NewLayout([]compress.Shape{{Name: "w", Dims: []int{70, 65}}, {Name: "b", Dims: []int{70}}}, compress.MinSlabBytes/2)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*compress.Layout{"flat": flat, "tiled": tiled}
}

// TestLaw is R1: committed shares + e + live drift = total local movement, to one
// rounding a round, under misses, slabs that did not arrive, retries, workers that are
// late, and commits that come before the encoding.
func TestLaw(t *testing.T) {
	for name, layout := range layouts(t) {
		for _, kind := range append(compress.Names(), "ternary-35") {
			codec, err := compress.ByName(kind)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(name+"/"+codec.Name(), func(t *testing.T) {
				seeds, rounds := uint64(20), 25
				if name == "tiled" {
					seeds, rounds = 2, 8
				}
				for seed := range seeds {
					w := newWorld(t, seed, layout, codec, 3)
					for range rounds {
						w.randomRound()
						for i, v := range w.workers {
							if x := w.violation(v); x > 1 {
								t.Fatalf("seed %d, after %d rounds: worker %d breaks the law by %.3g roundings a round", seed, w.rounds, i, x)
							}
						}
					}
				}
			})
		}
	}
}

// randomRound lets every worker train and be ready, late or missed in its own way.
func (w *world) randomRound() {
	w.t.Helper()
	lost := make(map[[2]int]bool)
	for i, v := range w.workers {
		w.train(v, 1+w.rng.IntN(3))
		how := w.rng.IntN(10)
		if how == 0 {
			continue // late: the commit comes before its snapshot
		}
		w.snapshot(v)
		w.train(v, w.rng.IntN(3)) // it trains on while the round runs
		if how == 1 {
			continue // the commit comes between snapshot and encoding
		}
		w.encode(v)
		first := v.sent
		w.encode(v) // a second attempt sends the same bytes
		if v.sent != first {
			w.t.Fatal("a retry encoded again")
		}
		w.train(v, w.rng.IntN(2))
		for s := range w.layout.Slabs() {
			lost[[2]int{i, s}] = how == 2 || how == 3 && w.rng.IntN(2) == 0
		}
	}
	w.commit(func(worker, slab int) bool { return !lost[[2]int{worker, slab}] })
}

// TestLawCatchesBugs is the test of the test: with a wrong settlement the law must break.
func TestLawCatchesBugs(t *testing.T) {
	layout := layouts(t)["flat"]
	for name, bug := range map[string]func(w *world, v *volunteer){
		"a miss settled as taken": func(w *world, v *volunteer) {
			w.merge(v, func(int) bool { return true })
		},
		"a taken slab settled as missed": func(w *world, v *volunteer) {
			w.book(v, []bool{true, false, false})
			w.merge(v, nil)
		},
		"the anchor not moved": func(w *world, v *volunteer) {
			old := v.base
			w.merge(v, nil)
			v.base = old
		},
		"progress kept twice": func(w *world, v *volunteer) {
			// The missed movement stays in e and is put back into the live parameters.
			snap := v.base
			w.merge(v, nil)
			back := w.gather(v)
			for i := range back {
				back[i] += snap[i] - w.weights[i]
			}
			w.layout.Scatter(v.live, back)
		},
	} {
		w := newWorld(t, 1, layout, compress.Int8{}, 1)
		v := w.workers[0]
		w.train(v, 3)
		w.snapshot(v)
		w.encode(v)
		w.train(v, 1)
		next := make([]float32, len(w.weights))
		for i, x := range w.weights {
			next[i] = x * 0.99
		}
		w.weights = next
		w.version++
		bug(w, v)
		w.rounds++
		if x := w.violation(v); x < 10 {
			t.Errorf("%s: the law sees only %.3g roundings", name, x)
		}
	}
}

// TestAlone: one worker, rate 1, no momentum, exact codec: the committed weights are the
// worker's parameters at its snapshot, and training goes on as if no round had been.
func TestAlone(t *testing.T) {
	const seed = 4
	w := newWorld(t, seed, layouts(t)["tiled"], compress.FP32{}, 1)
	w.outer = optimizer.Outer{LearningRate: 1}
	v := w.workers[0]
	for round := range 5 {
		w.train(v, 4)
		w.snapshot(v)
		w.encode(v)
		snap := v.base
		before := w.gather(v)
		w.commit(func(int, int) bool { return true })
		for i, x := range w.gather(v) {
			if diff := math.Abs(float64(x) - float64(before[i])); diff > 1e-7 {
				t.Fatalf("seed %d, round %d: value %d moved by %g in a merge", seed, round, i, diff)
			}
			if diff := math.Abs(float64(w.weights[i]) - float64(snap[i])); diff > 1e-7 {
				t.Fatalf("seed %d, round %d: committed value %d is %g away from the snapshot", seed, round, i, diff)
			}
		}
	}
}

func ExampleTracker() {
	layout, _ := compress.NewFlatLayout("w", 4, 4)
	weights := []float32{1, 1, 1, 1}
	tracker, _ := contribution.New(contribution.Config{Layout: layout, Codec: compress.FP32{}, Merge: optimizer.Rebase, Decay: 1}, 0, weights)
	live := [][]float32{{1.5, 1, 1, 1}} // the worker trained
	_ = tracker.Snapshot(live)
	c, _ := tracker.Encode()
	live[0][1] = 2 // and trains on while the round runs
	_, _ = tracker.Merge(live, contribution.Commit{
		Version: 1, Weights: []float32{1.25, 1, 1, 1}, Included: func(int) bool { return true },
	})
	fmt.Println(c.Norm, live[0])
	// Output: 0.5 [1.25 2 1 1]
}
