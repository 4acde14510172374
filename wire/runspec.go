package wire

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
)

// Protocol is the version of everything in this package. Peers of different
// versions say so in their first message and part.
const Protocol = 1

// RunSpec is everything that peers of one run must agree on. The hash of its
// canonical bytes is the run id, so no setting can differ unnoticed. State 0
// of the run is a pure function of it.
type RunSpec struct {
	Protocol     uint64       `cbor:"1,keyasint"`
	Name         string       `cbor:"2,keyasint"` // for people, at most 64 bytes
	Model        ModelSpec    `cbor:"3,keyasint"`
	Tensors      []TensorSpec `cbor:"4,keyasint"` // in the model's order
	Seed         uint64       `cbor:"5,keyasint"` // of the initial weights
	Data         DataSpec     `cbor:"6,keyasint"`
	Inner        InnerSpec    `cbor:"7,keyasint"`
	Outer        OuterSpec    `cbor:"8,keyasint"`
	Fragments    uint64       `cbor:"9,keyasint"`  // count; every tensor names its own
	H            uint64       `cbor:"10,keyasint"` // inner steps between two rounds of a fragment
	Contribution string       `cbor:"11,keyasint"` // codec of contributions
	Result       string       `cbor:"12,keyasint"` // codec of results
	Merge        string       `cbor:"13,keyasint"` // "rebase", "reset", "lerp" or "eager"
	Decay        Float        `cbor:"14,keyasint"` // β of the contributors' error feedback; 0 with lerp, which keeps none
	TokenBudget  uint64       `cbor:"15,keyasint"` // tokens; progress = committed ÷ this
	Deadlines    DeadlineSpec `cbor:"16,keyasint"`
	Checkpoint   uint64       `cbor:"17,keyasint"` // commits between two checkpoint entries
	Secret       Hash         `cbor:"18,keyasint"` // HashLeaf of the join secret; zero for a public run
	Coordinators []PeerID     `cbor:"19,keyasint"` // whose signatures certify entries
	Organiser    PeerID       `cbor:"20,keyasint"` // who signed this spec

	// What follows is absent where it is zero.

	OwnerDecay Float `cbor:"21,keyasint,omitempty"` // β of the owners' error feedback (R10); 0: they keep none
	Alpha      Float `cbor:"22,keyasint,omitempty"` // share of the live weights that lerp keeps, or of its movement that eager previews
	// Overlap says when a worker merges a commit: as soon as it is there, or OverlapRound.
	Overlap string `cbor:"23,keyasint,omitempty"`
	// Stages is the stage of each fragment, ascending from 0, in a run whose model is
	// spread over several peers; without it every peer holds all fragments.
	Stages     []uint64 `cbor:"24,keyasint,omitempty"`
	Activation string   `cbor:"25,keyasint,omitempty"` // codec of what passes between stages
	Micro      uint64   `cbor:"26,keyasint,omitempty"` // windows in a micro-batch; with Stages, a divisor of Data.Batch
	// Synchronous: all peers of all stages make each inner step together, on the same
	// micro-batches. Else each peer steps on what it counted itself.
	Synchronous bool `cbor:"27,keyasint,omitempty"`
}

// OverlapRound: a commit is merged when the fragment's next snapshot is due, one whole
// interval after the one that it took in.
const OverlapRound = "round"

// ModelSpec names a model's shape.
type ModelSpec struct {
	Family  string `cbor:"1,keyasint"` // "gpt2" or "llama"
	Layers  uint64 `cbor:"2,keyasint"`
	Heads   uint64 `cbor:"3,keyasint"`
	Width   uint64 `cbor:"4,keyasint"`
	Context uint64 `cbor:"5,keyasint"` // tokens
	Vocab   uint64 `cbor:"6,keyasint"`

	// What follows is absent for gpt2, but for Untied and Subspace.

	KVHeads   uint64 `cbor:"7,keyasint,omitempty"`  // heads of keys and values
	Hidden    uint64 `cbor:"8,keyasint,omitempty"`  // width inside a block's SwiGLU
	RopeTheta Float  `cbor:"9,keyasint,omitempty"`  // base of the rotary angles
	NormEps   Float  `cbor:"10,keyasint,omitempty"` // of the norms
	Untied    bool   `cbor:"11,keyasint,omitempty"` // the output head has weights of its own
	Subspace  uint64 `cbor:"12,keyasint,omitempty"` // values of a position that blocks move; 0: all of its width
}

