package recipe

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"dunlin/data"
	"dunlin/model"
	"dunlin/pipeline"
	"dunlin/round"
	"dunlin/store"
	"dunlin/training"
	"dunlin/wire"
)

// Run is what an organiser chooses; everything else of a RunSpec follows.
type Run struct {
	Recipe
	Name        string // of the run, for people
	Model       model.Config
	Corpus      *data.Corpus
	Seed        uint64 // of weights and data order
	Batch       int    // windows in a worker's inner step
	TokenBudget uint64
	Checkpoint  int    // commits between two checkpoints
	Secret      []byte // join secret; empty for a public run
	Stages      int    // that the model is spread over, a peer each; 1 or less: every peer holds all of it
	Activation  string // codec of what passes between stages
	Micro       int    // windows in a micro-batch of a run with stages
	Synchronous bool   // all peers of all stages make each inner step together
	Deadlines   wire.DeadlineSpec
}

// DefaultRun returns the settings of the design for a small swarm; Name, Model,
// Corpus and TokenBudget are the caller's.
func DefaultRun() Run {
	return Run{Recipe: All()[0], Seed: 1, Batch: 2, Checkpoint: 24, Activation: "int8", Micro: 1, Deadlines: wire.DefaultDeadlines()}
}

// warmup is the share of a run in which the learning rate rises; final is what
// it falls to, as a share of the peak.
const (
	warmup = 0.04
	final  = 0.1
)

// muonMomentum is that of hidden matrices.
const muonMomentum = 0.95

// Spec returns the RunSpec of a run, signed with the organiser's key. Its data
// are packed into shards that go to put, which may only name them. The
// coordinators are one, three or five.
func (c Run) Spec(organiser ed25519.PrivateKey, coordinators []wire.PeerID, put func([]byte) (store.Hash, error)) (*wire.SignedSpec, error) {
	if c.Corpus == nil {
		return nil, errors.New("run: no text")
	}
	tokens := c.Corpus.Coder()
	if have, want := c.Model.Vocab, tokens.Vocab(); have < want || have >= want+training.VocabRoom {
		return nil, fmt.Errorf("run: a model with a vocabulary of %d: the text is read as %s, which have %d tokens; choose another preset or change the shape's vocabulary", have, tokens.Name(), want)
	}
	windows, err := data.WindowsOf(c.Model.Context, c.Corpus.Packed(c.Corpus.Train))
	if err != nil {
		return nil, fmt.Errorf("training text: %w", err)
	}
	if _, err := data.WindowsOf(c.Model.Context, c.Corpus.Packed(c.Corpus.HeldOut)); err != nil {
		return nil, fmt.Errorf("held-out text: %w", err)
	}
	if c.Stages > 1 {
		c.Model.Untied = true // the embedding and the head lie in different stages
	}
	f := func(x float64) wire.Float { return wire.FloatOf(float32(x)) }
	spec := &wire.RunSpec{
		Protocol: wire.Protocol, Name: c.Name, Seed: c.Seed, Fragments: uint64(c.Fragments), H: uint64(c.H),
		Data: wire.DataSpec{Tokenizer: wire.TokensByte, Windows: uint64(windows.Len()), Seed: c.Seed, Batch: uint64(c.Batch)},
		Inner: wire.InnerSpec{
			LR: f(c.LR), Beta1: f(0.9), Beta2: f(0.95), Eps: f(1e-8), Decay: f(0.1), Clip: f(1), Warmup: f(warmup), FinalRate: f(final),
		},
		Outer:        wire.OuterSpec{LR: f(c.OuterLR), Momentum: f(c.Momentum)},
		Contribution: c.Contribution, Result: c.Result, Merge: c.Merge, Decay: f(c.Decay), OwnerDecay: f(c.OwnerDecay), Alpha: f(c.Alpha), Overlap: c.Overlap, TokenBudget: c.TokenBudget, Deadlines: c.Deadlines,
		Checkpoint: uint64(c.Checkpoint), Coordinators: coordinators, Organiser: wire.PeerIDOf(organiser),
	}
	if c.Inner != wire.InnerAdamW {
		spec.Inner.Kind, spec.Inner.Momentum = c.Inner, f(muonMomentum)
	}
	if len(c.Secret) > 0 {
		spec.Secret = wire.HashLeaf(c.Secret)
	}
	if tokens.File() != nil {
		spec.Data.Tokenizer, spec.Data.EndOfText, spec.Data.Width = wire.TokensBPE, uint64(max(0, tokens.EndOfText())), uint64(c.Corpus.Width)
	}
	if spec.Data.Train, spec.Data.HeldOut, spec.Data.Vocabulary, err = c.pack(put); err != nil {
		return nil, err
	}
	fragment, err := c.layOut(spec)
	if err != nil {
		return nil, err
	}
	describeModel(spec, c.Model, fragment)
	if err := errors.Join(spec.Validate(), Check(spec)); err != nil {
		return nil, err
	}
	return wire.SignSpec(spec, organiser)
}

