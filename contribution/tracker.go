package contribution

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"dunlin/compress"
	"dunlin/optimizer"
	"dunlin/wire"
)

var (
	// ErrUndecided says that an earlier contribution is still without a commit: a
	// worker has at most one for each fragment.
	ErrUndecided = errors.New("a contribution of this fragment is undecided")
	// ErrNoSnapshot says that there is nothing to encode.
	ErrNoSnapshot = errors.New("no snapshot was taken")
	// ErrNotFinite says that the live parameters hold values that are not finite.
	// The worker's local progress is lost: it starts again from committed weights.
	ErrNotFinite = errors.New("live parameters are not finite")
)

// MaxNorm bounds the norm of a contribution, 2^60. Values below it can be squared
// and summed over members without leaving float32's range.
const MaxNorm = 1 << 60

// KeepVersions is the number of versions after which local drift is worth keeping:
// drift that is older is dropped at a merge (protocol, R1).
const KeepVersions = 2

// Config holds what a run says about the contributions of one fragment.
type Config struct {
	Layout *compress.Layout
	Codec  compress.Codec
	Merge  optimizer.Merge
	Decay  float32 // β, above 0 to 1; 0 with Lerp
	Alpha  float32 // of Lerp, above 0 and below 1; else 0
}

// Validate checks that the parts are there and fit together (protocol, R1).
func (c Config) Validate() error {
	if c.Layout == nil || c.Codec == nil {
		return errors.New("contribution: a layout and a codec are needed")
	}
	return c.Merge.Validate(c.Decay, c.Alpha)
}

// Tracker follows one fragment of one worker. Weights are in the layout's block
// order, live parameters are one slice a tensor (compress.Layout.Check). All methods
// may be called from several goroutines; the live parameters must not change while
// one that takes them runs.
type Tracker struct {
	cfg Config

	mu       sync.Mutex
	version  uint64
	anchor   []float32 // committed weights merged last; shared with the replica, never written
	feedback []float32 // e; while a contribution is undecided a = βe + Δ. With Lerp always zero
	snapshot []float32 // live parameters at the snapshot, when taken
	taken    bool
	pending  *Contribution // encoded and undecided
	slab     []float32     // scratch of one slab
	shown    []float32     // likewise, of a preview; nil unless there are any
}

// Contribution is one encoded outer gradient. It is immutable and may be read while
// the tracker goes on.
type Contribution struct {
	Base   uint64      // version that it was measured from
	Frames [][]byte    // one frame a slab
	Leaves []wire.Hash // hash of each frame
	Root   wire.Hash   // Merkle root of the leaves
	Norm   float32     // L2 norm of the decoded values, at most MaxNorm
}

// Bytes returns the size of all frames.
func (c *Contribution) Bytes() int {
	n := 0
	for _, f := range c.Frames {
		n += len(f)
	}
	return n
}

// New makes a tracker that begins at a version whose weights the worker's live
// parameters hold, with empty error feedback. weights (block order) is kept and must
// not change afterwards.
func New(cfg Config, version uint64, weights []float32) (*Tracker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Tracker{cfg: cfg}
	n := cfg.Layout.Values()
	if err := t.fits(weights); err != nil {
		return nil, err
	}
	t.feedback = make([]float32, n)
	t.snapshot = make([]float32, n)
	from, to := cfg.Layout.SlabValues(0)
	t.slab = make([]float32, to-from)
	t.version, t.anchor = version, weights
	return t, nil
}

// Restart forgets everything local: the worker takes over the weights of a version as
// its live parameters, error feedback is empty, nothing is undecided. It serves after a
// crash, and after ErrNotFinite.
func (t *Tracker) Restart(live [][]float32, version uint64, weights []float32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := errors.Join(t.cfg.Layout.Check(live), t.fits(weights)); err != nil {
		return fmt.Errorf("restart contributions: %w", err)
	}
	t.cfg.Layout.Scatter(live, weights)
	clear(t.feedback)
	t.taken, t.pending = false, nil
	t.version, t.anchor = version, weights
	return nil
}

// Version returns the version that was merged last, the base of the next contribution.
func (t *Tracker) Version() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version
}

// Pending returns the undecided contribution, or nil.
func (t *Tracker) Pending() *Contribution {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending
}

// Snapshot copies the live parameters: the interval that a contribution covers ends
// here. With Eager it then sets them to the preview, anchor + α(snapshot − anchor). It fails
// with ErrUndecided while an earlier one is undecided.
func (t *Tracker) Snapshot(live [][]float32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken {
		return fmt.Errorf("snapshot at version %d: %w", t.version, ErrUndecided)
	}
	if err := t.cfg.Layout.Check(live); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	t.cfg.Layout.Gather(t.snapshot, live)
	t.taken = true
	if t.Previews() {
		for i := range t.cfg.Layout.Slabs() {
			t.cfg.Layout.ScatterSlab(live, t.preview(i), i)
		}
	}
	return nil
}