// Passed returns how many values of a position pass between stages.
func (m ModelSpec) Passed() uint64 { return cmp.Or(m.Subspace, m.Width) }

// TensorSpec is one parameter: its place in the run and its initial value.
type TensorSpec struct {
	Name     string   `cbor:"1,keyasint"`
	Shape    []uint64 `cbor:"2,keyasint"` // one or two dimensions
	Init     InitKind `cbor:"3,keyasint"`
	Scale    Float    `cbor:"4,keyasint"` // for InitNormal and InitRows, what multiplies the centred sum (compute.Init)
	Fragment uint64   `cbor:"5,keyasint"`
	// Corner is the extents of the first rows and columns, those that a run moves; absent: all. The rest stays as it
	// starts, which is 0 but for InitRows.
	Corner []uint64 `cbor:"6,keyasint,omitempty"`
}

// InitKind says how a tensor starts.
type InitKind uint8

// The ways a tensor can start. InitNormal is the near-normal sum of four
// uniforms that rule R9 prescribes; InitRows is 0 in the corner and makes what of
// each row is outside of it so by itself.
const (
	InitZero   InitKind = 0
	InitOne    InitKind = 1
	InitNormal InitKind = 2
	InitRows   InitKind = 3
)

// Size returns the number of values.
func (t TensorSpec) Size() int {
	n := 1
	for _, d := range t.Shape {
		n *= int(d)
	}
	return n
}

// DataSpec names the run's tokens by content.
type DataSpec struct {
	Tokenizer string      `cbor:"1,keyasint"` // TokensByte or TokensBPE
	Train     []ShardSpec `cbor:"2,keyasint"`
	HeldOut   []ShardSpec `cbor:"3,keyasint"`
	Windows   uint64      `cbor:"4,keyasint"` // training windows in an epoch
	Seed      uint64      `cbor:"5,keyasint"` // keys the permutation of windows
	Batch     uint64      `cbor:"6,keyasint"` // windows in one inner step of a worker

	// What follows is absent where tokens are the bytes of text.

	Vocabulary []ShardSpec `cbor:"7,keyasint,omitempty"` // tokenizer.json, as the tokens of shards, a byte each
	EndOfText  uint64      `cbor:"8,keyasint,omitempty"` // token that follows each document
	Width      uint64      `cbor:"9,keyasint,omitempty"` // bytes of a token in shards: 2 or 4
}

// The tokens of runs: bytes of text, or those of a byte-pair vocabulary.
const (
	TokensByte = "byte"
	TokensBPE  = "bpe"
)

// Bounds of a vocabulary: its tokens, and tokenizer.json in shards of a megabyte.
const (
	maxVocab            = 1 << 20
	maxVocabularyShards = 64
)

// TokenBytes returns the bytes of a token in shards.
func (d *DataSpec) TokenBytes() int { return max(1, int(d.Width)) }

// Shards returns every shard of the run: training text first, then what is held
// out, then the vocabulary.
func (d *DataSpec) Shards() []ShardSpec { return slices.Concat(d.Train, d.HeldOut, d.Vocabulary) }

// ShardSpec is one token shard.
type ShardSpec struct {
	Hash   Hash   `cbor:"1,keyasint"`
	Tokens uint64 `cbor:"2,keyasint"`
}

// InnerSpec configures the local optimizer.
type InnerSpec struct {
	LR        Float `cbor:"1,keyasint"` // peak learning rate
	Beta1     Float `cbor:"2,keyasint"`
	Beta2     Float `cbor:"3,keyasint"`
	Eps       Float `cbor:"4,keyasint"`
	Decay     Float `cbor:"5,keyasint"` // decoupled weight decay
	Clip      Float `cbor:"6,keyasint"` // global gradient norm
	Warmup    Float `cbor:"7,keyasint"` // share of the run, a progress
	FinalRate Float `cbor:"8,keyasint"` // learning rate at the end ÷ peak

	// What follows is absent for AdamW.

	Kind     string `cbor:"9,keyasint,omitempty"`  // InnerMuon; Beta1, Beta2 and Eps are then those of tensors that are no hidden matrices
	Momentum Float  `cbor:"10,keyasint,omitempty"` // of the hidden matrices
}

// The inner optimizers of runs. A spec leaves the kind of AdamW out.
const (
	InnerAdamW = "adamw"
	InnerMuon  = "muon"
)

