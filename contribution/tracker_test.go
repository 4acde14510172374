package contribution_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"dunlin/compress"
	"dunlin/contribution"
	"dunlin/optimizer"
	"dunlin/wire"
)

func config(t *testing.T) contribution.Config {
	t.Helper()
	l, err := compress.NewFlatLayout("w", 6, 2)
	if err != nil {
		t.Fatal(err)
	}
	return contribution.Config{Layout: l, Codec: compress.FP32{}, Merge: optimizer.Rebase, Decay: 1}
}

// started returns a tracker at version 5 with weights 1 to 6, and live parameters.
func started(t *testing.T, cfg contribution.Config) (*contribution.Tracker, [][]float32) {
	t.Helper()
	weights := []float32{1, 2, 3, 4, 5, 6}
	tr, err := contribution.New(cfg, 5, weights)
	if err != nil {
		t.Fatal(err)
	}
	return tr, [][]float32{slices.Clone(weights)}
}

func feedback(tr *contribution.Tracker) []float32 {
	e := make([]float32, 6)
	tr.Feedback(e)
	return e
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestSettlePerSlab: e is settled slab by slab (R5), and the next contribution carries
// what was missed.
func TestSettlePerSlab(t *testing.T) {
	tr, live := started(t, config(t))
	for i := range live[0] {
		live[0][i] -= 0.5
	}
	if err := tr.Snapshot(live); err != nil {
		t.Fatal(err)
	}
	c := must[*contribution.Contribution](t)(tr.Encode())
	if c.Base != 5 || len(c.Frames) != 3 || c.Root != wire.MerkleRoot(c.Leaves) || c.Leaves[1] != wire.HashLeaf(c.Frames[1]) {
		t.Fatalf("contribution %+v", c)
	}
	if want := math.Sqrt(6 * 0.25); math.Abs(float64(c.Norm)-want) > 1e-6 {
		t.Errorf("norm %g, want %g", c.Norm, want)
	}
	committed := []float32{10, 20, 30, 40, 50, 60}
	out := must[contribution.Outcome](t)(tr.Merge(live, contribution.Commit{Version: 6, Weights: committed, Included: func(s int) bool { return s != 1 }}))
	if out != (contribution.Outcome{Included: 2, Slabs: 3}) {
		t.Errorf("outcome %+v", out)
	}
	if e := feedback(tr); !slices.Equal(e, []float32{0, 0, 0.5, 0.5, 0, 0}) {
		t.Errorf("e = %v", e)
	}
	if !slices.Equal(live[0], committed) {
		t.Errorf("live = %v", live[0])
	}
	if err := tr.Snapshot(live); err != nil {
		t.Fatal(err)
	}
	c = must[*contribution.Contribution](t)(tr.Encode())
	next := make([]float32, 2)
	if err := (compress.FP32{}).Decode(next, c.Frames[1]); err != nil || !slices.Equal(next, []float32{0.5, 0.5}) {
		t.Errorf("the next contribution holds %v (%v), want what was missed", next, err)
	}
}

// TestLate: a commit without an outstanding snapshot leaves the drift live.
func TestLate(t *testing.T) {
	for _, rule := range []optimizer.Merge{optimizer.Rebase, optimizer.Reset} {
		cfg := config(t)
		cfg.Merge = rule
		tr, live := started(t, cfg)
		live[0][2] += 0.25
		must[contribution.Outcome](t)(tr.Merge(live, contribution.Commit{Version: 6, Weights: []float32{2, 2, 2, 2, 2, 2}}))
		if !slices.Equal(live[0], []float32{2, 2, 2.25, 2, 2, 2}) {
			t.Errorf("%s: live = %v", rule, live[0])
		}
		if e := feedback(tr); !slices.Equal(e, make([]float32, 6)) {
			t.Errorf("%s: e = %v", rule, e)
		}
	}
}

// TestResetDropsWhatFollowedTheSnapshot: reset takes the committed weights as they are and keeps e.
func TestResetDropsWhatFollowedTheSnapshot(t *testing.T) {
	cfg := config(t)
	cfg.Merge = optimizer.Reset
	tr, live := started(t, cfg)
	live[0][0] -= 1
	if err := tr.Snapshot(live); err != nil {
		t.Fatal(err)
	}
	must[*contribution.Contribution](t)(tr.Encode())
	live[0][5] = 100
	committed := []float32{2, 2, 2, 2, 2, 2}
	must[contribution.Outcome](t)(tr.Merge(live, contribution.Commit{Version: 6, Weights: committed}))
	if !slices.Equal(live[0], committed) {
		t.Errorf("live = %v", live[0])
	}
	if e := feedback(tr); !slices.Equal(e, []float32{1, 0, 0, 0, 0, 0}) {
		t.Errorf("e = %v", e)
	}
}

// TestSlept: commits beyond the next decay e, and drift older than two versions goes.
func TestSlept(t *testing.T) {
	for _, c := range []struct {
		version uint64
		dropped bool
		drift   float32
		e       float32
	}{
		{6, false, 0.5, 1},
		{7, false, 0.5, 0.5},
		{8, true, 0, 0.25},
		{15, true, 0, 1.0 / 512},
	} {
		cfg := config(t)
		cfg.Decay = 0.5
		tr, live := started(t, cfg)
		live[0][0] -= 1
		if err := tr.Snapshot(live); err != nil {
			t.Fatal(err)
		}
		must[*contribution.Contribution](t)(tr.Encode())
		live[0][0] += 0.5
		out := must[contribution.Outcome](t)(tr.Merge(live, contribution.Commit{Version: c.version, Weights: make([]float32, 6)}))
		if out.Dropped != c.dropped || live[0][0] != c.drift || feedback(tr)[0] != c.e || tr.Version() != c.version {
			t.Errorf("version %d: %+v, live %v, e %v", c.version, out, live[0], feedback(tr))
		}
	}
}

func TestOneUndecided(t *testing.T) {
	tr, live := started(t, config(t))
	if _, err := tr.Encode(); !errors.Is(err, contribution.ErrNoSnapshot) {
		t.Errorf("encode without a snapshot: %v", err)
	}
	if err := tr.Snapshot(live); err != nil {
		t.Fatal(err)
	}
	if err := tr.Snapshot(live); !errors.Is(err, contribution.ErrUndecided) {
		t.Errorf("a second snapshot: %v", err)
	}
	c := must[*contribution.Contribution](t)(tr.Encode())
	if tr.Pending() != c {
		t.Error("the contribution is not pending")
	}
	must[contribution.Outcome](t)(tr.Merge(live, contribution.Commit{Version: 6, Weights: make([]float32, 6)}))
	if tr.Pending() != nil {
		t.Error("a decided contribution is still pending")
	}
	if err := tr.Snapshot(live); err != nil {
		t.Error(err)
	}
}

// TestBrokenParameters: values that are not finite are never sent and do not reach e.
func TestBrokenParameters(t *testing.T) {
	for name, bad := range map[string]float32{"NaN": float32(math.NaN()), "infinite": float32(math.Inf(1)), "norm": 1e30} {
		tr, live := started(t, config(t))
		live[0][3] = bad
		if err := tr.Snapshot(live); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Encode(); !errors.Is(err, contribution.ErrNotFinite) {
			t.Errorf("%s: error %v", name, err)
		}
		if e := feedback(tr); !slices.Equal(e, make([]float32, 6)) {
			t.Errorf("%s: e = %v", name, e)
		}
		weights := []float32{1, 1, 1, 1, 1, 1}
		if err := tr.Restart(live, 9, weights); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(live[0], weights) || tr.Version() != 9 {
			t.Errorf("%s: restarted with %v at %d", name, live[0], tr.Version())
		}
		if err := tr.Snapshot(live); err != nil {
			t.Errorf("%s: after the restart: %v", name, err)
		}
	}
}

func TestMergeRefuses(t *testing.T) {
	tr, live := started(t, config(t))
	before := slices.Clone(live[0])
	for name, c := range map[string]contribution.Commit{
		"the same version": {Version: 5, Weights: make([]float32, 6)},
		"an older version": {Version: 1, Weights: make([]float32, 6)},
		"other weights":    {Version: 6, Weights: make([]float32, 5)},
	} {
		if _, err := tr.Merge(live, c); err == nil {
			t.Errorf("%s was merged", name)
		}
	}
	if _, err := tr.Merge([][]float32{{1}}, contribution.Commit{Version: 6, Weights: make([]float32, 6)}); err == nil {
		t.Error("other live parameters were merged")
	}
	if !slices.Equal(live[0], before) || tr.Version() != 5 {
		t.Error("a refused merge changed something")
	}
}

func TestConfigValidate(t *testing.T) {
	good := config(t)
	for name, change := range map[string]func(*contribution.Config){
		"layout": func(c *contribution.Config) { c.Layout = nil },
		"codec":  func(c *contribution.Config) { c.Codec = nil },
		"merge":  func(c *contribution.Config) { c.Merge = "lerp" },
		"decay":  func(c *contribution.Config) { c.Decay = 0 },
	} {
		cfg := good
		change(&cfg)
		if cfg.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkTracker(b *testing.B) {
	l, err := compress.NewLayout([]compress.Shape{{Name: "w", Dims: []int{512, 1024}}}, compress.EncodedBlockBytes(compress.Int8{}))
	if err != nil {
		b.Fatal(err)
	}
	weights := make([]float32, l.Values())
	tr, err := contribution.New(contribution.Config{Layout: l, Codec: compress.Int8{}, Merge: optimizer.Rebase, Decay: 1}, 0, weights)
	if err != nil {
		b.Fatal(err)
	}
	live := zeros(l)
	for i := range live[0] {
		live[0][i] = float32(i%97) * 1e-5
	}
	version := uint64(0)
	for b.Loop() {
		version++
		if err := tr.Snapshot(live); err != nil {
			b.Fatal(err)
		}
		if _, err := tr.Encode(); err != nil {
			b.Fatal(err)
		}
		if _, err := tr.Merge(live, contribution.Commit{Version: version, Weights: weights, Included: func(int) bool { return true }}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(l.Values()), "ns/parameter")
}
