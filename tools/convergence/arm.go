package main

import (
	"fmt"
	"strconv"
	"strings"

	"dunlin/peer"
	"dunlin/wire"
)

// arm is one way of training that is compared.
type arm struct {
	Text    string // as it was named
	Recipe  peer.Recipe
	Workers int
	Tau     int     // inner steps between a snapshot and the merge of its commit
	Miss    float64 // probability that a round has not a worker's contribution
	Join    float64 // share of the steps after which the last worker joins; 0: with the others
	Ramp    bool    // its learning rate ramps up (protocol, R3a)
	Global  bool    // data-parallel: one model, every step on the whole batch
}

// parseArm reads NAME or NAME:key=value,… where NAME is data-parallel or a recipe.
func parseArm(text string) (arm, error) {
	name, changes, _ := strings.Cut(text, ":")
	a := arm{Text: text, Workers: 4, Tau: 1, Ramp: true}
	var err error
	if name == "data-parallel" {
		a.Global = true
		name = peer.Recipes()[0].Name
	}
	if a.Recipe, err = peer.RecipeNamed(name); err != nil {
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
	return a, nil
}

func (a *arm) set(key, value string) (err error) {
	r := &a.Recipe
	words := map[string]*string{"contribution": &r.Contribution, "result": &r.Result, "merge": &r.Merge, "overlap": &r.Overlap}
	numbers := map[string]*float64{
		"decay": &r.Decay, "owner-decay": &r.OwnerDecay, "alpha": &r.Alpha, "outer-lr": &r.OuterLR, "momentum": &r.Momentum, "lr": &r.LR, "miss": &a.Miss, "join": &a.Join,
	}
	counts := map[string]*int{"h": &r.H, "fragments": &r.Fragments, "workers": &a.Workers, "tau": &a.Tau}
	switch {
	case words[key] != nil:
		*words[key] = value
	case numbers[key] != nil:
		*numbers[key], err = strconv.ParseFloat(value, 64)
	case key == "ramp":
		a.Ramp, err = strconv.ParseBool(value)
	case counts[key] != nil:
		*counts[key], err = strconv.Atoi(value)
	default:
		err = fmt.Errorf("unknown; allowed are contribution, result, merge, overlap, decay, owner-decay, alpha, outer-lr, momentum, lr, miss, join, ramp, h, fragments, workers and tau")
	}
	return err
}
