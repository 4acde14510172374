package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"

	"github.com/spf13/cobra"

	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/data"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/peer"
	"dunlin/swarm"
	"dunlin/training"
)

func newTrain(t *terminal) *cobra.Command {
	c := &t.settings.config
	options := append(c.training(), c.seed(), c.windows(512), c.memory())
	options = append(options, c.cardLimits()...)
	return t.command("train", "train a model on this machine, without a network",
		"  dunlin train --preset nano --steps 1000 --out out/first\n  dunlin train --data book.txt --preset pico --steps 300 --log-format json\n"+
			"  dunlin train --data out/web@3,out/code@1 --preset small\n"+
			"  dunlin train --data code.txt --weights out/first --lr 2e-4 --out out/tuned",
		exactly(), t.train, append(options, c.compute()...)...)
}

func (t *terminal) train(ctx context.Context, c *Config, _ []string) error {
	cfg, err := c.solo()
	if err != nil {
		return err
	}
	defer cfg.Data.Close()
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return fmt.Errorf("make folder of checkpoints: %w", err)
	}
	lock, err := swarm.LockFolder(c.Out) // a second training would remove what this one is writing
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	p := t.progress(c)
	defer p.close()
	device, err := c.device(p)
	if err != nil {
		return err
	}
	defer device.Close()
	p.say(fmt.Sprintf("data           %s", cfg.Data.Description), "data", slog.String("description", cfg.Data.Description),
		slog.Int("train_tokens", cfg.Data.TrainTokens()), slog.Int("held_out_tokens", cfg.Data.HeldOutTokens()), slog.Int("vocabulary", cfg.Data.Tokenizer.Vocab()))
	what := c.Preset
	if c.Weights != "" {
		what = "weights of " + c.Weights
	}
	p.machine(device, fmt.Sprintf(" · %s, %s parameters", what, grouped(cfg.Trainer.Model.Parameters())),
		slog.String("preset", what), slog.Int("parameters", cfg.Trainer.Model.Parameters()))
	cards, end, untold := watch(device)
	defer func() { _ = end() }() // nothing of it is kept
	if err := c.unkept(untold); err != nil {
		return err
	}
	cfg.Limits = c.Cards
	if cards != nil {
		cfg.Cards = func() ([]training.Card, error) {
			now, err := cards()
			return peer.Heat(now), err
		}
	}
	cfg.Report = func(r training.SoloReport) { c.report(p, r) }
	var plan training.Plan
	var solo *training.Solo
	err = within(c.Memory, func(limit int64) (training.Plan, error) {
		return c.fit(device.on, &cfg.Trainer, limit, cfg.Demand())
	}, func(fits training.Plan) (err error) {
		plan = fits
		p.planned(plan)
		solo, err = training.NewSolo(device.on, cfg)
		return err
	}, p.halved)
	if err != nil {
		return err
	}
	defer solo.Close()
	if at := solo.ResumedAt(); at > 0 {
		p.say(fmt.Sprintf("resuming       from step %s in %s", grouped(at), c.Out), "resuming", slog.Int("step", at), slog.String("checkpoint", c.Out))
	}
	r, err := solo.Run(ctx)
	if err != nil {
		return err
	}
	p.worked(device)
	return t.trained(c, p, cfg.Data, plan, r)
}

