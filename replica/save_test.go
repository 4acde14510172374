package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"dunlin/replica"
	"dunlin/wire"
)

// memory is a store that remembers the order of things.
type memory struct {
	blobs map[wire.Hash][]byte
	log   []string
	fail  string // the operation that fails
}

var errDisk = errors.New("disk full")

func newMemory() *memory { return &memory{blobs: map[wire.Hash][]byte{}} }

func (m *memory) step(what string) error {
	if len(m.log) == 0 || m.log[len(m.log)-1] != what {
		m.log = append(m.log, what)
	}
	if m.fail == what {
		return errDisk
	}
	return nil
}

func (m *memory) Put(data []byte) ([32]byte, error) {
	h := wire.HashLeaf(data)
	m.blobs[h] = bytes.Clone(data)
	return h, m.step("put")
}

func (m *memory) Sync() error { return m.step("sync") }

func (m *memory) Get(hash [32]byte, limit int) ([]byte, error) {
	b, ok := m.blobs[hash]
	if !ok || len(b) > limit {
		return nil, fmt.Errorf("no blob %x of at most %d bytes", hash[:4], limit)
	}
	return b, nil
}

// TestSaveOpen: a saved state opens as it was, at its height.
func TestSaveOpen(t *testing.T) {
	spec := tinySpec()
	r, commits := history(t, spec, 4, 11)
	m := newMemory()
	var head []byte
	needed, err := r.Save(m, 17, func(b []byte) error { head = bytes.Clone(b); return m.step("head") })
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.log); got != "[put sync head]" {
		t.Errorf("order %s: bytes must be durable before the head names them", got)
	}
	want := 0
	for f := range r.Fragments() {
		want += r.Layout(f).Slabs() + 1
	}
	if len(needed) != want {
		t.Errorf("%d blobs are needed, want %d", len(needed), want)
	}
	opened, height, err := replica.Open(spec, head, m)
	if err != nil || height != 17 {
		t.Fatalf("height %d, %v", height, err)
	}
	if err := same(r, opened); err != nil {
		t.Error(err)
	}
	fresh := newReplica(t, spec)
	replay(t, fresh, commits)
	if err := same(fresh, opened); err != nil {
		t.Error(err)
	}
	for _, h := range needed {
		less := newMemory()
		for k, v := range m.blobs {
			if k != h {
				less.blobs[k] = v
			}
		}
		if _, _, err := replica.Open(spec, head, less); err == nil {
			t.Errorf("opened without blob %s, which is said to be needed", h.Short())
		}
	}
}

// TestSaveStops: a failure before the head leaves the old head in force.
func TestSaveStops(t *testing.T) {
	r, _ := history(t, tinySpec(), 2, 12)
	for _, fail := range []string{"put", "sync"} {
		m := newMemory()
		m.fail = fail
		if _, err := r.Save(m, 3, func([]byte) error { t.Errorf("%s failed, yet the head was published", fail); return nil }); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", fail, err)
		}
	}
	if _, err := r.Save(newMemory(), 3, func([]byte) error { return errDisk }); !errors.Is(err, errDisk) {
		t.Errorf("head: %v", err)
	}
	_, weights := r.Weights(0)
	weights[0]++
	if _, err := r.Save(newMemory(), 3, func([]byte) error { return nil }); !errors.Is(err, replica.ErrCorrupt) {
		t.Errorf("a corrupt state was saved: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	spec := tinySpec()
	r := newReplica(t, spec)
	m := newMemory()
	var head []byte
	if _, err := r.Save(m, 0, func(b []byte) error { head = bytes.Clone(b); return nil }); err != nil {
		t.Fatal(err)
	}
	other := tinySpec()
	other.Name = "another"
	if _, _, err := replica.Open(other, head, m); !errors.Is(err, replica.ErrHead) {
		t.Errorf("the head of another run: %v", err)
	}
	for _, b := range [][]byte{nil, {0xff}, head[:len(head)-1], append(bytes.Clone(head), 0)} {
		if _, _, err := replica.Open(spec, b, m); !errors.Is(err, replica.ErrHead) {
			t.Errorf("head %x: %v", b[:min(len(b), 4)], err)
		}
	}
}

func FuzzDecodeHead(f *testing.F) {
	run := wire.HashLeaf([]byte("run"))
	f.Add(wire.Encode(&replica.Head{Run: run, Height: 3, Fragments: []replica.SavedHead{{Version: 1, State: run, Manifest: run}}}))
	f.Add(wire.Encode(&replica.Head{Run: run}))
	f.Add([]byte{0xa3})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := replica.DecodeHead(b, run)
		if err != nil {
			return
		}
		if h.Run != run || len(h.Fragments) == 0 || !bytes.Equal(wire.Encode(h), b) {
			t.Fatalf("accepted %x as %+v", b, h)
		}
	})
}

