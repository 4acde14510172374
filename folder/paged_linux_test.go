package folder

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"dunlin/compress"
	"dunlin/compute"
	"dunlin/replica"
	"dunlin/wire"
)

// TestPaged: with momenta in files commits lead to the same bits, the folder shows nothing, and files end with the replica.
func TestPaged(t *testing.T) {
	dir := t.TempDir()
	room, err := Paged(dir)
	if err != nil {
		t.Fatal(err)
	}
	spec := blocks(2, 2, 70)
	inMemory, inFiles := stateZero(t, spec, nil), stateZero(t, spec, room)
	if n := momentumFiles(t); n != 2 {
		t.Fatalf("%d files for two fragments", n)
	}
	for k := range 6 {
		outerStep(t, spec, k%2, k, inMemory, inFiles)
	}
	if inMemory.Hash() != inFiles.Hash() {
		t.Fatalf("state %s in files, %s in memory", inFiles.Hash().Short(), inMemory.Hash().Short())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("%d files have names: %v", len(files), err)
	}
	runtime.KeepAlive(inFiles)
	inFiles = nil
	for began := time.Now(); time.Since(began) < time.Minute; { // cleanups run beside a collection
		if runtime.GC(); momentumFiles(t) == 0 {
			return
		}
	}
	t.Errorf("%d files are still mapped", momentumFiles(t))
}

// TestPagedWithoutRoom: where no file can be had later on, momenta lie in memory; where none can be had at all, that is said.
func TestPagedWithoutRoom(t *testing.T) {
	dir := t.TempDir() + "/run"
	room, err := Paged(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if f := room.Floats(1000); len(f.Values) != 1000 || momentumFiles(t) != 0 {
		t.Errorf("%d values, %d files", len(f.Values), momentumFiles(t))
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Paged(dir); err == nil || !strings.Contains(err.Error(), "momentum on disk") {
		t.Errorf("a file as folder: %v", err)
	}
}

// TestPagedMemory is part of `make bench-billion`: what a commit of one of four fragments of a model of 124 million
// parameters leaves in memory, with momenta there and in files.
func TestPagedMemory(t *testing.T) {
	if os.Getenv("BENCH_BILLION") == "" {
		t.Skip("make bench-billion runs this measurement")
	}
	room, err := Paged(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	spec := blocks(53, 4, 1532)
	var states [2]wire.Hash
	for i, r := range []replica.Room{nil, room} {
		state := stateZero(t, spec, r)
		for f := range 4 {
			outerStep(t, spec, f, f, state)
		}
		debug.FreeOSMemory()
		states[i] = state.Hash()
		t.Logf("momenta in files: %t: %d MB in memory, %d files", r != nil, anonymous(t)>>20, momentumFiles(t))
	}
	if states[0] != states[1] {
		t.Errorf("states %s and %s", states[0].Short(), states[1].Short())
	}
}

// blocks is a run of n square tensors.
func blocks(n int, fragments, side uint64) *wire.RunSpec {
	spec := &wire.RunSpec{
		Seed: 1, Fragments: fragments, H: 24, Contribution: "int8", Result: "int8",
		Outer: wire.OuterSpec{LR: wire.FloatOf(0.7), Momentum: wire.FloatOf(0.9)},
	}
	for i := range n {
		spec.Tensors = append(spec.Tensors, wire.TensorSpec{
			Name: fmt.Sprintf("w%d", i), Shape: []uint64{side, side}, Init: wire.InitNormal, Scale: wire.FloatOf(compute.InitScale(0.05)), Fragment: uint64(i) % fragments,
		})
	}
	return spec
}

func stateZero(t *testing.T, spec *wire.RunSpec, room replica.Room) *replica.Replica {
	t.Helper()
	r, err := replica.NewStage(spec, wire.AllStages, room)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// outerStep makes a commit of made-up gradients on each replica.
func outerStep(t *testing.T, spec *wire.RunSpec, f, seed int, replicas ...*replica.Replica) {
	t.Helper()
	codec, err := compress.ByName(spec.Result)
	if err != nil {
		t.Fatal(err)
	}
	layout := replicas[0].Layout(f)
	values := make([]float32, layout.Values())
	compute.Init(values, uint64(seed), "gradient", wire.FloatOf(compute.InitScale(0.01)).Value())
	var frames [][]byte
	for i := range layout.Slabs() {
		from, to := layout.SlabValues(i)
		frame, err := codec.Encode(nil, values[from:to])
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	for _, r := range replicas {
		head := r.Heads()[f]
		s, err := r.Prepare(f, head.Version, frames)
		if err != nil {
			t.Fatal(err)
		}
		if s.Null() {
			t.Fatal("the gradient is not finite")
		}
		if err := r.Promote(s, &wire.Commit{Fragment: uint64(f), Base: head.Version, BaseState: head.State, Result: s.Result(), State: s.State()}); err != nil {
			t.Fatal(err)
		}
	}
}

// momentumFiles counts the files that are mapped.
func momentumFiles(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(maps, []byte("/.momentum-"))
}

// anonymous returns bytes of memory that lie in no file.
func anonymous(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("RssAnon:"))
	var kB int
	if _, err := fmt.Sscan(string(rest), &kB); err != nil {
		t.Fatal(err)
	}
	return kB << 10
}
