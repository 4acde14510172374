package recipe

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/compress"
	"dunlin/compute"
	"dunlin/contribution"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/replica"
	"dunlin/training"
	"dunlin/wire"
)

// This file is the one place that turns a RunSpec into the configurations of
// the packages that compute, and back.

// describeModel fills in the spec's model and its tensors; fragment says where
// each parameter belongs.
func describeModel(spec *wire.RunSpec, cfg model.Config, fragment []uint64) {
	spec.Model = wire.ModelSpec{
		Family: cfg.Family.String(), Layers: uint64(cfg.Layers), Heads: uint64(cfg.Heads), Width: uint64(cfg.Width),
		Context: uint64(cfg.Context), Vocab: uint64(cfg.Vocab),
		KVHeads: uint64(cfg.KVHeads), Hidden: uint64(cfg.Hidden), RopeTheta: wire.FloatOf(cfg.RopeTheta), NormEps: wire.FloatOf(cfg.NormEps),
		Untied: cfg.Untied, Subspace: uint64(cfg.Subspace),
	}
	spec.Tensors = nil
	for i, p := range cfg.Params() {
		t := wire.TensorSpec{Name: p.Name, Init: wire.InitKind(p.Init), Fragment: fragment[i]}
		for _, d := range p.Shape {
			t.Shape = append(t.Shape, uint64(d))
		}
		for _, d := range p.Corner {
			t.Corner = append(t.Corner, uint64(d))
		}
		if p.Init == model.InitNormal || p.Init == model.InitRows {
			t.Scale = wire.FloatOf(compute.InitScale(float64(p.Std)))
		}
		spec.Tensors = append(spec.Tensors, t)
	}
}

// Model returns the model's shape and refuses a spec whose tensors are
// not that model's, so that a worker never trains something else than the
// replicas hold.
func Model(spec *wire.RunSpec) (model.Config, error) {
	m := spec.Model
	family, err := model.ParseFamily(m.Family)
	if err != nil {
		return model.Config{}, fmt.Errorf("run spec: %w", err)
	}
	cfg := model.Config{
		Family: family, Layers: int(m.Layers), Heads: int(m.Heads), Width: int(m.Width), Context: int(m.Context), Vocab: int(m.Vocab),
		KVHeads: int(m.KVHeads), Hidden: int(m.Hidden), RopeTheta: m.RopeTheta.Value(), NormEps: m.NormEps.Value(), Untied: m.Untied, Subspace: int(m.Subspace),
	}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("run spec: %w", err)
	}
	params := cfg.Params()
	if len(params) != len(spec.Tensors) {
		return cfg, fmt.Errorf("run spec: %d tensors, a model of this shape has %d: the run was made by another release", len(spec.Tensors), len(params))
	}
	for i, p := range params {
		if t := spec.Tensors[i]; t.Name != p.Name || t.Size() != p.Size || len(t.Shape) != len(p.Shape) || int(t.Shape[0]) != p.Shape[0] {
			return cfg, fmt.Errorf("run spec: tensor %q %v where the model has %q %v: the run was made by another release", t.Name, t.Shape, p.Name, p.Shape)
		} else if !slices.EqualFunc(t.Corner, p.Corner, func(a uint64, b int) bool { return int(a) == b }) || (t.Init == wire.InitRows) != (p.Init == model.InitRows) {
			return cfg, fmt.Errorf("run spec: tensor %q moves in a corner of %v where the model's does in %v: the run was made by another release", t.Name, t.Corner, p.Corner)
		}
	}
	return cfg, nil
}

// Trainer returns what an inner step is, of a worker that starts with the run or
// joins it.
func Trainer(spec *wire.RunSpec, joiner bool) (training.TrainerConfig, error) {
	m, err := Model(spec)
	if err != nil {
		return training.TrainerConfig{}, err
	}
	rate := func(peak wire.Float) float64 { return float64(peak.Value()) }
	cfg := training.TrainerConfig{
		Model: m,
		Batch: int(spec.Data.Batch),
		LR: optimizer.Schedule{
			Peak: rate(spec.Inner.LR), WarmUp: rate(spec.Inner.Warmup), Final: rate(spec.Inner.FinalRate), Shape: optimizer.Cosine,
		},
		WeightDecay: optimizer.Schedule{Peak: rate(spec.Inner.Decay), Shape: optimizer.Constant},
		AdamW: optimizer.AdamWConfig{
			Beta1: rate(spec.Inner.Beta1), Beta2: rate(spec.Inner.Beta2), Eps: rate(spec.Inner.Eps), Clip: rate(spec.Inner.Clip), Joiner: joiner,
		},
	}
	if spec.Inner.Kind == wire.InnerMuon {
		cfg.Inner = optimizer.MuonConfig{
			Momentum: rate(spec.Inner.Momentum), Every: optimizer.MuonEvery(m.Width, cfg.Batch*m.Context), AdamW: cfg.AdamW,
		}
	}
	return cfg, cfg.Validate()
}