// OuterSpec configures the outer step, Nesterov in PyTorch's form.
type OuterSpec struct {
	LR       Float `cbor:"1,keyasint"`
	Momentum Float `cbor:"2,keyasint"`
}

// DeadlineSpec bounds every wait of a round, in milliseconds.
type DeadlineSpec struct {
	ReadyMin uint64 `cbor:"1,keyasint"` // least time between the first Ready and opening without the rest
	Stall    uint64 `cbor:"2,keyasint"` // no progress of a transfer for this long means gone
	Attempt  uint64 `cbor:"3,keyasint"` // no progress of an attempt for this long fails it
	Leave    uint64 `cbor:"4,keyasint"` // a disconnected worker's slot ends after this long
	Silence  uint64 `cbor:"5,keyasint"` // a worker that says nothing for this long is gone
}

// DefaultDeadlines are what the design gives for ordinary links.
func DefaultDeadlines() DeadlineSpec {
	return DeadlineSpec{ReadyMin: 1000, Stall: 3000, Attempt: 15000, Leave: 5000, Silence: 45000}
}

// Bounds on a RunSpec.
const (
	MaxTensors   = 1 << 16
	MaxFragments = 64
	MaxShards    = 1 << 13
	MaxKeys      = 5
	MaxValues    = 1 << 40 // parameters
	MaxH         = 500
)

var nameRE = regexp.MustCompile(`^[\pL\pN\pP\pS ]{1,64}$`)

// Validate lists every fault of the spec at once.
func (s *RunSpec) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("run spec: "+format, args...)) }
	if s.Protocol != Protocol {
		fault("protocol version %d, this program speaks %d: use the release that the organiser names", s.Protocol, Protocol)
	}
	if len(s.Name) > 64 || !nameRE.MatchString(s.Name) {
		fault("name %q: 1 to 64 printable characters are allowed", clip(s.Name))
	}
	s.Model.validate(fault)
	s.validateTensors(fault)
	s.Data.validate(fault)
	s.Inner.validate(fault)
	if lr, m := s.Outer.LR.Value(), s.Outer.Momentum.Value(); !(lr > 0 && lr <= 2) || !(m >= 0 && m < 1) {
		fault("outer lr %v, momentum %v: (0, 2] and [0, 1) are allowed", lr, m)
	}
	if s.H < 1 || s.H > MaxH {
		fault("h %d: 1 to %d inner steps are allowed", s.H, MaxH)
	}
	s.validateRow(fault)
	if s.TokenBudget < 1 || s.TokenBudget > 1<<56 {
		fault("token budget %d: 1 to 2^56 is allowed", s.TokenBudget)
	}
	if s.Checkpoint < 1 || s.Checkpoint > 1<<20 {
		fault("checkpoint every %d commits: 1 to 2^20 is allowed", s.Checkpoint)
	}
	s.validateStages(fault)
	s.Deadlines.validate(fault)
	if len(s.Coordinators) < 1 || len(s.Coordinators) > MaxKeys {
		fault("%d coordinator keys: 1 to %d are allowed", len(s.Coordinators), MaxKeys)
	}
	return errors.Join(errs...)
}

type faultFunc func(format string, args ...any)

func (m ModelSpec) validate(fault faultFunc) {
	type bound struct {
		name     string
		v, limit uint64
	}
	bounds := []bound{{"layers", m.Layers, 1 << 10}, {"heads", m.Heads, 1 << 10}, {"width", m.Width, 1 << 16}, {"context", m.Context, 1 << 20}, {"vocabulary", m.Vocab, maxVocab}}
	switch m.Family {
	case "gpt2":
		if m != (ModelSpec{Family: m.Family, Layers: m.Layers, Heads: m.Heads, Width: m.Width, Context: m.Context, Vocab: m.Vocab, Untied: m.Untied, Subspace: m.Subspace}) {
			fault("model family gpt2 with numbers of llama")
		}
	case "llama":
		bounds = append(bounds, bound{"key and value heads", m.KVHeads, 1 << 10}, bound{"hidden width", m.Hidden, 1 << 18})
		if theta := m.RopeTheta.Value(); !(theta > 1 && theta <= 1e9) {
			fault("model rope theta %v: above 1, at most 1e9 is allowed", theta)
		}
		if eps := m.NormEps.Value(); !(eps >= 1e-12 && eps <= 0.1) {
			fault("model norm eps %v: 1e-12 to 0.1 is allowed", eps)
		}
	default:
		fault("model family %q: gpt2 and llama are allowed", clip(m.Family))
	}
	if m.Subspace > 0 && (m.Subspace >= m.Width || !m.Untied) {
		fault("model subspace %d of a width of %d, head of its own %t: less than the width is allowed, with such a head", m.Subspace, m.Width, m.Untied)
	}
	for _, f := range bounds {
		if f.v < 1 || f.v > f.limit {
			fault("model %s %d: 1 to %d is allowed", f.name, f.v, f.limit)
		}
	}
}

