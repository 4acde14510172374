package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"dunlin/data"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/peer/stage"
	"dunlin/pipeline"
	"dunlin/plan"
	"dunlin/recipe"
	"dunlin/wire"
)

// spread lists how a model is spread over the peers of a run.
func (c *Config) spread() []option {
	return []option{
		whole(&c.Stages, "stages", 1, 1, 64, "stages that the model is spread over; above 1 each peer holds one of them, and the model gets a head of its own"),
		choice(&c.Activations, "activations", "int8", "with --stages: how values between stages become bytes; fp32 loses nothing", recipe.Activations()...),
		whole(&c.Subspace, "subspace", 0, 0, 1<<16, "with --stages: values of a position that the layers move and that alone pass between stages, by an even number less than the width; 0 is all of it"),
		whole(&c.Micro, "micro-batch", 1, 1, 4096, "with --stages: windows that pass through the stages at a time, a divisor of --worker-batch; an eighth of it or less keeps the stages at work"),
		yes(&c.Together, "synchronous", "with --stages: peers of all stages make each inner step together, on the same --worker-batch windows; without it, each steps on what passed through it"),
		number(&c.Rebalance, "rebalance", 60, 0, 86400, "with --stages: seconds between two looks whether a peer should change its stage; 0 is never"),
	}
}

// narrowed is a shape, unless reading it failed, in the subspace that the settings name.
func (c *Config) narrowed(shape model.Config, err error) (model.Config, error) {
	if err != nil || c.Subspace == 0 {
		return shape, err
	}
	if c.Stages < 2 {
		return shape, fmt.Errorf("--subspace %d: only where the model is spread over stages is something saved; choose --stages 2 or more", c.Subspace)
	}
	shape.Subspace, shape.Untied = c.Subspace, true // with stages the head is apart
	return shape, shape.Validate()
}

// planPipeline forecasts a model that is spread over stages: each peer goes, the fastest first, to the stage that holds
// the others up; trainers sit at the peers of the first stage. bitsPerValue is what the codec of activations takes, batch
// the windows of a peer's inner step, 0 when they are not known, and muon whether Muon makes it.
func planPipeline(groups []plan.Group, shape model.Config, stages, micro, batch int, muon bool, bitsPerValue float64) (*plan.Pipeline, error) {
	tokens := micro * shape.Context
	stepTokens := 0.0 // that would train in the time of the optimizer
	if muon && batch > 0 {
		stepTokens = optimizer.MuonTokens(shape.Width, batch*shape.Context)
	}
	layers, err := pipelineShape(shape).Layers(tokens, 1)
	if err != nil {
		return nil, err
	}
	spans, err := pipeline.Split(layers, stages, 0)
	if err != nil {
		return nil, err
	}
	boundary := float64(tokens*shape.Passed()) * bitsPerValue / 8
	if shape.Subspace > 0 {
		boundary += float64(tokens * tokenBytes(shape.Vocab)) // they go along
	}
	var work float64 // operations of a forward pass
	for _, l := range layers {
		work += l.Cost
	}
	look := pipeline.Outlook{Stages: make([][]pipeline.Worker, stages), Bytes: boundary, Tokens: tokens, InFlight: 1, Batch: min(batch/micro, wire.MaxMicroBatches)}
	capacity := make([]float64, stages)
	for _, g := range slices.SortedFunc(slices.Values(groups), func(a, b plan.Group) int { return cmp.Compare(b.Speed, a.Speed) }) {
		link := pipeline.Link{RTT: duration(g.Latency), Bandwidth: min(g.Up, g.Down) / 8}
		for range min(g.Count, maxPlanned) {
			s := poorest(capacity)
			// The speed is that of forward and backward passes of the whole model: three forward passes.
			share := spans[s].Cost / work
			capacity[s] += g.Speed / share
			forward := 0.0
			for _, l := range layers[spans[s].From:spans[s].To] {
				forward += l.Cost / work
			}
			worker := pipeline.Worker{Forward: duration(max(1e-9, forward*float64(tokens)/g.Speed/3)), Step: duration(forward * stepTokens / g.Speed), Link: link}
			look.Stages[s] = append(look.Stages[s], worker)
			look.Accept = max(look.Accept, link.RTT) // counted once the word that it counts has come and its answer is back
			if s == 0 {
				look.Trainers = append(look.Trainers, link)
			}
		}
	}
	enough, err := look.Enough()
	if err != nil {
		return nil, err
	}
	look.InFlight = len(look.Trainers) * stage.InFlight(stages)
	f, err := look.Forecast()
	if err != nil {
		return nil, err
	}
	out := &plan.Pipeline{
		Micro: micro, Boundary: boundary, TokensPerSec: f.Tokens, ComputeOnly: f.Compute * float64(tokens), Latency: f.Latency.Seconds(), InFlight: look.InFlight, Enough: enough, Bound: f.Bound,
		Steps: f.Steps,
	}
	for s, span := range spans {
		stage := plan.Stage{Peers: len(look.Stages[s]), Layers: min(span.To, shape.Layers+1) - max(span.From, 1), Parameters: float64(span.Memory), Use: f.Use[s]}
		if span.From == 0 {
			stage.Apart += float64(layers[0].Memory)
		}
		if span.To == len(layers) {
			stage.Apart += float64(layers[len(layers)-1].Memory)
		}
		out.Stages = append(out.Stages, stage)
	}
	return out, nil
}

// tokenBytes is what a token of a text takes that has so many different ones.
func tokenBytes(vocab int) int {
	switch {
	case vocab <= data.Vocabulary:
		return 1
	case vocab <= 1<<16:
		return 2
	}
	return 4
}

// maxPlanned bounds the peers of a group that a pipeline is planned for.
const maxPlanned = 10_000

func duration(seconds float64) time.Duration {
	return time.Duration(min(seconds, 1e9) * float64(time.Second))
}

// poorest returns the stage that lets least through.
func poorest(capacity []float64) int {
	best, least := 0, math.Inf(1)
	for s, c := range capacity {
		if c < least {
			best, least = s, c
		}
	}
	return best
}

// pipelineShape is a model's shape as the pipeline's costs need it, with a head of its own.
func pipelineShape(c model.Config) pipeline.Shape {
	if c.Family == model.Llama {
		return pipeline.LlamaShape(c.Layers, c.Width, c.Hidden, c.Width/c.Heads*c.KVHeads, c.Context, c.Vocab)
	}
	return pipeline.GPT2Shape(c.Layers, c.Width, c.Context, c.Vocab)
}
