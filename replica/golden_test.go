package replica_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"dunlin/replica"
	"dunlin/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// goldenLines runs the whole replicated path: initialisation, then outer steps on
// gradients with denormals and large values, for both codecs.
func goldenLines(t *testing.T) string {
	var b strings.Builder
	for _, codec := range []string{"int8", "fp32"} {
		spec := tinySpec()
		spec.Result, spec.Contribution = codec, codec
		r := newReplica(t, spec)
		line := func(what string) {
			for f, h := range r.Heads() {
				fmt.Fprintf(&b, "%s %s fragment %d version %d state %s\n", codec, what, f, h.Version, h.State)
			}
		}
		line("init")
		for k := range 5 {
			for f := range r.Fragments() {
				g := gradient(r.Layout(f), k, []float32{1e-8, 1e-7, 0x1p-149, 0x1p-140, 1e-3}[k])
				for i := range 300 {
					g[i] = math.Float32frombits(uint32(i) * 0x6789)
				}
				o := decide(t, r, f, encodeGradient(t, spec, r.Layout(f), g))
				fmt.Fprintf(&b, "%s step %d fragment %d result %s\n", codec, k, f, o.commit.Result)
			}
			line(fmt.Sprintf("step %d", k))
		}
	}
	return b.String()
}

// TestGolden holds the replicated path to committed hashes: whatever the machine, they
// must come out (R9). TestGoldenLevels runs it under other instruction sets.
func TestGolden(t *testing.T) {
	got := goldenLines(t)
	file := filepath.Join("testdata", "golden.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(gotLines), len(wantLines)) {
			if gotLines[i] != wantLines[i] {
				t.Fatalf("line %d:\ngot  %s\nwant %s\nthe path is normative: a change of its bits is a new protocol version", i+1, gotLines[i], wantLines[i])
			}
		}
		t.Fatalf("%d lines, want %d", len(gotLines), len(wantLines))
	}
}

func TestSelfTest(t *testing.T) {
	if err := replica.SelfTest(); err != nil {
		t.Error(err)
	}
}

// goTool runs the go command with settings of its own.
func goTool(t *testing.T, env []string, args ...string) ([]byte, error) {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not on PATH")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), env...)
	return cmd.CombinedOutput()
}

// TestGoldenLevels runs the goldens again, compiled for the oldest and for a newer
// amd64: at v3 the compiler may use fused multiply-add.
func TestGoldenLevels(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("levels are an amd64 matter, this is %s", runtime.GOARCH)
	}
	for _, level := range []string{"v1", "v3"} {
		t.Run(level, func(t *testing.T) {
			out, err := goTool(t, []string{"GOAMD64=" + level, "GOEXPERIMENT=", "GOFLAGS="},
				"test", "-count=1", "-vet=off", "-v", "-run=^(TestGolden|TestSelfTest)$", "dunlin/replica")
			if bytes.Contains(out, []byte("can only be run on AMD64 processors with "+level)) {
				t.Skipf("this processor has no GOAMD64=%s", level)
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, name := range []string{"TestGolden", "TestSelfTest"} {
				if !bytes.Contains(out, []byte("--- PASS: "+name)) {
					t.Errorf("%s did not run:\n%s", name, out)
				}
			}
		})
	}
}

// fusedProbe is written the way the replicated path must not be: the check below has to
// find the fused instruction in it.
//
//go:noinline
func fusedProbe(x, y, z float32) float32 { return x*y + z }

var fusedInstruction = regexp.MustCompile(`\bF(N?M(ADD|SUB)|ML[AS])[A-Z]*\b`)

// TestNoFusedInstructions compiles the path for arm64, where the compiler fuses x*y+z
// unless the product is rounded explicitly, and looks at the instructions.
func TestNoFusedInstructions(t *testing.T) {
	if fusedProbe(2, 3, 4) != 10 { // keeps the probe in the test binary
		t.Fatal("arithmetic is broken")
	}
	binary := filepath.Join(t.TempDir(), "replica.test")
	if out, err := goTool(t, []string{"GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0", "GOFLAGS="},
		"test", "-c", "-vet=off", "-o", binary, "dunlin/replica"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const path = `^dunlin/(compress\.|replica\.|replica_test\.fusedProbe|optimizer\.(nesterov|Outer|exponentFull)|compute\.Init$)`
	out, err := goTool(t, nil, "tool", "objdump", "-s", path, binary)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found, fused := map[string]bool{}, map[string]string{}
	name := ""
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "TEXT "); ok {
			name, _, _ = strings.Cut(rest, "(SB)")
			found[name] = true
		} else if fusedInstruction.MatchString(line) {
			fused[name] = strings.TrimSpace(line)
		}
	}
	probe := "dunlin/replica_test.fusedProbe"
	if fused[probe] == "" {
		t.Error("the check finds no fused instruction where one must be")
	}
	delete(fused, probe)
	for name, line := range fused {
		t.Errorf("%s holds a fused instruction: %s", name, line)
	}
	for _, name := range []string{"dunlin/compress.decodeInt8", "dunlin/compress.decodeFP32", "dunlin/optimizer.nesterov", "dunlin/compute.Init", "dunlin/replica.(*Replica).step"} {
		if !found[name] {
			t.Errorf("%s is not in the binary: the check would miss it", name)
		}
	}
}

// BenchmarkApply is the cost of the replicated path, at most 10 ns a parameter.
func BenchmarkApply(b *testing.B) {
	spec := tinySpec()
	spec.Tensors = []wire.TensorSpec{{Name: "w", Shape: []uint64{1024, 512}, Init: wire.InitZero}}
	spec.Fragments = 1
	r := newReplica(b, spec)
	frames := encodeGradient(b, spec, r.Layout(0), gradient(r.Layout(0), 1, 1e-8))
	for b.Loop() {
		s, err := r.Prepare(0, 0, frames)
		if err != nil {
			b.Fatal(err)
		}
		s.Drop()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(r.Layout(0).Values()), "ns/parameter")
}

func TestApplyRefusesBadFrames(t *testing.T) {
	spec := tinySpec()
	r, commits := history(t, spec, 1, 3)
	fresh := newReplica(t, spec)
	o := commits[0]
	frames := append([][]byte(nil), o.frames...)
	frames[0] = bytes.Clone(frames[0])
	frames[0][len(frames[0])-1] ^= 1
	if err := fresh.Apply(o.commit, frames); !errors.Is(err, replica.ErrOther) {
		t.Errorf("frames of another result: %v", err)
	}
	if err := fresh.Apply(o.commit, o.frames); err != nil {
		t.Error(err)
	}
	if err := same(r, fresh); err != nil {
		t.Error(err)
	}
}
