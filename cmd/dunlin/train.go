package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"dunlin/compute/cpu"
	"dunlin/data"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/peer"
)

func newTrain(t *terminal) *cobra.Command {
	c := &t.settings.config
	options := append(c.training(), c.seed(), c.windows(512))
	return t.command("train", "train a model on this machine, without a network",
		"  dunlin train --preset nano --steps 1000 --out out/first\n  dunlin train --data book.txt --preset pico --steps 300 --log-format json",
		exactly(), t.train, append(options, c.compute()...)...)
}

func (t *terminal) train(ctx context.Context, c *Config, _ []string) error {
	cfg, err := c.solo()
	if err != nil {
		return err
	}
	device, err := c.device()
	if err != nil {
		return err
	}
	defer device.Close()
	p := t.progress(c)
	defer p.close()
	p.say(fmt.Sprintf("data           %s", cfg.Corpus.Description), "data", slog.String("description", cfg.Corpus.Description),
		slog.Int("train_tokens", len(cfg.Corpus.Train)), slog.Int("held_out_tokens", len(cfg.Corpus.HeldOut)))
	p.say(fmt.Sprintf("this machine   %s · %s, %s parameters", device.Name(), c.Preset, grouped(cfg.Trainer.Model.Parameters())), "machine",
		slog.String("device", device.Name()), slog.String("preset", c.Preset), slog.Int("parameters", cfg.Trainer.Model.Parameters()))
	cfg.Report = func(r peer.SoloReport) {
		p.step(fmt.Sprintf("training       step %s of %s · loss %.3f · %s tokens/s", grouped(r.Step), grouped(c.Steps), r.Loss, rate(r.TokensPerSecond)),
			slog.Int("step", r.Step), slog.Float64("loss", r.Loss), slog.Uint64("tokens", r.Tokens),
			slog.Float64("tokens_per_second", r.TokensPerSecond), slog.Float64("lr", r.LR))
	}
	solo, err := peer.NewSolo(device, cfg)
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
	return t.trained(c, p, r)
}

// trained prints the end of a training.
func (t *terminal) trained(c *Config, p *progress, r peer.SoloResult) error {
	p.say(fmt.Sprintf("done           %s tokens, %s tokens/s", grouped(r.Tokens), rate(r.TokensPerSecond)), "done",
		slog.Int("step", r.Steps), slog.Uint64("tokens", r.Tokens), slog.Float64("tokens_per_second", r.TokensPerSecond),
		slog.Float64("val_loss", r.ValLoss), slog.Float64("unigram_loss", r.Baselines.Unigram), slog.Float64("bigram_loss", r.Baselines.Bigram),
		slog.String("checkpoint", c.Out))
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"steps": r.Steps, "tokens": r.Tokens, "tokens_per_second": r.TokensPerSecond, "val_loss": r.ValLoss,
			"unigram_loss": r.Baselines.Unigram, "bigram_loss": r.Baselines.Bigram, "checkpoint": c.Out,
		})
	}
	_, err := fmt.Fprintf(t.out, "held-out loss %.3f nats a byte (unigram %.3f, bigram %.3f) on %s windows\ncheckpoint in %s\n",
		r.ValLoss, r.Baselines.Unigram, r.Baselines.Bigram, grouped(r.EvalWindows), c.Out)
	return err
}

// solo turns settings into a training.
func (c *Config) solo() (peer.SoloConfig, error) {
	shape, err := c.shape()
	if err != nil {
		return peer.SoloConfig{}, err
	}
	corpus, err := data.Open(c.Data)
	if err != nil {
		return peer.SoloConfig{}, err
	}
	return peer.SoloConfig{
		Trainer: c.trainer(shape), Corpus: corpus, Seed: c.Seed, Steps: c.Steps, Out: c.Out,
		SaveEvery: c.SaveEvery, LogEvery: c.LogEvery, EvalWindows: c.Windows,
	}, nil
}

// trainer turns settings into an inner step. The constants are those of the convergence study that the defaults come from.
func (c *Config) trainer(shape model.Config) peer.TrainerConfig {
	return peer.TrainerConfig{
		Model:       shape,
		Batch:       c.Batch,
		LR:          optimizer.Schedule{Peak: c.LR, WarmUp: c.Warmup, Final: 0.1, Shape: optimizer.Cosine},
		WeightDecay: optimizer.Schedule{Peak: c.Decay, Shape: optimizer.Constant},
		AdamW:       optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: c.Clip},
	}
}

// device opens what computes.
func (c *Config) device() (*cpu.Device, error) {
	return cpu.New(cpu.Options{Threads: c.Threads, Path: c.Kernels})
}
