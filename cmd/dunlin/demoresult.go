package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dunlin/cmd/dunlin/localswarm"
	"dunlin/compute/cpu"
	"dunlin/model"
	"dunlin/status"
	"dunlin/training"
	"dunlin/wire"
)

// demoResult is what a demo ends with; its JSON form is promised to scripts.
type demoResult struct {
	ValLossStart           *float64     `json:"val_loss_start"` // nats a token
	ValLossEnd             *float64     `json:"val_loss_end"`
	Seconds                float64      `json:"seconds"` // of training
	Tokens                 uint64       `json:"tokens"`  // committed
	Commits                uint64       `json:"commits"`
	FailedAttempts         uint64       `json:"failed_attempts"`
	Height                 uint64       `json:"height"` // that all drained to
	Parameters             uint64       `json:"parameters"`
	InnerSteps             float64      `json:"inner_steps"` // a worker's, mean
	OuterSteps             float64      `json:"outer_steps"` // merged by a worker, mean
	InnerStepsPerOuter     int          `json:"inner_steps_per_outer"`
	Fragments              int          `json:"fragments"`
	TokensPerStep          uint64       `json:"tokens_per_step"` // a worker's
	Codec                  string       `json:"codec"`
	BitsPerParameter       float64      `json:"bits_per_parameter"`
	UploadBitsPerParameter float64      `json:"upload_bits_per_parameter"`
	BytesRatio             float64      `json:"bytes_ratio_fp32_data_parallel"`
	BigramLoss             *float64     `json:"bigram_loss"`
	Sample                 string       `json:"sample"`
	OK                     bool         `json:"ok"`
	Reason                 string       `json:"reason"`
	Workers                []demoWorker `json:"workers"`
	Stages                 int          `json:"stages,omitempty"`         // of a run whose model is spread over workers
	MicroBatches           uint64       `json:"micro_batches,omitempty"`  // that its trainers finished
	PartlyCounted          uint64       `json:"partly_counted,omitempty"` // those of them that count in some stages only

	shown status.Snapshot // the workers, for the table
}

// demoWorker is one worker of a demo.
type demoWorker struct {
	ID              string    `json:"id"`
	Tokens          uint64    `json:"tokens"` // trained on
	TokensPerSecond float64   `json:"tokens_per_second"`
	Sent            uint64    `json:"bytes_sent"`
	Received        uint64    `json:"bytes_received"`
	Utilisation     float64   `json:"utilisation"`
	StateHash       wire.Hash `json:"state_hash"` // computed from its memory
	Alive           bool      `json:"alive"`      // at the end
}

// The sample that a demo ends with.
const (
	samplePrompt = "func "
	sampleBytes  = 120
)

// report judges the run. failure is what went wrong while it ran, or nil.
func (d *demo) report(failure error) *demoResult {
	r := &demoResult{Workers: []demoWorker{}}
	if s := d.last; s != nil {
		r.fill(d, s)
	}
	if failure == nil {
		failure = r.judge(d)
	}
	if failure == nil {
		r.Sample, failure = d.sample()
	}
	if failure != nil {
		r.Reason = failure.Error()
	}
	r.OK = failure == nil
	return r
}

// fill takes the figures from the last snapshot and from what was counted.
func (r *demoResult) fill(d *demo, s *status.Snapshot) {
	r.ValLossStart = d.first
	if s.Run.Done {
		r.ValLossEnd = s.Learning.HeldOut
	}
	r.BigramLoss = s.Learning.Bigram
	if end := d.ended; !d.trained.IsZero() {
		if end.IsZero() {
			end = time.Now()
		}
		r.Seconds = end.Sub(d.trained).Seconds()
	}
	r.Tokens, r.Commits, r.FailedAttempts = s.Run.Tokens, s.Health.Commits, d.failed+s.Health.FailedAttempts
	r.Parameters, r.Fragments, r.TokensPerStep, r.Codec = s.Run.Parameters, s.Run.Fragments, s.Run.StepTokens, s.Run.Codec
	r.InnerStepsPerOuter, r.Stages = s.Run.H, len(s.Stages)
	r.MicroBatches, r.PartlyCounted = s.Health.MicroBatches, s.Health.PartlyCounted
	r.shown = status.Snapshot{Run: s.Run, Stages: s.Stages}
	var sum localswarm.Counters
	for _, w := range d.swarm.Workers {
		n, last := w.Tally.Total(), &w.Tally.Last
		alive := !w.Killed && (w.Running() || w.Err == nil) && w.Tally.Present() // else the run ended before it came, or came back
		if alive {
			r.Height = max(r.Height, last.Height)
		}
		r.Workers = append(r.Workers, demoWorker{
			ID: w.ID, Tokens: n.Tokens, TokensPerSecond: w.Tally.TokensPerSecond(), Sent: n.Sent, Received: n.Received,
			Utilisation: last.Utilisation, StateHash: last.StateHash, Alive: alive,
		})
		r.shown.Peers = append(r.shown.Peers, endOf(&w.Tally, w.Name, alive, w.Killed))
		sum.Steps += n.Steps
		sum.Outer += n.Outer
		sum.Round += n.Round
		sum.Contributed += n.Contributed
	}
	r.costs(&sum)
}

