package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"dunlin/compress"
	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/contribution"
	"dunlin/data"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/recipe"
	"dunlin/replica"
	"dunlin/round"
	"dunlin/store"
	"dunlin/wire"
)

// batch is the windows of one inner step of all workers together, for every arm.
const batch = 8

// study is what all arms of a comparison share.
type study struct {
	model   model.Config
	corpus  *data.Corpus
	heldOut data.Windows
	steps   int // inner steps of an arm
	windows int // held-out windows of the final loss
	curve   int // held-out windows of the losses on the way
}

// point is the held-out loss of the committed state at an inner step.
type point struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
}

// outcome is what one arm came to with one seed.
type outcome struct {
	Arm              string  `json:"arm"`
	Seed             uint64  `json:"seed"`
	Workers          int     `json:"workers"`
	Loss             float64 `json:"loss"` // nats a byte on all held-out windows, of the committed state
	Curve            []point `json:"curve"`
	OuterSteps       float64 `json:"outer_steps"`       // commits ÷ fragments
	ContributionBits float64 `json:"contribution_bits"` // a parameter and outer step: frames, without what carries them
	ResultBits       float64 `json:"result_bits"`
	UploadBits       float64 `json:"upload_bits"` // (workers−1)/workers of both
	Ratio            float64 `json:"bytes_ratio_fp32_data_parallel"`
	CodecNanos       float64 `json:"codec_ns_per_parameter"` // encoding, summing and the outer step, a worker and outer step
	Seconds          float64 `json:"seconds"`
}

// trial trains one arm in this process: the trainers, trackers, sums and replica that a
// swarm's peers have, in lockstep instead of over a network.
type trial struct {
	study   *study
	arm     arm
	seed    uint64
	spec    *wire.RunSpec
	device  *cpu.Device
	replica *replica.Replica
	judge   *model.Model
	workers []*worker
	owner   *contribution.Owner
	pipe    *pipeline // nil without stages
	rng     *rand.Rand
	out     outcome
	bytes   struct{ contributions, results int }
	codec   time.Duration
	commits int
}

// worker is one member: its engine or those of its stages, its trackers and its live parameters by fragment.
type worker struct {
	engine   *engine.Local
	stages   []*engine.Stage
	trackers []*contribution.Tracker
	live     [][][]float32
	sent     []*contribution.Contribution // by fragment, undecided
	included []bool                       // by fragment: the commit under way has it
	ends     []int                        // by fragment: step at which the last committed interval ended
}

// pending is a commit that workers have not merged yet.
type pending struct{ fragment, due int }

