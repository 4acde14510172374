package replica_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"dunlin/compress"
	"dunlin/compute"
	"dunlin/replica"
	"dunlin/wire"
)

// TestStateZero: state 0 is the RunSpec's initialisation, in the tensors' own shapes.
func TestStateZero(t *testing.T) {
	spec := tinySpec()
	r := newReplica(t, spec)
	for i, got := range r.Tensors() {
		want := make([]float32, spec.Tensors[i].Size())
		switch spec.Tensors[i].Init {
		case wire.InitZero:
		case wire.InitOne:
			for j := range want {
				want[j] = 1
			}
		case wire.InitNormal:
			compute.Init(want, spec.Seed, spec.Tensors[i].Name, spec.Tensors[i].Scale.Value())
		}
		if got.Name != spec.Tensors[i].Name || len(got.Data) != len(want) {
			t.Fatalf("tensor %d is %s with %d values", i, got.Name, len(got.Data))
		}
		for j := range want {
			if got.Data[j] != want[j] {
				t.Fatalf("%s[%d] = %g, want %g", got.Name, j, got.Data[j], want[j])
			}
		}
	}
	other := tinySpec()
	other.Seed++
	if newReplica(t, other).Hash() == r.Hash() {
		t.Error("another seed gives the same state")
	}
}

// TestReplay: replaying the commits from state 0, or from any checkpoint on the way,
// gives bit for bit what a replica that was there holds.
func TestReplay(t *testing.T) {
	const seed, n = 6, 9
	spec := tinySpec()
	there, commits := history(t, spec, n, seed)
	for k := range n + 1 {
		r := newReplica(t, spec)
		replay(t, r, commits[:k])
		view := r.View()
		blobs := map[wire.Hash][]byte{}
		var manifests []wire.Manifest
		for f := range r.Fragments() {
			manifests = append(manifests, view.Manifest(f))
			for s, h := range manifests[f].Slabs {
				blobs[h] = view.SlabBytes(nil, f, s)
				if wire.HashLeaf(blobs[h]) != h {
					t.Fatalf("slab %d of fragment %d does not have its leaf's hash", s, f)
				}
			}
		}
		replay(t, r, commits[k:]) // the view must not follow
		if err := same(there, r); err != nil {
			t.Errorf("seed %d: replay from 0: %v", seed, err)
		}
		joined, err := replica.Restore(spec, view.Heads(), manifests, func(h wire.Hash) ([]byte, error) { return blobs[h], nil })
		if err != nil {
			t.Fatal(err)
		}
		replay(t, joined, commits[k:])
		if err := same(there, joined); err != nil {
			t.Errorf("seed %d: checkpoint after %d commits, then replay: %v", seed, k, err)
		}
	}
}

// TestPrepareIsInvisible: nothing is applied that is not committed (R6).
func TestPrepareIsInvisible(t *testing.T) {
	spec := tinySpec()
	r := newReplica(t, spec)
	before, heads := r.Hash(), r.Heads()
	frames := encodeGradient(t, spec, r.Layout(0), gradient(r.Layout(0), 1, 1e-7))
	s, err := r.Prepare(0, 0, frames)
	if err != nil {
		t.Fatal(err)
	}
	if r.Hash() != before || r.Heads()[0] != heads[0] || r.Version(0) != 0 {
		t.Error("preparing changed the visible state")
	}
	if s.State() == heads[0].State || s.Fragment() != 0 || s.Base() != 0 || s.Null() {
		t.Errorf("shadow %+v", s)
	}
	s.Drop()
	c := &wire.Commit{Base: 0, BaseState: heads[0].State, Result: s.Result()}
	if err := r.Promote(s, c); !errors.Is(err, replica.ErrOther) {
		t.Errorf("promoting a dropped shadow: %v", err)
	}
}