// report shows how a training gets on.
func (c *Config) report(p *progress, r training.SoloReport) {
	at := "step " + grouped(r.Step)
	if c.Adaptive {
		at += fmt.Sprintf(" · %.1f %%", 100*r.Progress)
	} else {
		at += " of " + grouped(c.Steps)
	}
	if p.live {
		at += " " + bar(r.Progress)
	}
	line := fmt.Sprintf("training       %s · loss %.3f · %s tokens/s", at, r.Loss, rate(r.TokensPerSecond))
	attrs := []slog.Attr{
		slog.Int("step", r.Step), slog.Float64("loss", r.Loss), slog.Uint64("tokens", r.Tokens),
		slog.Float64("tokens_per_second", r.TokensPerSecond), slog.Float64("lr", r.LR),
	}
	if c.Adaptive || c.Micros > 1 {
		line += fmt.Sprintf(" · batch %d · noise scale %s", r.Windows, noise(r.NoiseScale))
		attrs = append(attrs, slog.Int("batch", r.Windows))
		if !math.IsNaN(r.NoiseScale) && !math.IsInf(r.NoiseScale, 0) {
			attrs = append(attrs, slog.Float64("noise_scale", r.NoiseScale))
		}
	}
	if r.Progress > 0 && r.TokensPerSecond > 0 {
		line += left(r.Progress, seconds(float64(r.Tokens)/r.TokensPerSecond))
	}
	p.step(line, attrs...)
}

// noise writes a gradient noise scale in windows.
func noise(windows float64) string {
	if math.IsInf(windows, 1) {
		return "beyond measure"
	}
	return rate(windows)
}

// trained prints the end of a training.
func (t *terminal) trained(c *Config, p *progress, from *data.Dataset, plan training.Plan, r training.SoloResult) error {
	unit, bits := unitOf(from.Tokenizer), ""
	bitsPerByte := r.ValLoss / math.Ln2 / from.BytesPerToken
	if unit != byteUnit {
		bits = fmt.Sprintf(", %.3f bits a byte", bitsPerByte)
	}
	attrs := []slog.Attr{
		slog.Int("step", r.Steps), slog.Uint64("tokens", r.Tokens), slog.Float64("tokens_per_second", r.TokensPerSecond),
		slog.Float64("val_loss", r.ValLoss), slog.Float64("bits_per_byte", bitsPerByte), slog.Float64("unigram_loss", r.Baselines.Unigram), slog.Float64("bigram_loss", r.Baselines.Bigram),
		slog.String("checkpoint", c.Out),
	}
	predicted := "predicted_rss_bytes"
	if plan.Apart {
		predicted = "predicted_device_bytes"
	}
	result := map[string]any{
		"steps": r.Steps, "tokens": r.Tokens, "tokens_per_second": r.TokensPerSecond, "val_loss": r.ValLoss, "bits_per_byte": bitsPerByte,
		"unigram_loss": r.Baselines.Unigram, "bigram_loss": r.Baselines.Bigram, "checkpoint": c.Out,
		predicted: plan.Bytes, "max_rss_bytes": maxResidentBytes(),
	}
	average := ""
	if c.EMA > 0 {
		attrs = append(attrs, slog.Float64("average_loss", r.AverageLoss))
		result["average_loss"] = r.AverageLoss
		average = fmt.Sprintf("held-out loss %.3f nats a %s of the averaged weights\n", r.AverageLoss, unit)
	}
	speed := "all of them trained before: more takes a larger --steps"
	if r.TokensPerSecond > 0 {
		speed = rate(r.TokensPerSecond) + " tokens/s"
	}
	p.say(fmt.Sprintf("done           %s tokens, %s", grouped(r.Tokens), speed), "done", attrs...)
	if c.JSON {
		return json.NewEncoder(t.out).Encode(result)
	}
	_, err := fmt.Fprintf(t.out, "held-out loss %.3f nats a %s%s (unigram %.3f, bigram %.3f) on %s windows\n%scheckpoint in %s\n",
		r.ValLoss, unit, bits, r.Baselines.Unigram, r.Baselines.Bigram, grouped(r.EvalWindows), average, c.Out)
	return err
}

// byteUnit is what losses are given per when tokens are bytes.
const byteUnit = "byte"

// unitOf names what a loss is given per.
func unitOf(t data.Tokenizer) string {
	if t == (data.Bytes{}) {
		return byteUnit
	}
	return "token"
}