// preview computes what Snapshot left of a slab's live parameters, in scratch of its own.
func (t *Tracker) preview(slab int) []float32 {
	from, to := t.cfg.Layout.SlabValues(slab)
	if t.shown == nil {
		t.shown = make([]float32, len(t.slab))
	}
	optimizer.Preview(t.shown[:to-from], t.anchor[from:to], t.snapshot[from:to], t.cfg.Alpha)
	return t.shown[:to-from]
}

// Previews reports whether Snapshot changes the live parameters.
func (t *Tracker) Previews() bool { return t.cfg.Merge == optimizer.Eager }

// Encode turns the snapshot into the contribution of its base version. A second call
// gives the same contribution: whatever attempts follow, it is encoded once. When a
// value is not finite the snapshot and the error feedback are dropped and ErrNotFinite returned.
func (t *Tracker) Encode() (*Contribution, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending != nil {
		return t.pending, nil
	}
	if !t.taken {
		return nil, fmt.Errorf("encode at version %d: %w", t.version, ErrNoSnapshot)
	}
	c, err := t.encode()
	if err != nil {
		t.taken = false
		clear(t.feedback)
		return nil, fmt.Errorf("encode at version %d: %w", t.version, err)
	}
	t.pending = c
	return c, nil
}

// encode folds the snapshot slab by slab, while that is in the cache.
func (t *Tracker) encode() (*Contribution, error) {
	l := t.cfg.Layout
	size := 0
	for i := range l.Slabs() {
		from, to := l.SlabValues(i)
		size += t.cfg.Codec.EncodedSlabBytes(to - from)
	}
	bytes := make([]byte, 0, size)
	c := &Contribution{Base: t.version, Frames: make([][]byte, l.Slabs()), Leaves: make([]wire.Hash, l.Slabs())}
	squares := 0.0
	for i := range l.Slabs() {
		from, to := l.SlabValues(i)
		slab := t.slab[:to-from]
		a := t.fold(slab, from, to)
		at := len(bytes)
		var err error
		if bytes, err = t.cfg.Codec.Encode(bytes, a); err != nil {
			return nil, fmt.Errorf("slab %d: %w: %w", i, ErrNotFinite, err)
		}
		c.Frames[i] = bytes[at:len(bytes):len(bytes)]
		c.Leaves[i] = wire.HashLeaf(c.Frames[i])
		if err := t.cfg.Codec.Decode(slab, c.Frames[i]); err != nil {
			return nil, fmt.Errorf("slab %d: own frame: %w", i, err)
		}
		squares += sumSquares(slab)
	}
	norm := math.Sqrt(squares)
	if !(norm <= MaxNorm) {
		return nil, fmt.Errorf("norm %g: %w", norm, ErrNotFinite)
	}
	c.Norm = float32(norm)
	c.Root = wire.MerkleRoot(c.Leaves)
	return c, nil
}

// fold moves the movement of some values up to the snapshot into the error feedback, e becomes
// a = βe + Δ, and returns a: from here on the live drift counts from the snapshot. With Lerp it
// stays in the live parameters, and a is written to scratch.
func (t *Tracker) fold(scratch []float32, from, to int) []float32 {
	a := t.feedback[from:to]
	if t.cfg.Merge == optimizer.Lerp {
		a = scratch
	}
	decay, e, anchor, snapshot := t.cfg.Decay, t.feedback[from:to], t.anchor[from:to], t.snapshot[from:to]
	e, anchor, snapshot = e[:len(a)], anchor[:len(a)], snapshot[:len(a)]
	for i := range a {
		a[i] = float32(decay*e[i]) + (anchor[i] - snapshot[i])
	}
	return a
}

// Commit is what a worker needs to know of the newest version of a fragment.
type Commit struct {
	Version uint64    // the version that results, above the tracker's
	Weights []float32 // its weights in block order; kept, must not change afterwards
	// Included says for each slab whether the commit directly above the tracker's
	// version took the undecided contribution into its sum; nil says that it took
	// nothing of it.
	Included func(slab int) bool
}

// Outcome says what a merge did.
type Outcome struct {
	Included int  // slabs of the own contribution that the commit took
	Slabs    int  // slabs of the fragment
	Dropped  bool // local drift was too old and is gone
}