func newTrial(s *study, a arm, seed uint64) (*trial, error) {
	t := &trial{study: s, arm: a, seed: seed, rng: rand.New(rand.NewPCG(seed, 0xc0))}
	t.out = outcome{Arm: a.Text, Seed: seed, Workers: a.Workers}
	run := recipe.DefaultRun()
	run.Recipe, run.Name, run.Model, run.Corpus, run.Seed = a.Recipe, "convergence", s.model, s.corpus, seed
	run.Batch, run.TokenBudget = batch/a.Workers, uint64(s.steps*batch*s.model.Context)
	if a.Global || a.Together {
		run.Batch = batch
	}
	run.Model.Subspace = a.Subspace
	run.Stages, run.Activation, run.Micro, run.Synchronous = a.Stages, a.Activation, a.Micro, a.Together
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signed, err := run.Spec(key, []wire.PeerID{wire.PeerIDOf(key)}, func(b []byte) (store.Hash, error) { return store.HashLeaf(b), nil })
	if err != nil {
		return nil, err
	}
	if t.spec, err = signed.Open(wire.HashLeaf(signed.Spec)); err != nil {
		return nil, err
	}
	if t.replica, err = replica.New(t.spec); err != nil {
		return nil, err
	}
	if t.device, err = cpu.New(cpu.Options{Threads: 1}); err != nil {
		return nil, err
	}
	if t.judge, err = model.New(s.model, t.device, batch); err != nil {
		return nil, err
	}
	contributions, err := compress.ByName(t.spec.Contribution)
	if err != nil {
		return nil, err
	}
	results, err := compress.ByName(t.spec.Result)
	if err != nil {
		return nil, err
	}
	t.owner = contribution.NewOwner(wire.PeerID{1}, contributions, results, t.spec.OwnerDecay.Value())
	members := a.Workers
	if a.Global {
		members = 1
	}
	if a.Join > 0 {
		members--
	}
	for range members {
		if err := t.admit(0, false); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// admit takes in a worker that has trained nothing and starts from the committed weights.
func (t *trial) admit(step int, joiner bool) error {
	codec, err := compress.ByName(t.spec.Contribution)
	if err != nil {
		return err
	}
	n := t.spec.Fragments
	w := &worker{sent: make([]*contribution.Contribution, n), included: make([]bool, n), ends: make([]int, n)}
	if t.arm.Stages > 1 {
		w.stages, err = t.stages(joiner)
	} else {
		w.engine, err = engine.NewLocal(t.spec, t.device, t.study.corpus.Train, joiner, "", model.Room{})
	}
	if err != nil {
		return err
	}
	tensors := w.tensors()
	for f := range int(t.spec.Fragments) {
		var live [][]float32
		for _, i := range t.spec.FragmentTensors(f) {
			live = append(live, tensors[i])
		}
		version, weights := t.replica.Weights(f)
		tracker, err := contribution.New(contribution.Config{
			Layout: t.replica.Layout(f), Codec: codec, Merge: optimizer.Merge(t.spec.Merge), Decay: t.spec.Decay.Value(), Alpha: t.spec.Alpha.Value(),
		}, version, weights)
		if err != nil {
			return err
		}
		if err := tracker.Restart(live, version, weights); err != nil {
			return err
		}
		w.live, w.trackers, w.ends[f] = append(w.live, live), append(w.trackers, tracker), step
	}
	t.workers = append(t.workers, w)
	return nil
}

// tensors are a worker's parameters in the run spec's order.
func (w *worker) tensors() [][]float32 {
	if w.engine == nil {
		return together(w.stages)
	}
	return w.engine.Live()
}

// close gives all memory back.
func (t *trial) close() error {
	for _, w := range t.workers {
		for _, e := range w.stages {
			if err := e.Close(); err != nil {
				return err
			}
		}
		if w.engine == nil {
			continue
		}
		if err := w.engine.Close(); err != nil {
			return err
		}
	}
	if err := t.judge.Close(); err != nil {
		return err
	}
	return t.device.Close()
}

// run trains to the end.
func (t *trial) run(ctx context.Context, say func(step int, loss float64)) (outcome, error) {
	start := time.Now()
	fragments := int(t.spec.Fragments)
	due := make([]int, fragments)
	for f := range due {
		due[f] = int(round.FirstDue(t.spec.H, f, fragments))
	}
	var open []pending
	join := int(t.arm.Join * float64(t.study.steps))
	for step := 1; step <= t.study.steps; step++ {
		if join > 0 && step == join {
			if err := t.admit(step-1, t.arm.Ramp); err != nil {
				return t.out, err
			}
		}
		if err := t.step(step); err != nil {
			return t.out, err
		}
		for len(open) > 0 && open[0].due <= step {
			if err := t.merge(open[0].fragment); err != nil {
				return t.out, err
			}
			open = open[1:]
		}
		for f := range due {
			if t.arm.Global || step < due[f] {
				continue
			}
			due[f] += int(t.spec.H)
			if err := t.round(f, step); err != nil {
				return t.out, err
			}
			if open = append(open, pending{f, step + t.arm.Tau}); t.arm.Tau == 0 {
				open = open[:len(open)-1]
				if err := t.merge(f); err != nil {
					return t.out, err
				}
			}
		}
		if step%max(1, t.study.steps/20) == 0 {
			loss, err := t.loss(ctx, t.study.curve)
			if err != nil {
				return t.out, err
			}
			t.out.Curve = append(t.out.Curve, point{step, loss})
			say(step, loss)
		}
	}
	loss, err := t.loss(ctx, t.study.windows)
	t.out.Loss = loss
	t.conclude(time.Since(start))
	return t.out, err
}

// step makes one inner step of every worker, each on its part of the step's windows.
func (t *trial) step(step int) error {
	if t.pipe != nil {
		return t.pass(step)
	}
	progress := float64(step) / float64(t.study.steps)
	each := int(t.spec.Data.Batch)
	positions := make([]uint64, each)
	for i, w := range t.workers {
		for j := range positions {
			positions[j] = uint64((step-1)*batch + i*each + j)
		}
		if _, err := w.engine.Step(positions, progress); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
	}
	return nil
}

// round encodes every worker's contribution, sums them slab by slab and commits.
func (t *trial) round(f, step int) error {
	began := time.Now()
	layout := t.replica.Layout(f)
	missing := 0
	for _, w := range t.workers {
		if err := w.trackers[f].Snapshot(w.live[f]); err != nil {
			return err
		}
		c, err := w.trackers[f].Encode()
		if err != nil {
			return err
		}
		w.sent[f] = c
		w.included[f] = t.rng.Float64() >= t.arm.Miss || missing == len(t.workers)-1
		if !w.included[f] {
			missing++
			continue
		}
		t.bytes.contributions += c.Bytes()
	}
	version, _ := t.replica.Weights(f)
	table := &wire.CommitTable{}
	frames := make([][]byte, layout.Slabs())
	for s := range frames {
		var shares []contribution.Share
		for _, w := range t.workers {
			share := contribution.Share{Weight: t.spec.StepTokens() * uint64(step-w.ends[f]), Clip: 1, Norm: w.sent[f].Norm}
			if w.included[f] {
				share.Frame = w.sent[f].Frames[s]
			}
			shares = append(shares, share)
		}
		from, to := layout.SlabValues(s)
		sum, err := t.owner.Sum(contribution.Work{Fragment: uint64(f), Slab: uint64(s), Base: version, Values: to - from}, shares)
		if err != nil {
			return err
		}
		frames[s] = sum.Frame
		t.bytes.results += len(sum.Frame)
		table.Slabs = append(table.Slabs, wire.SlabResult{
			Slab: uint64(s), Owner: wire.PeerID{1}, Hash: wire.HashLeaf(sum.Frame), Before: sum.Before, After: sum.After,
		})
	}
	shadow, err := t.replica.Prepare(f, version, frames)
	if err != nil {
		return err
	}
	commit := &wire.Commit{Fragment: uint64(f), Base: version, BaseState: t.replica.Heads()[f].State, Result: shadow.Result(), State: shadow.State()}
	if err := t.replica.Promote(shadow, commit); err != nil {
		return err
	}
	t.owner.Settle(uint64(f), version, table)
	for _, w := range t.workers {
		if w.included[f] {
			w.ends[f] = step
		}
	}
	t.commits++
	t.codec += time.Since(began)
	return nil
}

// merge has every worker merge the newest commit of a fragment.
func (t *trial) merge(f int) error {
	version, weights := t.replica.Weights(f)
	for _, w := range t.workers {
		if w.trackers[f].Version() == version {
			continue // it joined with this version
		}
		included := w.included[f]
		if _, err := w.trackers[f].Merge(w.live[f], contribution.Commit{Version: version, Weights: weights, Included: func(int) bool { return included }}); err != nil {
			return err
		}
	}
	return nil
}

// loss measures the committed state, or the one model of data-parallel.
func (t *trial) loss(ctx context.Context, windows int) (float64, error) {
	tensors := t.replica.Tensors()
	if t.arm.Global {
		for i := range tensors {
			tensors[i] = compute.Tensor{Name: tensors[i].Name, Shape: tensors[i].Shape, Data: t.workers[0].engine.Live()[i]}
		}
	}
	if err := t.judge.Load(tensors); err != nil {
		return 0, err
	}
	loss, err := t.judge.Evaluate(ctx, t.study.heldOut, t.study.heldOut.Spread(windows))
	if err == nil && math.IsNaN(loss) {
		err = fmt.Errorf("arm %s: the loss is no number", t.arm.Text)
	}
	return loss, err
}

// conclude turns counts into figures.
func (t *trial) conclude(took time.Duration) {
	o := &t.out
	o.Seconds = took.Seconds()
	if t.arm.Global {
		o.UploadBits = 32 * float64(t.spec.H) // once per inner step
		o.Ratio = 1
		return
	}
	n := float64(t.arm.Workers)
	o.OuterSteps = float64(t.commits) / float64(t.spec.Fragments)
	values := float64(t.spec.Parameters()) * o.OuterSteps
	o.ContributionBits = 8 * float64(t.bytes.contributions) / n / values
	o.ResultBits = 8 * float64(t.bytes.results) / values
	o.UploadBits = (n - 1) / n * (o.ContributionBits + o.ResultBits)
	if o.UploadBits > 0 { // one worker alone sends nothing
		o.Ratio = 32 * float64(t.spec.H) / o.UploadBits
	}
	o.CodecNanos = float64(t.codec.Nanoseconds()) / n / values
}