// solo turns settings into a training.
func (c *Config) solo() (training.SoloConfig, error) {
	shape, weights, err := c.beginning()
	if err != nil {
		return training.SoloConfig{}, err
	}
	from, err := data.OpenDataset(c.Data, c.Out)
	if err != nil {
		return training.SoloConfig{}, err
	}
	if weights == nil && !isShapeFile(c.Preset) {
		shape.Vocab = from.Tokenizer.Vocab()
	}
	return training.SoloConfig{
		Trainer: c.trainer(shape), Init: weights, Data: from, Seed: c.Seed, Steps: c.Steps, Out: c.Out,
		Accumulate: c.Micros, Adaptive: c.Adaptive, Average: c.EMA,
		SaveEvery: c.SaveEvery, LogEvery: c.LogEvery, EvalWindows: c.Windows, Duty: training.Duty(c.Duty),
	}, nil
}

// beginning returns the shape of the model to train and the weights that --weights names, nil for none.
func (c *Config) beginning() (shape model.Config, weights *checkpoint.Checkpoint, err error) {
	if c.Weights == "" {
		shape, err = c.shape()
		return shape, nil, err
	}
	if weights, err = training.OpenWeights(c.Weights, training.Newest); err != nil {
		return shape, nil, err
	}
	if err = json.Unmarshal(weights.Config, &shape); err != nil {
		err = fmt.Errorf("open checkpoint %s: %w", c.Weights, err)
	}
	return shape, weights, err
}

// trainer turns settings into an inner step.
func (c *Config) trainer(shape model.Config) training.TrainerConfig {
	inner, rate := c.inner(shape)
	if c.LR > 0 {
		rate = c.LR
	}
	lr := optimizer.Schedule{Peak: rate, WarmUp: c.Warmup, Final: 0.1, Shape: optimizer.Cosine}
	switch optimizer.Shape(c.Schedule) {
	case optimizer.WSD:
		lr.Shape, lr.CoolDown, lr.Final = optimizer.WSD, c.Cooldown, 0
	case optimizer.Constant:
		lr.Shape, lr.Final = optimizer.Constant, 0
	case optimizer.Cosine:
	}
	return training.TrainerConfig{
		Model: shape, Batch: c.Batch, LR: lr, WeightDecay: optimizer.Schedule{Peak: c.Decay, Shape: optimizer.Constant}, Inner: inner,
	}
}

// adamW is the optimizer that is taken unless another one is named.
const adamW = "adamw"

// optimizerNames are the names that inner knows.
func optimizerNames() []string { return []string{adamW, "muon", "lamb", "sgd", "rmsprop", "adagrad"} }

// inner returns the optimizer and its own peak learning rate. AdamW's constants are those of the convergence study that
// the defaults come from; the others' rates are the best of a sweep by factors of about three over 800 steps of pico.
func (c *Config) inner(shape model.Config) (optimizer.Config, float64) {
	adam := optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: c.Clip}
	switch c.Optimizer {
	case "muon":
		tokens := c.Batch * max(1, c.Micros) * shape.Context
		return optimizer.MuonConfig{Momentum: 0.95, Every: optimizer.MuonEvery(shape.Width, tokens), AdamW: adam}, 1e-2
	case "lamb":
		return optimizer.LAMBConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-6, Clip: c.Clip}, 1e-2
	case "sgd":
		return optimizer.SGDConfig{Momentum: 0.9, Nesterov: true, Clip: c.Clip}, 0.1
	case "rmsprop":
		return optimizer.RMSPropConfig{Alpha: 0.95, Eps: 1e-8, Clip: c.Clip}, 2e-3
	case "adagrad":
		return optimizer.AdaGradConfig{Start: 0.1, Clip: c.Clip}, 3
	}
	return adam, 2e-3
}

// saved opens a folder's model, or its average.
func (c *Config) saved(device compute.Device, folder string, batch int) (*training.Saved, error) {
	from, err := c.model(folder)
	if err != nil {
		return nil, err
	}
	saved, err := training.NewSaved(device, from, batch)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", folder, err)
	}
	return saved, nil
}

// weights says which weights of a checkpoint are meant.
func (c *Config) weights() training.Weights {
	if c.Average {
		return training.Averaged
	}
	return training.Newest
}