// layOut assigns every parameter to a fragment and every fragment to a stage.
func (c Run) layOut(spec *wire.RunSpec) ([]uint64, error) {
	if c.Stages <= 1 {
		return partition(c.Model.Params(), c.Fragments)
	}
	layers := make([]pipeline.Layer, c.Model.Layers)
	for i := range layers {
		layers[i].Cost = float64(model.Part{From: i, To: i + 1}.Products(c.Model))
	}
	spans, err := pipeline.Split(layers, c.Stages, 0)
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	spec.Activation, spec.Micro, spec.Synchronous, spec.Fragments = c.Activation, uint64(c.Micro), c.Synchronous, 0
	byName := map[string]uint64{}
	for stage, span := range spans {
		part := model.Part{From: span.From, To: span.To}
		params := c.Model.PartParams(part)
		n := min(max(1, c.Fragments/c.Stages), part.Len(), 2) // of a stage
		of, err := partition(params, n)
		if err != nil {
			return nil, fmt.Errorf("run: stage %d: %w", stage, err)
		}
		for i, p := range params {
			byName[p.Name] = spec.Fragments + of[i]
		}
		for range n {
			spec.Stages = append(spec.Stages, uint64(stage))
		}
		spec.Fragments += uint64(n)
	}
	var fragment []uint64
	for _, p := range c.Model.Params() {
		fragment = append(fragment, byName[p.Name])
	}
	return fragment, nil
}

func packShards(tokens []byte, width int, put func([]byte) (store.Hash, error)) ([]wire.ShardSpec, error) {
	names, err := data.PackShards(tokens, width, put)
	if err != nil {
		return nil, err
	}
	var shards []wire.ShardSpec
	left := len(tokens) / width
	for _, n := range names {
		some := min(left, data.ShardTokens(width))
		shards = append(shards, wire.ShardSpec{Hash: n, Tokens: uint64(some)})
		left -= some
	}
	return shards, nil
}

// pack hands the run's shards to put: training text first, then what is held out
// and the vocabulary, of which bytes have none.
func (c Run) pack(put func([]byte) (store.Hash, error)) (train, heldOut, vocabulary []wire.ShardSpec, err error) {
	width := max(1, c.Corpus.Width)
	if train, err = packShards(c.Corpus.Train, width, put); err != nil {
		return
	}
	if heldOut, err = packShards(c.Corpus.HeldOut, width, put); err != nil {
		return
	}
	vocabulary, err = packShards(c.Corpus.Coder().File(), 1, put)
	return
}

// partition assigns every parameter to a fragment.
func partition(params []model.Param, fragments int) ([]uint64, error) {
	var tensors []round.Tensor
	for _, p := range params {
		tensors = append(tensors, round.Tensor{Layer: p.Layer, Bytes: 4 * uint64(p.Size)})
	}
	assigned, err := round.Partition(tensors, fragments)
	if err != nil {
		return nil, err
	}
	out := make([]uint64, len(assigned))
	for i, f := range assigned {
		out[i] = uint64(f)
	}
	return out, nil
}

// Pack hands the run's token shards to put, training text first.
func (c Run) Pack(put func([]byte) (store.Hash, error)) error {
	_, _, _, err := c.pack(put)
	return err
}

// Text returns tokens of a run that were packed as its spec says.
func Text(spec *wire.RunSpec, packed []byte) data.Tokens {
	return data.Packed{Bytes: packed, Width: spec.Data.TokenBytes(), Vocab: int32(spec.Model.Vocab)}
}

// Windows cuts a run's training text into its windows.
func Windows(spec *wire.RunSpec, packed []byte) (data.Windows, error) {
	windows, err := data.WindowsOf(int(spec.Model.Context), Text(spec, packed))
	if err != nil {
		return windows, fmt.Errorf("training text: %w", err)
	}
	if uint64(windows.Len()) != spec.Data.Windows {
		return windows, fmt.Errorf("training text has %d windows, the run spec says %d", windows.Len(), spec.Data.Windows)
	}
	return windows, nil
}

// Tokenizer returns the tokenizer of a run. file is what the shards of its
// vocabulary hold, nothing where tokens are bytes.
func Tokenizer(spec *wire.RunSpec, file []byte) (data.Tokenizer, error) {
	if spec.Data.Tokenizer == wire.TokensByte {
		return data.Bytes{}, nil
	}
	t, err := data.RestoreTokenizer(file, int32(spec.Data.EndOfText))
	if err != nil {
		return nil, fmt.Errorf("the run's vocabulary: %w", err)
	}
	if uint64(t.Vocab()) > spec.Model.Vocab {
		return nil, fmt.Errorf("the run's vocabulary has %d tokens, its model %d", t.Vocab(), spec.Model.Vocab)
	}
	return t, nil
}

// Activations lists the codecs of what passes between stages.
func Activations() []string { return []string{"int8", "had4", "int4", "fp32"} }