func TestPromoteRefuses(t *testing.T) {
	spec := tinySpec()
	r, _ := history(t, spec, 4, 1)
	head := r.Heads()[1]
	prepare := func() *replica.Shadow {
		s, err := r.Prepare(1, head.Version, encodeGradient(t, spec, r.Layout(1), gradient(r.Layout(1), 77, 1e-7)))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := prepare()
	good := wire.Commit{Fragment: 1, Base: head.Version, BaseState: head.State, Result: s.Result(), State: s.State()}
	before := r.Hash()
	for name, c := range map[string]struct {
		change func(*wire.Commit)
		want   error
	}{
		"another fragment":   {func(c *wire.Commit) { c.Fragment = 0 }, replica.ErrOther},
		"another result":     {func(c *wire.Commit) { c.Result = wire.HashLeaf(nil) }, replica.ErrOther},
		"an older base":      {func(c *wire.Commit) { c.Base-- }, replica.ErrStale},
		"a newer base":       {func(c *wire.Commit) { c.Base++ }, replica.ErrStale},
		"another base state": {func(c *wire.Commit) { c.BaseState = wire.HashLeaf(nil) }, replica.ErrDiverged},
		"another state":      {func(c *wire.Commit) { c.State = wire.HashLeaf(nil) }, replica.ErrDiverged},
	} {
		bad := good
		c.change(&bad)
		if err := r.Promote(s, &bad); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.Hash() != before {
		t.Error("a refused commit changed the state")
	}
	late := prepare()
	if err := r.Promote(s, &good); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(late, &good); !errors.Is(err, replica.ErrStale) {
		t.Errorf("the same commit twice: %v", err)
	}
	if err := r.Apply(&good, nil); !errors.Is(err, replica.ErrStale) {
		t.Errorf("replaying it again: %v", err)
	}
	good.Fragment = 9
	if err := r.Apply(&good, nil); err == nil {
		t.Error("a commit of a fragment that is not there was applied")
	}
}

func TestPrepareRefuses(t *testing.T) {
	spec := tinySpec()
	r := newReplica(t, spec)
	frames := encodeGradient(t, spec, r.Layout(0), gradient(r.Layout(0), 1, 1e-7))
	if _, err := r.Prepare(0, 1, frames); !errors.Is(err, replica.ErrStale) {
		t.Errorf("a version ahead: %v", err)
	}
	if _, err := r.Prepare(0, 0, frames[1:]); err == nil {
		t.Error("a result without one slab was prepared")
	}
	if _, err := r.Prepare(2, 0, frames); err == nil {
		t.Error("a fragment that is not there was prepared")
	}
	bad := bytes.Clone(frames[1])
	bad[7] = 1
	if _, err := r.Prepare(0, 0, [][]byte{frames[0], bad}[:min(2, len(frames))]); len(frames) == 2 && !errors.Is(err, compress.ErrFrame) {
		t.Errorf("a bad frame: %v", err)
	}
}

// TestNullCommit: a result that would make a weight not finite changes nothing but the
// version, for everyone (R9).
func TestNullCommit(t *testing.T) {
	spec := tinySpec()
	spec.Result, spec.Contribution = "fp32", "fp32"
	r := newReplica(t, spec)
	other := newReplica(t, spec)
	huge := gradient(r.Layout(0), 1, 1e-7)
	huge[5] = math.MaxFloat32
	before := r.Heads()[0]
	a := decide(t, r, 0, encodeGradient(t, spec, r.Layout(0), huge))
	if got := r.Heads()[0]; got.Version != 1 || got.State != before.State || a.commit.State != before.State {
		t.Errorf("after a null commit: version %d, state %s, want %s", got.Version, got.State.Short(), before.State.Short())
	}
	b := decide(t, r, 0, encodeGradient(t, spec, r.Layout(0), gradient(r.Layout(0), 2, 1e-7)))
	replay(t, other, []outcome{a, b})
	if err := same(r, other); err != nil {
		t.Error(err)
	}
}

// TestPaddingStaysZero: whatever frames hold there.
func TestPaddingStaysZero(t *testing.T) {
	spec := tinySpec()
	r, _ := history(t, spec, 4, 3)
	for f := range r.Fragments() {
		l := r.Layout(f)
		ones := make([][]float32, len(l.Shapes()))
		for i, s := range l.Shapes() {
			ones[i] = make([]float32, s.Values())
			for j := range ones[i] {
				ones[i][j] = 1
			}
		}
		inside := make([]float32, l.Values())
		l.Gather(inside, ones)
		_, weights := r.Weights(f)
		for i := range weights {
			if inside[i] == 0 && math.Float32bits(weights[i]) != 0 {
				t.Fatalf("fragment %d: padding at %d is %g", f, i, weights[i])
			}
		}
	}
}

// TestCornersBoundWhatMoves: whatever frames hold, what is outside of a tensor's corner stays as it started, which is 0 but for
// a tensor that starts row by row.
func TestCornersBoundWhatMoves(t *testing.T) {
	spec := tinySpec()
	spec.Tensors[0].Init, spec.Tensors[0].Corner = wire.InitRows, []uint64{130, 20}
	spec.Tensors[2].Corner, spec.Tensors[4].Corner = []uint64{20}, []uint64{210, 20}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	begun := newReplica(t, spec).Tensors()
	r, _ := history(t, spec, 6, 3)
	for i, now := range r.Tensors() {
		s := spec.Tensors[i]
		columns := int(s.Shape[len(s.Shape)-1])
		inside := columns
		if s.Corner != nil {
			inside = 20
		}
		moved := 0
		for j, v := range now.Data {
			was := begun[i].Data[j]
			switch {
			case j%columns < inside:
				if v != was {
					moved++
				}
				if s.Init == wire.InitRows && was != 0 {
					t.Fatalf("%s[%d] starts as %v", s.Name, j, was)
				}
			case v != was || was == 0 == (s.Init == wire.InitRows):
				t.Fatalf("%s[%d] started as %v and is %v", s.Name, j, was, v)
			}
		}
		if moved < len(now.Data)/columns*inside/2 {
			t.Errorf("%s: only %d values moved", s.Name, moved)
		}
	}
	row := make([]float32, 50)
	compute.InitRow(row, spec.Seed, "wte", 129, spec.Tensors[0].Scale.Value())
	if !slices.Equal(begun[0].Data[129*70+20:], row) {
		t.Error("the last row of a tensor that starts row by row cannot be made by itself")
	}
}

// TestFlippedBit: hashes come from memory, so one bit that changed by itself shows in
// Check, in Hash, and at the next commit.
func TestFlippedBit(t *testing.T) {
	spec := tinySpec()
	honest, commits := history(t, spec, 5, 8)
	r := newReplica(t, spec)
	replay(t, r, commits[:4])
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	f := int(commits[4].commit.Fragment)
	_, weights := r.Weights(f)
	weights[len(weights)/3] = math.Float32frombits(math.Float32bits(weights[len(weights)/3]) ^ 1<<20)
	if err := r.Check(); !errors.Is(err, replica.ErrCorrupt) {
		t.Errorf("check: %v", err)
	}
	if r.Hash() == replica.HashHeads(r.Heads()) {
		t.Error("the hash does not show the flipped bit")
	}
	err := r.Apply(commits[4].commit, commits[4].frames)
	if !errors.Is(err, replica.ErrDiverged) || !strings.Contains(err.Error(), "the run has") {
		t.Errorf("apply: %v", err)
	}
	if r.Version(f) == honest.Version(f) {
		t.Error("a diverged replica moved on")
	}
}

func TestRestoreRefuses(t *testing.T) {
	spec := tinySpec()
	r, _ := history(t, spec, 4, 2)
	view := r.View()
	type input struct {
		heads     []wire.FragmentHead
		manifests []wire.Manifest
		blobs     map[wire.Hash][]byte
	}
	// put replaces slab 0 of fragment 0 by other bytes, with all hashes adjusted.
	put := func(in *input, b []byte) {
		h := wire.HashLeaf(b)
		in.blobs[h] = b
		in.manifests[0].Slabs[0] = h
		in.heads[0].State = wire.MerkleRoot(in.manifests[0].Slabs)
	}
	first := func(in *input) []byte { return bytes.Clone(in.blobs[in.manifests[0].Slabs[0]]) }
	l := r.Layout(0)
	for name, c := range map[string]struct {
		change func(*input)
		want   string
	}{
		"fine":              {func(*input) {}, ""},
		"a head missing":    {func(in *input) { in.heads = in.heads[1:] }, "heads"},
		"a slab missing":    {func(in *input) { in.manifests[0].Slabs = in.manifests[0].Slabs[1:] }, "manifest of"},
		"another state":     {func(in *input) { in.heads[1].State[0] ^= 1 }, "root"},
		"changed bytes":     {func(in *input) { b := first(in); b[9] ^= 1; in.blobs[in.manifests[0].Slabs[0]] = b }, "do not match"},
		"short bytes":       {func(in *input) { put(in, first(in)[8:]) }, "bytes, want"},
		"not finite":        {func(in *input) { b := first(in); copy(b, []byte{0, 0, 0x80, 0x7f}); put(in, b) }, "finite"},
		"padding in use":    {func(in *input) { b := first(in); b[4*(4096+10)] = 1; put(in, b) }, "padding"},
		"negative zero pad": {func(in *input) { b := first(in); b[4*(4096+10)+3] = 0x80; put(in, b) }, "padding"},
	} {
		in := input{heads: view.Heads(), blobs: map[wire.Hash][]byte{}}
		for f := range r.Fragments() {
			in.manifests = append(in.manifests, view.Manifest(f))
			for s, h := range in.manifests[f].Slabs {
				in.blobs[h] = view.SlabBytes(nil, f, s)
			}
		}
		c.change(&in)
		_, err := replica.Restore(spec, in.heads, in.manifests, func(h wire.Hash) ([]byte, error) {
			b, ok := in.blobs[h]
			if !ok {
				return nil, errors.New("not there")
			}
			return b, nil
		})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!errors.Is(err, replica.ErrState) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s (slab of %d values): %v", name, l.Values(), err)
		}
	}
	gone := errors.New("donor left")
	_, err := replica.Restore(spec, view.Heads(), []wire.Manifest{view.Manifest(0), view.Manifest(1)}, func(wire.Hash) ([]byte, error) { return nil, gone })
	if !errors.Is(err, gone) {
		t.Errorf("a donor that left: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*wire.RunSpec){
		"codec":  func(s *wire.RunSpec) { s.Result = "int9" },
		"codec2": func(s *wire.RunSpec) { s.Contribution = "int9" },
		"scale":  func(s *wire.RunSpec) { s.Tensors[0].Scale = wire.FloatOf(1e38) },
		"init":   func(s *wire.RunSpec) { s.Tensors[0].Init = 7 },
		"corner": func(s *wire.RunSpec) { s.Tensors[0].Corner = []uint64{131, 70} },
		"outer":  func(s *wire.RunSpec) { s.Outer.LR = 0 },
	} {
		spec := tinySpec()
		change(spec)
		if _, err := replica.New(spec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestCopyTo: live parameters of a worker receive a fragment's weights.
func TestCopyTo(t *testing.T) {
	r, _ := history(t, tinySpec(), 3, 5)
	all := r.Tensors()
	for f := range r.Fragments() {
		var live [][]float32
		for _, s := range r.Layout(f).Shapes() {
			live = append(live, make([]float32, s.Values()))
		}
		if err := r.CopyTo(f, live); err != nil {
			t.Fatal(err)
		}
		for i, s := range r.Layout(f).Shapes() {
			for _, tensor := range all {
				if tensor.Name == s.Name && tensor.Data[len(tensor.Data)-1] != live[i][len(live[i])-1] {
					t.Errorf("%s differs", s.Name)
				}
			}
		}
		if err := r.CopyTo(f, live[1:]); err == nil {
			t.Error("a tensor missing was accepted")
		}
	}
}

// TestConcurrentReaders: donors and hashes read while commits are promoted. The race
// detector judges.
func TestConcurrentReaders(t *testing.T) {
	spec := tinySpec()
	_, commits := history(t, spec, 6, 4)
	r := newReplica(t, spec)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 6 {
				view := r.View()
				if root := wire.MerkleRoot(view.Manifest(0).Slabs); root != view.Heads()[0].State {
					t.Error("a view changed")
				}
			}
		})
	}
	replay(t, r, commits)
	wg.Wait()
}
