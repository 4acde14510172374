// Command convergence compares ways of training by their held-out loss, over equal tokens
// and with paired seeds. Every arm runs through the trainers, trackers, owner's sums,
// codecs and replica of a swarm's peers, in one process and in lockstep, so that equal
// arguments give equal losses. It writes a table, results.json and losses.svg.
//
//	go run . -arms data-parallel,diloco,default -steps 2592 -seeds 3
//	go run . -arms 'default;default:momentum=0.3,workers=8'
//
// It is a module of its own, so that what draws is no part of the product.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dunlin/data"
	"dunlin/model"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "convergence:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("convergence", flag.ContinueOnError)
	arms := flags.String("arms", "data-parallel;diloco;default", "arms, separated by ';': data-parallel or a recipe, with :key=value,… for what differs")
	seeds := flags.Int("seeds", 1, "seeds an arm, from 1")
	steps := flags.Int("steps", 2592, "inner steps an arm")
	windows := flags.Int("windows", 3072, "held-out windows of the final loss")
	preset := flags.String("preset", "nano", "the model's shape")
	text := flags.String("data", "", "a file, a folder or a glob of text; without it, the Go source tree of this machine")
	out := flags.String("out", "out/convergence", "folder of results.json and losses.svg")
	parallel := flags.Int("parallel", 1, "arms at a time, each on one thread")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *seeds < 1 || *steps < 20 || *windows < 1 || *parallel < 1 {
		return errors.New("seeds, windows and parallel of at least 1 and steps of at least 20 are needed")
	}
	s := &study{steps: *steps, windows: *windows, curve: min(*windows, 256)}
	var chosen []arm
	for _, name := range strings.Split(*arms, ";") {
		a, err := parseArm(strings.TrimSpace(name))
		if err != nil {
			return err
		}
		chosen = append(chosen, a)
	}
	var err error
	if s.model, err = model.Preset(*preset); err != nil {
		return err
	}
	for _, a := range chosen {
		s.model.Untied = s.model.Untied || a.Stages > 1 || a.Subspace > 0 // embedding and head lie in different stages; all arms train one shape
	}
	if s.corpus, err = data.Open(*text); err != nil {
		return err
	}
	if s.heldOut, err = data.WindowsOf(s.model.Context, data.ByteTokens(s.corpus.HeldOut)); err != nil {
		return err
	}
	baselines, err := data.CountNGrams([]data.Tokens{data.ByteTokens(s.corpus.Train)}, data.Vocabulary, s.heldOut, s.heldOut.Spread(s.windows))
	if err != nil {
		return err
	}
	r := &report{
		Preset: *preset, Data: s.corpus.Description, Steps: s.steps, Tokens: s.steps * batch * s.model.Context,
		Unigram: baselines.Unigram, Bigram: baselines.Bigram,
	}
	if r.Outcomes, err = s.runAll(ctx, chosen, *seeds, *parallel); err != nil {
		return err
	}
	return r.write(*out)
}

// runAll runs every arm with every seed, some at a time, and returns the outcomes in order.
func (s *study) runAll(ctx context.Context, arms []arm, seeds, parallel int) ([]outcome, error) {
	outcomes := make([]outcome, len(arms)*seeds)
	faults := make([]error, len(outcomes))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i := range outcomes {
		a, seed := arms[i%len(arms)], uint64(1+i/len(arms))
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			outcomes[i], faults[i] = s.runOne(ctx, a, seed)
		})
	}
	wg.Wait()
	return outcomes, errors.Join(faults...)
}

func (s *study) runOne(ctx context.Context, a arm, seed uint64) (_ outcome, err error) {
	if err := ctx.Err(); err != nil {
		return outcome{}, err
	}
	t, err := newTrial(s, a, seed)
	if err != nil {
		return outcome{}, fmt.Errorf("arm %s: %w", a.Text, err)
	}
	defer func() { err = errors.Join(err, t.close()) }()
	began := time.Now()
	out, err := t.run(ctx, func(step int, loss float64) {
		fmt.Fprintf(os.Stderr, "%-40s seed %d  step %5d  held-out %.4f  %4.0f s\n", a.Text, seed, step, loss, time.Since(began).Seconds())
	})
	if err != nil {
		return out, fmt.Errorf("arm %s, seed %d: %w", a.Text, seed, err)
	}
	return out, nil
}

// report is what a comparison came to.
type report struct {
	Preset   string    `json:"preset"`
	Data     string    `json:"data"`
	Steps    int       `json:"inner_steps"`
	Tokens   int       `json:"tokens"`
	Unigram  float64   `json:"unigram"`
	Bigram   float64   `json:"bigram"`
	Outcomes []outcome `json:"outcomes"`
}

func (r *report) write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "results.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := r.draw(filepath.Join(folder, "losses.svg")); err != nil {
		return err
	}
	_, err = fmt.Print(r.table())
	return err
}