// Parts returns the blocks of each stage of a run with stages, and refuses a spec
// whose stages are not parts of the model.
func Parts(spec *wire.RunSpec) ([]model.Part, error) {
	cfg, err := Model(spec)
	if err != nil {
		return nil, err
	}
	parts := make([]model.Part, spec.StageCount())
	for i := range parts {
		parts[i] = model.Part{From: cfg.Layers}
	}
	params := cfg.Params()
	for i, p := range params {
		if p.Layer >= 0 {
			part := &parts[spec.StageOf(int(spec.Tensors[i].Fragment))]
			part.From, part.To = min(part.From, p.Layer), max(part.To, p.Layer+1)
		}
	}
	n := 0
	for stage, part := range parts {
		if err := part.Validate(cfg); err != nil {
			return nil, fmt.Errorf("run spec: stage %d: %w", stage, err)
		}
		for _, p := range cfg.PartParams(part) {
			i := slices.IndexFunc(params, func(q model.Param) bool { return q.Name == p.Name })
			if spec.StageOf(int(spec.Tensors[i].Fragment)) != stage {
				return nil, fmt.Errorf("run spec: tensor %q is not in stage %d, which has blocks [%d, %d)", p.Name, stage, part.From, part.To)
			}
			n++
		}
	}
	if n != len(params) {
		return nil, fmt.Errorf("run spec: %d of %d tensors are in a stage", n, len(params))
	}
	return parts, nil
}

// Contributions returns how each fragment is laid out and encoded.
func Contributions(spec *wire.RunSpec) ([]contribution.Config, error) {
	codec, err := compress.ByName(spec.Contribution)
	if err != nil {
		return nil, fmt.Errorf("run spec: contribution: %w", err)
	}
	var configs []contribution.Config
	for f := range int(spec.Fragments) {
		layout, err := replica.Layout(spec, f)
		if err != nil {
			return nil, fmt.Errorf("run spec: %w", err)
		}
		c := contribution.Config{Layout: layout, Codec: codec, Merge: optimizer.Merge(spec.Merge), Decay: spec.Decay.Value(), Alpha: spec.Alpha.Value()}
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("run spec: %w", err)
		}
		configs = append(configs, c)
	}
	return configs, nil
}

// Owner returns a peer's side of the sums.
func Owner(spec *wire.RunSpec, self wire.PeerID) (*contribution.Owner, error) {
	contributions, err := compress.ByName(spec.Contribution)
	if err != nil {
		return nil, fmt.Errorf("run spec: contribution: %w", err)
	}
	results, err := compress.ByName(spec.Result)
	if err != nil {
		return nil, fmt.Errorf("run spec: result: %w", err)
	}
	return contribution.NewOwner(self, contributions, results, spec.OwnerDecay.Value()), nil
}

// Check reports everything in a valid RunSpec that this program cannot do.
func Check(spec *wire.RunSpec) error {
	_, trainer := Trainer(spec, false)
	_, contributions := Contributions(spec)
	_, result := Owner(spec, wire.PeerID{})
	return errors.Join(trainer, contributions, result, checkStages(spec))
}

// checkStages reports what of a run with stages this program cannot do.
func checkStages(spec *wire.RunSpec) error {
	if !spec.Staged() {
		return nil
	}
	_, err := Parts(spec)
	between := checkBetween(spec)
	if spec.Synchronous {
		for stage := range spec.StageCount() {
			if n := StageSize(spec, stage); n > maxSummed {
				err = errors.Join(err, fmt.Errorf("run spec: stage %d has %d parameters; peers that step together exchange gradients of at most %d: choose more stages, or local steps", stage, n, maxSummed))
			}
		}
	}
	return errors.Join(err, between)
}

// What passes between stages passes in one message, of 16 MiB at most.
const (
	// maxSummed bounds the parameters of a stage whose peers step together: their sums pass.
	maxSummed = 4_000_000
	// maxCalled bounds the bytes of a stage's input and its output's gradient, as they are called for.
	maxCalled = 16<<20 - 1<<12
)

// checkBetween reports what cannot pass between stages.
func checkBetween(spec *wire.RunSpec) error {
	codec, err := compress.ByName(spec.Activation)
	if err != nil {
		return fmt.Errorf("run spec: activations: %w", err)
	}
	tokens := spec.Micro * spec.Model.Context
	values := tokens * spec.Model.Passed()
	if values > compress.MaxSlabValues {
		return fmt.Errorf("run spec: %d values between stages in a micro-batch, at most %d are passed: choose fewer windows", values, compress.MaxSlabValues)
	}
	if bytes := 2*codec.EncodedSlabBytes(int(values)) + 4*int(tokens); bytes > maxCalled {
		return fmt.Errorf("run spec: a micro-batch takes %d bytes as %s there and back, at most %d pass: choose fewer windows, or activations of fewer bits", bytes, spec.Activation, maxCalled)
	}
	return nil
}