func (s *RunSpec) validateTensors(fault faultFunc) {
	if s.Fragments < 1 || s.Fragments > MaxFragments {
		fault("%d fragments: 1 to %d are allowed", s.Fragments, MaxFragments)
		return
	}
	if len(s.Tensors) < 1 || len(s.Tensors) > MaxTensors {
		fault("%d tensors: 1 to %d are allowed", len(s.Tensors), MaxTensors)
		return
	}
	seen := make(map[string]bool, len(s.Tensors))
	filled := make([]bool, s.Fragments)
	total := uint64(0)
	for _, t := range s.Tensors {
		if t.Name == "" || len(t.Name) > 128 || seen[t.Name] {
			fault("tensor name %q: 1 to 128 bytes, each once, are allowed", clip(t.Name))
		}
		seen[t.Name] = true
		if t.Fragment >= s.Fragments {
			fault("tensor %q: fragment %d of %d", clip(t.Name), t.Fragment, s.Fragments)
		} else {
			filled[t.Fragment] = true
		}
		if len(t.Shape) < 1 || len(t.Shape) > 2 {
			fault("tensor %q: %d dimensions, 1 or 2 are allowed", clip(t.Name), len(t.Shape))
			continue
		}
		size := uint64(1)
		for _, d := range t.Shape {
			if d < 1 || d > 1<<31 {
				fault("tensor %q: dimension %d", clip(t.Name), d)
				d = 1
			}
			size *= d // at most 2^62
		}
		if total += min(size, MaxValues+1); total > MaxValues {
			fault("more than %d parameters", uint64(MaxValues))
			return
		}
		if scale := t.Scale.Value(); t.Init > InitRows || t.Init == InitRows && len(t.Corner) != 2 || !(scale >= 0 && scale <= 1) {
			fault("tensor %q: init %d with scale %v", clip(t.Name), t.Init, scale)
		}
		t.validateCorner(fault)
	}
	for f, ok := range filled {
		if !ok {
			fault("fragment %d has no tensor", f)
		}
	}
}

// validateCorner checks that the corner lies in the tensor, whose shape is checked.
func (t TensorSpec) validateCorner(fault faultFunc) {
	ok := len(t.Corner) == 0 || len(t.Corner) == len(t.Shape)
	for i := 0; ok && i < len(t.Corner); i++ {
		ok = t.Corner[i] >= 1 && t.Corner[i] <= t.Shape[i]
	}
	if !ok {
		fault("tensor %q of shape %v moves in a corner of %v", clip(t.Name), t.Shape, t.Corner)
	}
}

func (d DataSpec) validate(fault faultFunc) {
	switch d.Tokenizer {
	case TokensByte:
		if len(d.Vocabulary) > 0 || d.EndOfText != 0 || d.Width != 0 {
			fault("a vocabulary of %d shards, tokens of %d bytes: tokenizer %s has none", len(d.Vocabulary), d.Width, TokensByte)
		}
	case TokensBPE:
		if len(d.Vocabulary) < 1 || len(d.Vocabulary) > maxVocabularyShards || d.EndOfText >= maxVocab || d.Width != 2 && d.Width != 4 {
			fault("a vocabulary of %d shards, texts that end with token %d, tokens of %d bytes: 1 to %d shards, ends below %d and 2 or 4 bytes are allowed",
				len(d.Vocabulary), d.EndOfText, d.Width, maxVocabularyShards, maxVocab)
		}
	default:
		fault("tokenizer %q: %s and %s are allowed", clip(d.Tokenizer), TokensByte, TokensBPE)
	}
	if len(d.Train) < 1 || len(d.Train) > MaxShards || len(d.HeldOut) < 1 || len(d.HeldOut) > MaxShards {
		fault("%d training and %d held-out shards: 1 to %d each are allowed", len(d.Train), len(d.HeldOut), MaxShards)
	}
	if d.Windows < 1 || d.Windows > 1<<40 {
		fault("%d windows: 1 to 2^40 are allowed", d.Windows)
	}
	if d.Batch < 1 || d.Batch > 1<<16 {
		fault("batch %d windows: 1 to 65,536 are allowed", d.Batch)
	}
}

