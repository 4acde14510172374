package training

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/compute/cpu/cputest"
	"dunlin/data"
	"dunlin/model"
	"dunlin/optimizer"
)

// words makes a corpus of seeded nonsense that is easy to learn.
func words() *data.Corpus {
	rng := rand.New(rand.NewPCG(3, 3))
	vocabulary := []string{"func ", "return ", "err ", "nil\n", "if ", "for ", "range ", "{\n", "}\n"}
	var b strings.Builder
	for b.Len() < 20_000 {
		b.WriteString(vocabulary[rng.IntN(len(vocabulary))])
	}
	text := []byte(b.String())
	return &data.Corpus{Train: text[:18_000], HeldOut: text[18_000:], Files: 1, Description: "nonsense"}
}

// soloConfig is a training that takes well under a second.
func soloConfig(t *testing.T, steps int, out string) SoloConfig {
	t.Helper()
	return SoloConfig{
		Trainer: TrainerConfig{
			Model:       model.Config{Layers: 1, Heads: 2, Width: 16, Context: 16, Vocab: 256},
			Batch:       4,
			LR:          optimizer.Schedule{Peak: 1e-2, WarmUp: 0.1, Final: 0.1, Shape: optimizer.Cosine},
			WeightDecay: optimizer.Schedule{Peak: 0.1, Shape: optimizer.Constant},
			AdamW:       optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1},
		},
		Data: words().Dataset(), Seed: 7, Steps: steps, Out: out, SaveEvery: 5, LogEvery: 3, EvalWindows: 20,
	}
}