// FuzzRestore feeds slab bytes under their right hashes: they are refused, or the state
// that they make is sound.
func FuzzRestore(f *testing.F) {
	spec := tinySpec()
	spec.Fragments = 1
	spec.Tensors = []wire.TensorSpec{{Name: "w", Shape: []uint64{3, 2}, Init: wire.InitOne}}
	fresh, err := replica.New(spec)
	if err != nil {
		f.Fatal(err)
	}
	good := fresh.View().SlabBytes(nil, 0, 0)
	f.Add(len(good), []byte{}, 0)
	f.Add(len(good), []byte{0, 0, 0x80, 0x7f}, 0)
	f.Add(len(good), []byte{1}, 8)
	f.Add(len(good)-1, []byte{}, 0)
	f.Fuzz(func(t *testing.T, n int, patch []byte, at int) {
		if n < 0 || n > len(good) || at < 0 || at > n {
			return
		}
		b := bytes.Clone(good[:n])
		copy(b[at:], patch)
		leaf := wire.HashLeaf(b)
		heads := []wire.FragmentHead{{Version: 1, State: leaf}}
		r, err := replica.Restore(spec, heads, []wire.Manifest{{Slabs: []wire.Hash{leaf}}}, func(wire.Hash) ([]byte, error) { return b, nil })
		if err != nil {
			return
		}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		_, weights := r.Weights(0)
		for i, x := range weights {
			if x-x != 0 || i%64 >= 2 && math.Float32bits(x) != 0 {
				t.Fatalf("value %d is %g", i, x)
			}
		}
	})
}

// TestOpenStage: a saved state of one stage has that stage's weights, needs nothing of the other, and follows it.
func TestOpenStage(t *testing.T) {
	spec := tinySpec()
	spec.Stages, spec.Activation, spec.Micro = []uint64{0, 1}, "int8", 1
	whole, commits := history(t, spec, 5, 11)
	for stage := range 2 {
		r, err := replica.NewStage(spec, stage, nil)
		if err != nil {
			t.Fatal(err)
		}
		follow := func(commits []outcome, r *replica.Replica) {
			for _, o := range commits {
				if f := int(o.commit.Fragment); r.Holds(f) {
					err = r.Apply(o.commit, o.frames)
				} else {
					err = r.Follow(o.commit)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		follow(commits[:3], r)
		m := newMemory()
		var head []byte
		if _, err := r.Save(m, 3, func(b []byte) error { head = bytes.Clone(b); return nil }); err != nil {
			t.Fatal(err)
		}
		opened, _, err := replica.OpenStage(spec, stage, head, m)
		if err != nil {
			t.Fatal(err)
		}
		follow(commits[3:], opened)
		if fmt.Sprint(opened.Heads()) != fmt.Sprint(whole.Heads()) {
			t.Errorf("stage %d: heads %v, the whole model's %v", stage, opened.Heads(), whole.Heads())
		}
		want := map[string][]float32{}
		for _, tensor := range whole.Tensors() {
			want[tensor.Name] = tensor.Data
		}
		tensors := opened.Tensors()
		if n := len(spec.FragmentTensors(stage)); len(tensors) != n {
			t.Errorf("stage %d: %d tensors, want %d", stage, len(tensors), n)
		}
		for _, tensor := range tensors {
			if !slices.Equal(tensor.Data, want[tensor.Name]) {
				t.Errorf("stage %d: %s is not the whole model's", stage, tensor.Name)
			}
		}
		if _, _, err := replica.Open(spec, head, m); err == nil {
			t.Errorf("stage %d: the whole model was made of it", stage)
		}
	}
	none, err := replica.NewStage(spec, wire.NoStage, nil)
	if err != nil || len(none.Tensors()) != 0 || fmt.Sprint(none.Heads()) != fmt.Sprint(newReplica(t, spec).Heads()) {
		t.Errorf("who holds nothing knows heads %v, %v", none.Heads(), err)
	}
}