func (i InnerSpec) validate(fault faultFunc) {
	switch {
	case i.Kind == "" && i.Momentum != 0:
		fault("inner momentum %v: only %s has one", i.Momentum.Value(), InnerMuon)
	case i.Kind != "" && i.Kind != InnerMuon:
		fault("inner optimizer %q: %s is allowed, or none, which is %s", clip(i.Kind), InnerMuon, InnerAdamW)
	}
	for _, f := range []struct {
		name     string
		v        Float
		from, to float32
	}{
		{"lr", i.LR, 1e-9, 10},
		{"beta1", i.Beta1, 0, 0.9999},
		{"beta2", i.Beta2, 0, 0.99999},
		{"eps", i.Eps, 1e-12, 1e-2},
		{"weight decay", i.Decay, 0, 1},
		{"clip", i.Clip, 1e-6, 1e6},
		{"warm-up", i.Warmup, 0, 1},
		{"final rate", i.FinalRate, 0, 1},
		{"momentum", i.Momentum, 0, 0.9999},
	} {
		if v := f.v.Value(); !(v >= f.from && v <= f.to) {
			fault("inner %s %v: %v to %v is allowed", f.name, v, f.from, f.to)
		}
	}
}

func (d DeadlineSpec) validate(fault faultFunc) {
	for _, f := range []struct {
		name string
		ms   uint64
	}{{"ready", d.ReadyMin}, {"stall", d.Stall}, {"attempt", d.Attempt}, {"leave", d.Leave}, {"silence", d.Silence}} {
		if f.ms < 10 || f.ms > 3_600_000 {
			fault("deadline %s %d ms: 10 ms to an hour is allowed", f.name, f.ms)
		}
	}
}

// ID returns the run id.
func (s *RunSpec) ID() Hash { return HashLeaf(Encode(s)) }

// Parameters returns the number of values in the model.
func (s *RunSpec) Parameters() uint64 {
	var n uint64
	for _, t := range s.Tensors {
		n += uint64(t.Size())
	}
	return n
}

// FragmentTensors returns the indices of fragment f's tensors, in order.
func (s *RunSpec) FragmentTensors(f int) []int {
	var out []int
	for i, t := range s.Tensors {
		if t.Fragment == uint64(f) {
			out = append(out, i)
		}
	}
	return out
}

// StepTokens returns the tokens of one inner step of a worker.
func (s *RunSpec) StepTokens() uint64 { return s.Data.Batch * s.Model.Context }

// Progress returns committed tokens as a share of the budget, in [0, 1].
func (s *RunSpec) Progress(tokens float64) float64 {
	return math.Min(1, math.Max(0, tokens/float64(s.TokenBudget)))
}

// SignedSpec is a RunSpec as peers hand it on.
type SignedSpec struct {
	Spec []byte    `cbor:"1,keyasint"` // canonical bytes of the RunSpec
	Sig  Signature `cbor:"2,keyasint"` // the organiser's
}

// SignSpec validates the spec and signs it with the organiser's key.
func SignSpec(s *RunSpec, organiser ed25519.PrivateKey) (*SignedSpec, error) {
	if s.Organiser != PeerIDOf(organiser) {
		return nil, errors.New("run spec: it names another organiser than the key that signs it")
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b := Encode(s)
	return &SignedSpec{Spec: b, Sig: Sign(organiser, "runspec", b)}, nil
}

// Open checks the signature, the bytes and every field, and that the spec is
// the one of run id.
func (s *SignedSpec) Open(id Hash) (*RunSpec, error) {
	if HashLeaf(s.Spec) != id {
		return nil, fmt.Errorf("run spec: it belongs to another run than %s", id.Short())
	}
	var spec RunSpec
	if err := Decode(s.Spec, &spec); err != nil {
		return nil, fmt.Errorf("run spec: %w", err)
	}
	if !Verify(spec.Organiser, "runspec", s.Spec, s.Sig) {
		return nil, errors.New("run spec: the organiser's signature does not verify")
	}
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	return &spec, nil
}
