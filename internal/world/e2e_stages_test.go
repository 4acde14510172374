package world

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/model"
)

// threeBlocks is the shape of a model for three stages.
func threeBlocks(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shape.json")
	text := `{"model_type":"gpt2","n_layer":3,"n_head":2,"n_embd":64,"n_positions":32,"vocab_size":256,"tie_word_embeddings":false}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDemoOfStagesSurvivesChaos has processes of every stage killed while six of them
// train a model in three stages; the peers of a stage end with one state, and the whole
// model has learned.
func TestDemoOfStagesSurvivesChaos(t *testing.T) {
	t.Parallel()
	path, dir := binary(t, ""), filepath.Join(t.TempDir(), "demo")
	chaosDemo(t, 40, dir, `(?s)killed [1-9][0-9]* workers \(in each stage: [1-9] [1-9] [1-9]\).* 3 stages: `,
		"--preset", threeBlocks(t), "--workers", "6", "--stages", "3", "--worker-batch", "4", "--data", corpusFile(t))
	if o := command(t, patience, path, nil, "inspect", filepath.Join(dir, "model")); o.code != 0 || !strings.Contains(o.stdout, "lm_head.weight") {
		t.Errorf("the model: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
}

// TestDemoOfOnePeerAStage is the smallest pipeline, with codecs that lose nothing and a model in a subspace.
func TestDemoOfOnePeerAStage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo")
	o := learningDemo(t, 120_000, dir, "--preset", threeBlocks(t), "--workers", "3", "--stages", "3", "--activations", "fp32", "--recipe", "diloco",
		"--worker-batch", "2", "--micro-batch", "2", "--subspace", "16", "--data", corpusFile(t), "--json")
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	var r struct {
		OK            bool
		Stages        int
		MicroBatches  uint64 `json:"micro_batches"`
		PartlyCounted uint64 `json:"partly_counted"`
		Workers       []struct {
			State string `json:"state_hash"`
		}
	}
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatal(err)
	}
	if !r.OK || r.Stages != 3 || r.MicroBatches == 0 || r.PartlyCounted != 0 {
		t.Errorf("report %+v", r)
	}
	if r.Workers[0].State == r.Workers[1].State {
		t.Error("two stages have one state")
	}
	exportStages(t, dir)
	if shape, err := model.ReadShape(filepath.Join(dir, "together", "config.json")); err != nil || shape.Subspace != 16 {
		t.Errorf("the model is %v: %v", shape, err)
	}
}

// exportStages brings the stages of a run's three workers together: the model is what the coordinator left.
func exportStages(t *testing.T, dir string) {
	t.Helper()
	path, to := binary(t, ""), filepath.Join(dir, "together")
	for i := range 3 {
		worker := filepath.Join(dir, fmt.Sprint("w", i+1))
		if o := command(t, patience, path, nil, "ledger", "verify", worker); o.code != 0 || !strings.Contains(o.stdout, "every byte, link, rule and signature holds") {
			t.Errorf("ledger of worker %d: exit code %d, %s%s", i, o.code, o.stdout, o.stderr)
		}
		o := command(t, patience, path, nil, "export", worker, to)
		want := "still missing"
		if i == 2 {
			want = "the whole model"
		}
		if o.code != 0 || !strings.Contains(o.stdout, want) {
			t.Fatalf("export of worker %d: exit code %d, %s%s", i, o.code, o.stdout, o.stderr)
		}
	}
	if o := command(t, patience, path, nil, "inspect", filepath.Join(dir, "model"), to); o.code != 0 || !strings.Contains(o.stdout, ": 0 values changed") {
		t.Errorf("the coordinator's model and the stages': exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if o := command(t, patience, path, nil, "inspect", filepath.Join(dir, "w1")); o.code == 0 || !strings.Contains(o.stderr, " of 3 only") {
		t.Errorf("a stage as a model: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
}

// TestMoreStagesThanWorkers is told before anything starts.
func TestMoreStagesThanWorkers(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--workers", "2", "--stages", "3"}, {"--preset", "pico", "--workers", "4", "--stages", "3"}, {"--stages", "0"}} {
		o := command(t, patience, binary(t, ""), nil, append([]string{"demo", "--seconds", "2", "--data", corpusFile(t), "--out", filepath.Join(t.TempDir(), "demo")}, args...)...)
		if o.code == 0 || !strings.Contains(o.stderr, "stages") {
			t.Errorf("%v: exit code %d, %s", args, o.code, o.stderr)
		}
	}
}
