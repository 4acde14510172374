package world

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dunlin/compress"
	"dunlin/compute/cpu"
	"dunlin/internal/world/link"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/peer/stage"
	"dunlin/pipeline"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/training"
)

// TestPipelineThroughput is `make bench-pipeline`: two stages, a peer each with one thread, on links of 100 Mbit/s and 50 ms.
// For each codec of what passes between them it forecasts the tokens a second from passes and inner steps that are timed in
// this process, measures them, and lets the run go on to its token budget for the held-out loss. WIDTH, CONTEXT, BLOCKS (a
// stage), TOKENS, WINDOW (seconds), BATCH, H, CODECS and DATA change what it measures; int8/64 is int8 of a subspace of 64 values.
func TestPipelineThroughput(t *testing.T) {
	if os.Getenv("BENCH_PIPELINE") == "" {
		t.Skip("make bench-pipeline runs this measurement")
	}
	const stages = 2
	blocks, window, batch := count("BLOCKS", 1), time.Duration(count("WINDOW", 45))*time.Second, count("BATCH", 16)
	shape := model.Config{Layers: stages * blocks, Heads: 16, Width: count("WIDTH", 1024), Context: count("CONTEXT", 512), Vocab: 256, Untied: true}
	file := filepath.Join(t.TempDir(), "shape.json")
	text := fmt.Sprintf(`{"model_type":"gpt2","n_layer":%d,"n_head":%d,"n_embd":%d,"n_positions":%d,"vocab_size":%d,"tie_word_embeddings":false}`,
		shape.Layers, shape.Heads, shape.Width, shape.Context, shape.Vocab)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	far := link.Path{Up: 100e6, Down: 100e6, Delay: 12500 * time.Microsecond}
	look := pipeline.Outlook{Tokens: shape.Context, InFlight: stage.InFlight(stages), Accept: 4 * far.Delay, Batch: batch}
	for s := range stages {
		part := model.Part{From: s * blocks, To: (s + 1) * blocks}
		w := pipeline.Worker{}
		w.Forward, w.Step = stageTimes(t, shape, part, batch)
		if s > 0 { // the trainer is a peer of the first stage
			w.Link = pipeline.Link{RTT: 4 * far.Delay, Bandwidth: far.Up / 8}
		}
		look.Stages = append(look.Stages, []pipeline.Worker{w})
		t.Logf("stage %d of %d wide blocks, %d of them: a forward pass of %d tokens takes %v, the optimizer of an inner step %v",
			s+1, shape.Width, blocks, shape.Context, w.Forward.Round(time.Millisecond), w.Step.Round(time.Millisecond))
	}
	table := []string{"what passes | kB between the stages | forecast, tokens/s | measured | of the forecast | held-out loss"}
	defer func() { t.Log("\n" + strings.Join(table, "\n")) }()
	for _, name := range strings.Fields(setting("CODECS", strings.Join(recipe.Activations(), " ")+" int8/64")) {
		t.Run(name, func(t *testing.T) {
			codecName, subspace, narrow := strings.Cut(name, "/")
			codec, err := compress.ByName(codecName)
			if err != nil {
				t.Fatal(err)
			}
			look.Bytes = float64(codec.EncodedSlabBytes(shape.Context * shape.Width))
			if narrow {
				values, err := strconv.Atoi(subspace)
				if err != nil || values < 1 {
					t.Fatalf("CODECS: %q has no subspace", name)
				}
				look.Bytes = float64(codec.EncodedSlabBytes(shape.Context*values) + shape.Context) // and a byte a token
			}
			forecast, err := look.Forecast()
			if err != nil {
				t.Fatal(err)
			}
			w := newTownBy(t, stages, far, func(lead *link.Host) func(*exec.Cmd) error { return lead.Start }, nil, "--preset", file, "--stages", fmt.Sprint(stages),
				"--activations", codecName, "--subspace", cmp.Or(subspace, "0"), "--worker-batch", fmt.Sprint(batch), "--h", setting("H", "4"), "--tokens", setting("TOKENS", "163840"), "--data", os.Getenv("DATA"), "--eval-windows", "16", "--rebalance", "0")
			trains := func(s *status.Snapshot) bool { return s.Health.Training == stages && s.Health.Commits >= stages }
			w.until("both stages train", 5*time.Minute, trains)
			rate := w.rates(window) / stages // each window passes through both
			w.until("a look", time.Minute, func(s *status.Snapshot) bool {
				for i := range s.Peers {
					if p := &s.Peers[i]; p.Utilisation > 0 {
						t.Logf("%s: the peer of stage %d computes %.0f %% of its time", name, p.Stage+1, 100*p.Utilisation)
					}
				}
				return true
			})
			end := w.until("the end", time.Hour, func(s *status.Snapshot) bool { return s.Run.Done && s.Learning.HeldOut != nil })
			t.Logf("%s: forecast held up by %s, inner steps cost %.0f %%; measured over %v, loss after %d tokens", name, forecast.Bound, 100*forecast.Steps, window, end.Run.Tokens)
			table = append(table, fmt.Sprintf("%s | %.0f | %.0f | %.0f | %.0f %% | %.4f", name, look.Bytes/1e3, forecast.Tokens, rate, 100*rate/forecast.Tokens, *end.Learning.HeldOut))
		})
	}
}

// stageTimes times a forward pass of one window, a third of a backward call, which is a forward pass and the gradients of
// input and weights; and the optimizer, Muon as the default recipe has it, in an inner step of so many windows.
func stageTimes(t *testing.T, shape model.Config, part model.Part, batch int) (forward, step time.Duration) {
	t.Helper()
	device, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	stage, err := model.NewStage(part, model.Room{Batch: 1}, shape, device)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	for _, p := range shape.PartParams(part) {
		p.Fill(stage.Params().Host[p.Offset:p.Offset+p.Size], 1)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	tokens, stream, dIn := make([]int32, shape.Context), make([]float32, shape.Context*shape.Width), make([]float32, shape.Context*shape.Width)
	for i := range tokens {
		tokens[i] = rng.Int32N(int32(shape.Vocab))
	}
	for i := range stream {
		stream[i] = float32(rng.NormFloat64())
	}
	in := model.Pass{Windows: 1, Tokens: tokens, Stream: stream, Targets: tokens}
	muon := optimizer.MuonConfig{Momentum: 0.95, Every: optimizer.MuonEvery(shape.Width, batch*shape.Context), AdamW: optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Clip: 1}}
	inner, err := optimizer.New(training.Target(device, stage.Params(), stage.Grads(), shape.PartParams(part)), muon)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	median := func(times int, do func() error) time.Duration {
		var took []time.Duration
		for range times {
			began := time.Now()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[times/2]
	}
	forward = median(7, func() error {
		_, err := stage.Backward(dIn, in, stream)
		return err
	}) / 3
	step = median(3, func() error {
		for range muon.Every {
			if _, err := inner.Step(1e-3, 0, 1.0/7); err != nil {
				return err
			}
		}
		return nil
	}) / time.Duration(muon.Every)
	return forward, step
}