// Merge takes a committed version into the live parameters; it is called for every
// commit of the fragment, whether the worker was in it or not (protocol, R1). It
// settles the undecided contribution: e ← a − decode(s) in the slabs that the commit
// took, e ← a in the others. Then the anchor moves and the live parameters become
//
//	rebase, or no snapshot outstanding: θ ← θ_g' + (θ − base)
//	eager after a snapshot:             θ ← θ_g' + (θ − preview)
//	reset after a snapshot:             θ ← θ_g'
//	lerp:                               θ ← αθ + (1−α)θ_g', and no e
//
// with base the snapshot, or the old anchor where there is none.
//
// A version more than one above the tracker's stands for a worker that slept: k
// further commits decay e by β^k, and when the version is more than KeepVersions
// above, drift is dropped: θ ← θ_g'.
func (t *Tracker) Merge(live [][]float32, c Commit) (Outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Version <= t.version {
		return Outcome{}, fmt.Errorf("merge version %d into version %d: it must be above", c.Version, t.version)
	}
	if err := errors.Join(t.cfg.Layout.Check(live), t.fits(c.Weights)); err != nil {
		return Outcome{}, fmt.Errorf("merge version %d: %w", c.Version, err)
	}
	out := Outcome{Slabs: t.cfg.Layout.Slabs()}
	base, rule := t.anchor, optimizer.Rebase
	if t.cfg.Merge == optimizer.Lerp {
		rule = optimizer.Lerp
	}
	if t.taken {
		n, err := t.settle(c.Included)
		if err != nil {
			return Outcome{}, fmt.Errorf("merge version %d: %w", c.Version, err)
		}
		out.Included = n
		base, rule = t.snapshot, t.cfg.Merge
	}
	t.decay(c.Version - t.version - 1)
	if c.Version-t.version > KeepVersions {
		out.Dropped, rule = true, optimizer.Reset
	}
	t.apply(live, c.Weights, base, rule)
	t.version, t.anchor = c.Version, c.Weights
	return out, nil
}

// settle decides the contribution and counts the slabs that were taken.
func (t *Tracker) settle(included func(int) bool) (int, error) {
	if t.pending == nil && t.cfg.Merge != optimizer.Lerp { // taken but never encoded: all of it is a miss
		t.fold(nil, 0, len(t.feedback))
	}
	taken := 0
	for i := range t.cfg.Layout.Slabs() {
		if t.pending == nil || included == nil || !included(i) {
			continue
		}
		if taken++; t.cfg.Merge == optimizer.Lerp {
			continue
		}
		from, to := t.cfg.Layout.SlabValues(i)
		slab := t.slab[:to-from]
		if err := t.cfg.Codec.Decode(slab, t.pending.Frames[i]); err != nil {
			return 0, fmt.Errorf("own frame of slab %d: %w", i, err)
		}
		e := t.feedback[from:to]
		for j, s := range slab {
			e[j] -= s
		}
	}
	t.taken, t.pending = false, nil
	return taken, nil
}

func (t *Tracker) decay(slept uint64) {
	if slept == 0 || t.cfg.Decay == 1 || t.cfg.Decay == 0 {
		return
	}
	factor := float32(math.Pow(float64(t.cfg.Decay), float64(slept)))
	for i, e := range t.feedback {
		t.feedback[i] = float32(factor * e)
	}
}

func (t *Tracker) apply(live [][]float32, weights, base []float32, rule optimizer.Merge) {
	l := t.cfg.Layout
	for i := range l.Slabs() {
		from, to := l.SlabValues(i)
		slab := t.slab[:to-from]
		l.GatherSlab(slab, live, i)
		start := base[from:to]
		if rule == optimizer.Eager {
			start = t.preview(i)
		}
		rule.Apply(slab, weights[from:to], start, t.cfg.Alpha)
		l.ScatterSlab(live, slab, i)
	}
}

// Feedback copies the error feedback e into dst, in block order. While a contribution
// is undecided that is a = βe + Δ.
func (t *Tracker) Feedback(dst []float32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	copy(dst, t.feedback)
}

func (t *Tracker) fits(weights []float32) error {
	if n := t.cfg.Layout.Values(); len(weights) != n {
		return fmt.Errorf("%d weights, the fragment has %d in block order", len(weights), n)
	}
	return nil
}

// sumSquares adds in four sums, which no processor waits for one after the other.
func sumSquares(values []float32) float64 {
	var a, b, c, d float64
	for len(values) >= 4 {
		w, x, y, z := float64(values[0]), float64(values[1]), float64(values[2]), float64(values[3])
		a += w * w
		b += x * x
		c += y * y
		d += z * z
		values = values[4:]
	}
	for _, x := range values {
		a += float64(x) * float64(x)
	}
	return a + b + c + d
}
