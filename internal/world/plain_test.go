package world

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/engine"
	"dunlin/optimizer"
	"dunlin/recipe"
	"dunlin/training"
	"dunlin/wire"
)

// recorder keeps what an engine was asked for.
type recorder struct {
	engine.Engine
	positions [][]uint64
	progress  []float64
}

func (r *recorder) Step(positions []uint64, progress float64) (float64, error) {
	r.positions = append(r.positions, slices.Clone(positions))
	r.progress = append(r.progress, progress)
	return r.Engine.Step(positions, progress)
}

// off is how far rounding may take weights from each other, relative to their
// norm: measured are 6e-7 at most after 190 steps.
const off = 1e-5

// TestOneWorkerIsPlainTraining is a metamorphic law of R1 and R3a: a swarm of
// one worker with outer learning rate 1, no momentum and an exact codec makes
// what `dunlin train` makes of the same text, seed and schedule. The worker's
// weights go through anchors, snapshots, the outer step and merges while it
// trains on, so they equal plain training's to rounding only; the data and the
// clock of every schedule are the same exactly.
func TestOneWorkerIsPlainTraining(t *testing.T) {
	const steps = 160
	for _, fragments := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d fragments", fragments), func(t *testing.T) {
			w := newWorld(t, nil, func(r *recipe.Run) {
				r.H, r.Fragments, r.OuterLR, r.Momentum, r.Contribution, r.Result = 8, fragments, 1, 0, "fp32", "fp32"
				r.TokenBudget = steps * uint64(r.Batch*r.Model.Context)
			})
			w.start(place{})
			var made *recorder
			n := w.start(place{key: 2, dir: scratch(t), engine: func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) {
				e, err := cpuEngine(t)(spec, tokens, joiner)
				made = &recorder{Engine: e}
				return made, err
			}})
			if err := n.finish(); err != nil {
				t.Fatal(err)
			}
			w.lead.halt()

			// Where each fragment's last commit ended.
			f := w.open(w.leadDir)
			ends := make([]uint64, fragments)
			f.commits(func(_ uint64, c *wire.Commit, table *wire.CommitTable) {
				ends[c.Fragment] = table.Contributors[0].To
			})
			plain := newPlain(t, w)
			plain.train(t, append(ends, steps), made)
			for i, got := range f.replay().Tensors() {
				end := ends[w.spec.Tensors[i].Fragment]
				if d := difference(got, plain.at[end][i]); !(d < off) {
					t.Errorf("%s after %d steps: off by %.3g of plain training's, want less than %g", got.Name, end, d, off)
				}
			}
			for i, tensor := range soloTraining(t, w, steps) {
				if !slices.Equal(tensor.Data, plain.at[steps][i]) {
					t.Errorf("%s: plain training is not what `dunlin train` does", tensor.Name)
				}
			}
		})
	}
}

// difference is the norm of a-b, relative to that of b. The bias of attention
// keys is left out: it moves no loss, its gradient is rounding alone, which
// AdamW brings to the size of the others.
func difference(a compute.Tensor, b []float32) float64 {
	from, to := 0, 0
	if strings.HasSuffix(a.Name, "attn.c_attn.bias") {
		from, to = len(b)/3, 2*len(b)/3
	}
	var diff, norm float64
	for i, x := range a.Data {
		if i < from || i >= to {
			diff += math.Pow(float64(x)-float64(b[i]), 2)
			norm += math.Pow(float64(b[i]), 2)
		}
	}
	return math.Sqrt(diff / norm)
}

// plain is one trainer without a swarm.
type plain struct {
	engine engine.Engine
	spec   *wire.RunSpec
	at     map[uint64][][]float32 // weights after so many steps
}

func newPlain(t *testing.T, w *world) *plain {
	t.Helper()
	e, err := cpuEngine(t)(w.spec, w.run.Corpus.Train, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	for i, tensor := range w.open(scratch(t)).replay().Tensors() { // of no commits: state 0
		copy(e.Live()[i], tensor.Data)
	}
	return &plain{engine: e, spec: w.spec, at: map[uint64][][]float32{}}
}

// train reads the permutation in order, keeps the weights at these steps and
// checks that the swarm's engine was asked for the same.
func (p *plain) train(t *testing.T, ends []uint64, seen *recorder) {
	t.Helper()
	positions := make([]uint64, p.spec.Data.Batch)
	for step := uint64(1); step <= slices.Max(ends); step++ {
		for i := range positions {
			positions[i] = (step-1)*p.spec.Data.Batch + uint64(i)
		}
		progress := p.spec.Progress(float64(step * p.spec.StepTokens()))
		if !slices.Equal(seen.positions[step-1], positions) || seen.progress[step-1] != progress {
			t.Fatalf("step %d of the swarm: positions %d at progress %v, plain training: %d at %v",
				step, seen.positions[step-1], seen.progress[step-1], positions, progress)
		}
		if _, err := p.engine.Step(positions, progress); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(ends, step) {
			for _, live := range p.engine.Live() {
				p.at[step] = append(p.at[step], slices.Clone(live))
			}
		}
	}
}

// soloTraining is `dunlin train` with the run's settings.
func soloTraining(t *testing.T, w *world, steps int) []compute.Tensor {
	t.Helper()
	device, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	f := func(x wire.Float) float64 { return float64(x.Value()) }
	in := w.spec.Inner
	out := scratch(t) + "/out"
	solo, err := training.NewSolo(device, training.SoloConfig{
		Trainer: training.TrainerConfig{
			Model: w.run.Model, Batch: w.run.Batch,
			LR:          optimizer.Schedule{Peak: f(in.LR), WarmUp: f(in.Warmup), Final: f(in.FinalRate), Shape: optimizer.Cosine},
			WeightDecay: optimizer.Schedule{Peak: f(in.Decay), Shape: optimizer.Constant},
			AdamW:       optimizer.AdamWConfig{Beta1: f(in.Beta1), Beta2: f(in.Beta2), Eps: f(in.Eps), Clip: f(in.Clip)},
		},
		Data: w.run.Corpus.Dataset(), Seed: w.spec.Seed, Steps: steps, Out: out, LogEvery: steps, EvalWindows: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer solo.Close()
	if _, err := solo.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	return c.Model
}