// endOf is the row of a worker in the table at the end.
func endOf(t *localswarm.Tally, name string, alive, killed bool) status.Peer {
	p, n := t.Last, t.Total()
	p.Name, p.Alive, p.Tokens, p.Sent, p.Received = name, alive, n.Tokens, n.Sent, n.Received
	p.TokensPerSecond, p.State, p.Reason = t.TokensPerSecond(), wire.StateTraining.String(), ""
	switch {
	case killed:
		p.Reason = "killed"
	case !alive:
		p.Reason = "had no part in the end"
	}
	return p
}

// costs computes the protocol's figures from all workers' sums.
func (r *demoResult) costs(sum *localswarm.Counters) {
	workers, parameters := float64(len(r.Workers)), float64(r.Parameters)
	r.InnerSteps, r.OuterSteps = float64(sum.Steps)/workers, float64(sum.Outer)/workers
	if sum.Outer > 0 {
		merged := parameters * float64(sum.Outer)
		r.BitsPerParameter, r.UploadBitsPerParameter = float64(sum.Contributed)*8/merged, float64(sum.Round)*8/merged
	}
	if sum.Round > 0 {
		r.BytesRatio = float64(sum.Steps) * 4 * parameters / float64(sum.Round)
	}
}

// judge says why training did not really go through, or nil.
func (r *demoResult) judge(d *demo) error {
	s := d.last
	if s.Health.Commits < 1 {
		return errors.New("no round was committed; give it more --seconds")
	}
	alive := 0
	for i, w := range r.Workers {
		local := d.swarm.Workers[i]
		if !w.Alive {
			continue
		}
		alive++
		if h := local.Tally.Last.Height; h != r.Height {
			return fmt.Errorf("%s drained to height %d, others to %d", local.Name, h, r.Height)
		}
		want := s.Run.StateHash
		if len(s.Stages) > 0 {
			want = s.Stages[local.Tally.Last.Stage].StateHash
		}
		if w.StateHash != want {
			return fmt.Errorf("%s ends with state %s in its memory, the coordinator with %s", local.Name, w.StateHash.Short(), want.Short())
		}
	}
	if alive == 0 {
		return errors.New("no worker was left at the end")
	}
	if r.ValLossEnd == nil || s.Learning.Unigram == nil {
		return errors.New("the held-out loss was not measured")
	}
	if *r.ValLossEnd >= *s.Learning.Unigram {
		return fmt.Errorf("held-out loss %.3f is not below a unigram's %.3f; give it more --seconds", *r.ValLossEnd, *s.Learning.Unigram)
	}
	return nil
}

// sample lets the trained model write.
func (d *demo) sample() (string, error) {
	device, err := cpu.New(cpu.Options{Threads: d.cfg.Threads})
	if err != nil {
		return "", err
	}
	defer device.Close()
	saved, err := training.OpenSaved(device, d.swarm.Model(), training.Newest, 1)
	if err != nil {
		return "", err
	}
	defer saved.Close()
	text := []byte(samplePrompt)
	err = saved.Sample(context.Background(), text, sampleBytes, model.Sampling{Temperature: 0.8, TopP: 0.95, Seed: d.cfg.Seed}, func(b byte) bool {
		text = append(text, b)
		return true
	})
	return strings.ToValidUTF8(string(text), "�"), err
}

// text draws the end of a demo for people.
func (r *demoResult) text(d *demo) string {
	var b strings.Builder
	b.WriteString(status.Table(&r.shown, 0))
	if d.chaos != nil {
		fmt.Fprintf(&b, " %s\n", d.chaos)
	}
	if r.ValLossStart != nil && r.ValLossEnd != nil && r.BigramLoss != nil {
		fmt.Fprintf(&b, " held-out loss %.3f → %.3f nats a %s (bigram %.3f)", *r.ValLossStart, *r.ValLossEnd, d.unit, *r.BigramLoss)
	}
	all := 0.0
	if r.Seconds > 0 {
		all = float64(r.Tokens) / r.Seconds
	}
	fmt.Fprintf(&b, "   %s tokens in %s, %s tokens/s\n", status.Figure(float64(r.Tokens)), status.Duration(r.Seconds), rate(all))
	fmt.Fprintf(&b, " %d commits, %d failed attempts · upload %.2f bits a parameter and outer step: %s× less than fp32 data-parallel\n",
		r.Commits, r.FailedAttempts, r.UploadBitsPerParameter, status.Figure(r.BytesRatio))
	if r.Stages > 0 {
		fmt.Fprintf(&b, " %d stages: %s micro-batches passed through, %s of them counted in some stages only\n", r.Stages, grouped(r.MicroBatches),
			status.Percent(float64(r.PartlyCounted)/float64(max(1, r.MicroBatches))))
	}
	if r.Sample != "" {
		fmt.Fprintf(&b, "\n%s\n\n the model is in %s · more: dunlin sample %s --prompt %q\n", indent(r.Sample), d.swarm.Model(), d.swarm.Model(), samplePrompt)
	}
	return b.String()
}

func indent(text string) string {
	return "   " + strings.ReplaceAll(text, "\n", "\n   ")
}
