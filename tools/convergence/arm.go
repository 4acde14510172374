package main

import (
	"fmt"
	"strconv"
	"strings"

	"dunlin/recipe"
	"dunlin/wire"
)

// arm is one way of training that is compared.
type arm struct {
	Text    string // as it was named
	Recipe  recipe.Recipe
	Workers int
	Tau     int     // inner steps between a snapshot and the merge of its commit
	Miss    float64 // probability that a round has not a worker's contribution
	Join    float64 // share of the steps after which the last worker joins; 0: with the others
	Ramp    bool    // its learning rate ramps up (protocol, R3a)
	Global  bool    // data-parallel: one model, every step on the whole batch

	Stages     int    // that the model is spread over; 1: none
	Activation string // codec of what passes between them
	Subspace   int    // values of a position that pass between them; 0: all
	Micro      int    // windows in a micro-batch
	Together   bool   // peers of all stages make each step together
	Lag        int    // micro-batches between a forward pass and its backward pass
	Elsewhere  bool   // a backward pass may be run by another peer than the forward pass
}

// parseArm reads NAME or NAME:key=value,… where NAME is data-parallel or a recipe.
func parseArm(text string) (arm, error) {
	name, changes, _ := strings.Cut(text, ":")
	a := arm{Text: text, Workers: 4, Tau: 1, Ramp: true, Stages: 1, Activation: "int8", Micro: 1}
	var err error
	if name == "data-parallel" {
		a.Global = true
		name = "diloco" // whose steps are AdamW's
	}
	if a.Recipe, err = recipe.Named(name); err != nil {
		return a, fmt.Errorf("arm %q: %w, or data-parallel", text, err)
	}
	for _, change := range strings.Split(changes, ",") {
		if change == "" {
			continue
		}
		key, value, _ := strings.Cut(change, "=")
		if err := a.set(key, value); err != nil {
			return a, fmt.Errorf("arm %q: %s: %w", text, change, err)
		}
	}
	if a.Recipe.Overlap == wire.OverlapRound {
		a.Tau = a.Recipe.H
	}
	if a.Workers < 1 || batch%a.Workers != 0 {
		return a, fmt.Errorf("arm %q: %d workers do not divide the %d windows of a step", text, a.Workers, batch)
	}
	if a.Join < 0 || a.Join >= 1 || a.Join > 0 && a.Workers < 2 {
		return a, fmt.Errorf("arm %q: join %v: 0 to less than 1 is allowed, with 2 workers or more", text, a.Join)
	}
	if a.Tau < 0 || a.Tau >= a.Recipe.H && a.Recipe.Overlap == "" {
		return a, fmt.Errorf("arm %q: tau %d: less than h is allowed", text, a.Tau)
	}
	if a.Together && a.Lag > 0 || a.Lag < 0 || a.Micro < 1 || batch/a.Workers%a.Micro != 0 {
		return a, fmt.Errorf("arm %q: lag %d, micro-batches of %d windows: steps together leave nothing in flight, and a worker's %d windows are whole micro-batches", text, a.Lag, a.Micro, batch/a.Workers)
	}
	return a, nil
}

func (a *arm) set(key, value string) (err error) {
	r := &a.Recipe
	words := map[string]*string{"contribution": &r.Contribution, "result": &r.Result, "merge": &r.Merge, "overlap": &r.Overlap, "activations": &a.Activation}
	numbers := map[string]*float64{
		"decay": &r.Decay, "owner-decay": &r.OwnerDecay, "alpha": &r.Alpha, "outer-lr": &r.OuterLR, "momentum": &r.Momentum, "lr": &r.LR, "miss": &a.Miss, "join": &a.Join,
	}
	counts := map[string]*int{"h": &r.H, "fragments": &r.Fragments, "workers": &a.Workers, "tau": &a.Tau, "stages": &a.Stages, "subspace": &a.Subspace, "micro": &a.Micro, "lag": &a.Lag}
	switches := map[string]*bool{"ramp": &a.Ramp, "together": &a.Together, "elsewhere": &a.Elsewhere}
	switch {
	case words[key] != nil:
		*words[key] = value
	case numbers[key] != nil:
		*numbers[key], err = strconv.ParseFloat(value, 64)
	case switches[key] != nil:
		*switches[key], err = strconv.ParseBool(value)
	case counts[key] != nil:
		*counts[key], err = strconv.Atoi(value)
	default:
		err = fmt.Errorf("unknown; allowed are contribution, result, merge, overlap, decay, owner-decay, alpha, outer-lr, momentum, lr, miss, join, ramp, h, fragments, workers and tau, and stages, activations, subspace, micro, lag, together and elsewhere")
	}
	return err
}