// train runs a training to its end.
func train(t *testing.T, cfg SoloConfig) SoloResult {
	t.Helper()
	s, err := NewSolo(cputest.Device(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// open reads the newest checkpoint of a folder.
func open(t *testing.T, folder string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// same reports whether two checkpoints hold the same bits.
func same(t *testing.T, a, b *checkpoint.Checkpoint) bool {
	t.Helper()
	bytesOf := func(c *checkpoint.Checkpoint) string {
		var out bytes.Buffer
		fmt.Fprintf(&out, "%d %s", c.Step, c.Config)
		if err := errors.Join(checkpoint.Write(&out, c.Model, nil), checkpoint.Write(&out, c.Trainer.Tensors, c.Trainer.Meta)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	return bytesOf(a) == bytesOf(b)
}

func TestTrainingLearnsAndBeatsCounting(t *testing.T) {
	cfg := soloConfig(t, 200, filepath.Join(t.TempDir(), "out"))
	var reports []SoloReport
	cfg.Report = func(r SoloReport) { reports = append(reports, r) }
	r := train(t, cfg)
	if r.Steps != 200 || r.ResumedAt != 0 || r.EvalWindows != 20 || r.Tokens != 200*4*16 {
		t.Errorf("result %+v", r)
	}
	if !(r.ValLoss < r.Baselines.Unigram) {
		t.Errorf("held-out loss %.3f is not below the unigram's %.3f", r.ValLoss, r.Baselines.Unigram)
	}
	if len(reports) != 67 || reports[0].Step != 3 || reports[66].Step != 200 {
		t.Fatalf("%d reports, from step %d to %d; want 67, from 3 to 200", len(reports), reports[0].Step, reports[len(reports)-1].Step)
	}
	if first, last := reports[0], reports[66]; !(last.Loss < first.Loss) || first.Tokens != 3*64 || first.TokensPerSecond <= 0 || last.LR >= first.LR {
		t.Errorf("first report %+v, last %+v", first, last)
	}
}

// TestKilledAndResumedEqualsNotKilled kills a training at every kind of moment by dropping it without a word, as
// kill -9 does, and goes on in a new one.
func TestKilledAndResumedEqualsNotKilled(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	result := train(t, soloConfig(t, 23, whole))
	for _, dies := range []int{1, 5, 7, 22} {
		out := filepath.Join(t.TempDir(), "killed")
		s, err := NewSolo(cputest.Device(t), soloConfig(t, 23, out))
		if err != nil {
			t.Fatal(err)
		}
		for s.step < dies {
			if _, err := s.next(); err != nil {
				t.Fatal(err)
			}
			if s.step%s.cfg.SaveEvery == 0 {
				if err := s.save(); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.Close()
		again := train(t, soloConfig(t, 23, out))
		if want := dies / 5 * 5; again.ResumedAt != want {
			t.Errorf("killed at step %d: went on from %d, want %d", dies, again.ResumedAt, want)
		}
		if again.ValLoss != result.ValLoss || !same(t, open(t, whole), open(t, out)) {
			t.Errorf("killed at step %d: ends with other bits (held-out %v, want %v)", dies, again.ValLoss, result.ValLoss)
		}
	}
}

func TestStoppedTrainingSavesAndGoesOn(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	train(t, soloConfig(t, 12, whole))

	ctx, stop := context.WithCancel(t.Context())
	out := filepath.Join(t.TempDir(), "stopped")
	cfg := soloConfig(t, 12, out)
	cfg.SaveEvery = 0
	cfg.Report = func(r SoloReport) { stop() }
	s, err := NewSolo(cputest.Device(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var stopped *Stopped
	if _, err := s.Run(ctx); !errors.As(err, &stopped) || stopped.Step != 3 || stopped.Out != out {
		t.Fatalf("got %v, want stopped at step 3", err)
	}
	if r := train(t, soloConfig(t, 12, out)); r.ResumedAt != 3 {
		t.Errorf("went on from step %d, want 3", r.ResumedAt)
	}
	if !same(t, open(t, whole), open(t, out)) {
		t.Error("ends with other bits than a training that was not stopped")
	}
	if r := train(t, soloConfig(t, 12, out)); r.ResumedAt != 12 || r.TokensPerSecond != 0 {
		t.Errorf("a finished training makes steps again: %+v", r)
	}
}

func TestResumingRefusesOtherSettings(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	train(t, soloConfig(t, 5, out))
	for want, change := range map[string]func(*SoloConfig){
		"another batch":        func(c *SoloConfig) { c.Trainer.Batch = 2 },
		"another seed":         func(c *SoloConfig) { c.Seed = 8 },
		"another model":        func(c *SoloConfig) { c.Trainer.Model.Heads = 4 },
		"another lr":           func(c *SoloConfig) { c.Trainer.LR.Peak = 1e-3 },
		"another weight decay": func(c *SoloConfig) { c.Trainer.WeightDecay.Peak = 0 },
		"another optimizer":    func(c *SoloConfig) { c.Trainer.AdamW.Clip = 2 },
		"another accumulate":   func(c *SoloConfig) { c.Accumulate = 2 },
		"another adaptive":     func(c *SoloConfig) { c.Adaptive = true },
		"another average":      func(c *SoloConfig) { c.Average = 0.9 },
		"another data":         func(c *SoloConfig) { w := words(); w.HeldOut = w.HeldOut[1:]; c.Data = w.Dataset() },
		"more than 4":          func(c *SoloConfig) { c.Steps = 4 },
	} {
		cfg := soloConfig(t, 5, out)
		change(&cfg)
		if s, err := NewSolo(cputest.Device(t), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
			if s != nil {
				s.Close()
			}
		}
	}
	longer := soloConfig(t, 8, out)
	if r := train(t, longer); r.ResumedAt != 5 || r.Steps != 8 {
		t.Errorf("a longer training does not go on: %+v", r)
	}
}

func TestTrainingBeginsWithGivenWeights(t *testing.T) {
	first := filepath.Join(t.TempDir(), "first")
	learned := train(t, soloConfig(t, 60, first))

	out := filepath.Join(t.TempDir(), "out")
	given := func() SoloConfig {
		cfg := soloConfig(t, 5, out)
		cfg.Init = open(t, first)
		return cfg
	}
	s, err := NewSolo(cputest.Device(t), given())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	have, err := s.trainer.Model().Tensors()
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := errors.Join(checkpoint.Write(&a, have, nil), checkpoint.Write(&b, open(t, first).Model, nil)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) || s.step != 0 || s.trainer.Inner().Steps() != 0 {
		t.Errorf("step %d, the optimizer's %d: want the given weights and nothing else", s.step, s.trainer.Inner().Steps())
	}
	if r, err := s.Run(t.Context()); err != nil || math.Abs(r.ValLoss-learned.ValLoss) > 0.5 {
		t.Errorf("ends with %v, %v; began with %v", r.ValLoss, err, learned.ValLoss)
	}

	if r := train(t, given()); r.ResumedAt != 5 {
		t.Errorf("went on from step %d, want 5", r.ResumedAt)
	}
	other := given()
	other.Init.Model[0].Data[0]++
	for name, cfg := range map[string]SoloConfig{"none": soloConfig(t, 5, out), "other": other} {
		if _, err := NewSolo(cputest.Device(t), cfg); err == nil || !strings.Contains(err.Error(), "another set of weights") {
			t.Errorf("%s: went on with weights that it did not begin with: %v", name, err)
		}
	}
	wrong := given()
	wrong.Out, wrong.Init.Tokenizer = filepath.Join(t.TempDir(), "wrong"), []byte("{}")
	if _, err := NewSolo(cputest.Device(t), wrong); err == nil || !strings.Contains(err.Error(), "another tokenizer") {
		t.Errorf("trains weights on tokens that they do not know: %v", err)
	}
	wrong.Init.Tokenizer, wrong.Trainer.Model.Width = nil, 32
	if _, err := NewSolo(cputest.Device(t), wrong); err == nil || !strings.Contains(err.Error(), "transformer.wte.weight") {
		t.Errorf("loads weights of another shape: %v", err)
	}
}

func TestDamagedCheckpointIsNotTrainedOn(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	train(t, soloConfig(t, 5, out))
	files, err := filepath.Glob(filepath.Join(out, "step-*", "trainer.safetensors"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(files[0], content, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSolo(cputest.Device(t), soloConfig(t, 5, out)); err == nil || !strings.Contains(err.Error(), "trainer.safetensors") {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

// TestOneCheckpointIsNotTrainedInto would train a second time what it has trained: the folder of one checkpoint stays
// the one that is read, whatever is saved below it.
func TestOneCheckpointIsNotTrainedInto(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	train(t, soloConfig(t, 5, out))
	if _, err := NewSolo(cputest.Device(t), soloConfig(t, 10, filepath.Join(out, "step-000000005"))); err == nil || !strings.Contains(err.Error(), "it is one checkpoint") {
		t.Errorf("got %v, want an error that says to name the folder that holds it", err)
	}
}

// TestRoundedVocabularyOfBytesOpensAgain trains a model with more tokens than bytes.
func TestRoundedVocabularyOfBytesOpensAgain(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	cfg := soloConfig(t, 2, out)
	cfg.Trainer.Model.Vocab = 300
	train(t, cfg)
	s, err := OpenSaved(cputest.Device(t), out, Newest, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	written := 0
	err = s.Sample(t.Context(), []byte("func "), 200, model.Sampling{Temperature: 100, Seed: 1}, func(byte) bool {
		written++
		return true
	})
	if err != nil || written != 200 {
		t.Errorf("%d bytes, %v", written, err)
	}
}

func TestDivergenceSaysWhatToDo(t *testing.T) {
	cfg := soloConfig(t, 50, filepath.Join(t.TempDir(), "out"))
	s, err := NewSolo(cputest.Device(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	broken := make([]float32, s.trainer.Params()[0].Size)
	for i := range broken {
		broken[i] = float32(math.Inf(1))
	}
	if err := s.trainer.Write(0, broken); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "step 1") || !strings.Contains(err.Error(), "lower --lr") {
		t.Errorf("got %v", err)
	}
}

// losable is a device that is lost at its next download once it is told so.
type losable struct {
	compute.Device
	lost bool
}

func (l *losable) Download(dst []float32, src compute.Buffer) error {
	if l.lost {
		return fmt.Errorf("download: %w", compute.ErrLost)
	}
	return l.Device.Download(dst, src)
}

func TestLostDeviceSaysWhereItGoesOn(t *testing.T) {
	cfg := soloConfig(t, 20, filepath.Join(t.TempDir(), "out"))
	d := &losable{Device: cputest.Device(t)}
	cfg.LogEvery = 1
	cfg.Report = func(r SoloReport) { d.lost = r.Step == 7 }
	s, err := NewSolo(d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Run(t.Context()); !errors.Is(err, compute.ErrLost) || !strings.Contains(err.Error(), "goes on from step 5") {
		t.Errorf("lost in step 8: %v", err)
	}
	if r := train(t, cfg); r.ResumedAt != 5 || r.Steps != 20 {
		t.Errorf("it goes on from step %d to %d", r.ResumedAt, r.Steps)
	}
}

func TestSoloConfigListsEveryFault(t *testing.T) {
	cfg := SoloConfig{LogEvery: 1}
	err := cfg.Validate()
	for _, want := range []string{"layers", "batch", "no data", "steps", "folder"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in: %v", want, err)
		}
	}
}

func TestTrainerReadsAndWritesParameters(t *testing.T) {
	tr, err := NewTrainer(cputest.Device(t), soloConfig(t, 1, "unused").Trainer)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	p := tr.Params()[3]
	values := make([]float32, p.Size)
	for i := range values {
		values[i] = float32(i)
	}
	if err := tr.Write(3, values); err != nil {
		t.Fatal(err)
	}
	got := make([]float32, p.Size)
	if err := tr.Read(got, 3); err != nil || got[5] != 5 {
		t.Errorf("read back %v, %v", got[:6], err)
	}
	if tr.Read(got[1:], 3) == nil || tr.Write(3, values[1:]) == nil {
		t.Error("takes a slice of another size")
	}
}

func TestSavedEvaluatesEveryByteOnceAndSamples(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	train(t, soloConfig(t, 30, out))
	saved, err := OpenSaved(cputest.Device(t), out, Newest, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	text := words().HeldOut[:16*4+6] // four windows and a tail of five targets
	got, err := saved.Evaluate(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	var nats float64
	for at := 0; at < len(text)-1; at += 16 {
		tokens := data.Encode(nil, text[at:min(at+17, len(text))])
		loss, err := saved.Model.Loss(tokens[:len(tokens)-1], tokens[1:], 1)
		if err != nil {
			t.Fatal(err)
		}
		nats += float64(loss) * float64(len(tokens)-1)
	}
	if want := nats / float64(len(text)-1); got.Tokens != len(text)-1 || math.Abs(got.Loss-want) > 1e-5 || math.Abs(got.BitsPerByte-got.Loss/math.Ln2) > 1e-12 {
		t.Errorf("evaluation %+v, want a loss of %v over %d tokens", got, want, len(text)-1)
	}
	if _, err := saved.Evaluate(t.Context(), text[:1]); err == nil {
		t.Error("evaluates a text without anything to predict")
	}

	sample := func() string {
		var b strings.Builder
		if err := saved.Sample(t.Context(), []byte("func "), 40, model.Sampling{Temperature: 0.8, Seed: 5}, func(c byte) bool { return b.WriteByte(c) == nil }); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if one, two := sample(), sample(); len(one) != 40 || one != two {
		t.Errorf("two samples of one seed: %q and %q", one, two)
	}
}

func TestMeasureSpeedCountsWork(t *testing.T) {
	cfg := soloConfig(t, 1, "unused").Trainer
	probes := 0
	speed, err := MeasureSpeed(t.Context(), cputest.Device(t), cfg, 0, func() float64 { probes++; return 1 })
	if err != nil || speed.Steps != 3 || speed.Samples != 3 || speed.Rejected != 0 || probes != 4 || speed.TokensPerSecond <= 0 || speed.FLOPPerSecond <= speed.TokensPerSecond {
		t.Errorf("%+v, %v", speed, err)
	}
}

// TestSpeedIsJudged leaves out what was timed while the processor gave less, and takes the middle of the rest.
func TestSpeedIsJudged(t *testing.T) {
	fast, slow := sample{30, 200, 210}, sample{10, 100, 205}
	for _, c := range []struct {
		name     string
		samples  []sample
		rate     float64
		accepted int
	}{
		{"all good", []sample{fast, {20, 200, 200}, {60, 200, 180}}, 30, 3},
		{"an even number", []sample{fast, {20, 200, 200}}, 25, 2},
		{"slow before", []sample{slow, slow, slow, fast}, 30, 1},
		{"slow after", []sample{{10, 205, 100}, fast}, 30, 1},
		{"none good", []sample{slow, {20, 210, 90}, {40, 90, 210}}, 20, 0},
	} {
		if rate, accepted := steady(c.samples); rate != c.rate || accepted != c.accepted {
			t.Errorf("%s: rate %v of %d samples, want %v of %d", c.name, rate, accepted, c.rate, c.accepted)
		}
	}
}
