package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"dunlin/cmd/dunlin/localswarm"
	"dunlin/data"
	"dunlin/optimizer"
	"dunlin/status"
	"dunlin/training"
	"dunlin/wire"
)

func newDemo(t *terminal) *cobra.Command {
	c := &t.settings.config
	options := append(c.local(150, "out/demo"), c.page(), c.coordinators(), yes(&c.Chaos, "chaos", "kill and replace workers, and the coordinator, the leader of several, once, while it runs"))
	options = append(options, whole(&c.Tokens, "tokens", 0, 0, 1<<56, "token budget; 0 takes what the workers should manage in the time"))
	return t.command("demo", "train with a real swarm on this machine: a coordinator and workers as processes, on loopback",
		"  dunlin demo\n  dunlin demo --seconds 60 --data book.txt\n  dunlin demo --chaos --seconds 120 --json\n  dunlin demo --coordinators 3 --chaos\n  dunlin demo --up 2mbit --down 20mbit\n  dunlin demo --workers 6 --stages 3 --worker-batch 4 --chaos",
		exactly(), t.demo, append(options, c.spread()...)...)
}

// Shares of a demo's time.
const (
	budgetShare = 0.85 // of what the machine could train in the time: the run should end by its budget
	speedTest   = 3 * time.Second
	endGrace    = 45 * time.Second // for the end of the run: last rounds, held-out loss, goodbyes

	goodbyesWithin = 10 * time.Second // that a busy coordinator takes until its page has the last of workers that have left
)

// demo is one `dunlin demo` under way.
type demo struct {
	cfg     *Config
	swarm   *localswarm.Swarm
	line    *progress
	chaos   *localswarm.Chaos // nil without --chaos
	started time.Time
	trained time.Time // first step seen
	ended   time.Time // the log says that the run has ended
	unit    string    // that losses are given per
	first   *float64  // held-out loss before the first step; a coordinator that was restarted knows it no more
	failed  uint64    // attempts, of coordinators before the present one
	last    *status.Snapshot
}

func (t *terminal) demo(ctx context.Context, c *Config, _ []string) error {
	d := &demo{cfg: c, line: t.progress(c)}
	defer d.line.close()
	result, err := d.run(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(t.out).Encode(result)
	} else {
		_, err = fmt.Fprint(t.out, result.text(d))
	}
	if err == nil && !result.OK {
		err = errors.New(result.Reason)
	}
	return err
}

// run trains and reports; an error means that there is nothing to report.
func (d *demo) run(ctx context.Context) (*demoResult, error) {
	c := d.cfg
	if c.Stages > c.Workers {
		return nil, fmt.Errorf("--stages %d need at least as many --workers, not %d", c.Stages, c.Workers)
	}
	shape, err := c.shape()
	if err != nil {
		return nil, err
	}
	if c.Stages > shape.Layers {
		return nil, fmt.Errorf("--stages %d: the model has %d layers, and each stage takes one at least", c.Stages, shape.Layers)
	}
	corpus, err := data.OpenWhole(c.Data)
	if err != nil {
		return nil, err
	}
	c.vocabulary, d.unit = corpus.Coder().Vocab(), unitOf(corpus.Coder())
	d.swarm = &localswarm.Swarm{Dir: c.Out, Threads: c.Threads, Device: c.Device, Up: limitText(c.Up), Down: limitText(c.Down), Verbose: c.Verbose, Listen: c.Listen, Fault: os.Getenv("DUNLIN_FAULT")}
	if err := d.swarm.Prepare(); err != nil {
		return nil, err
	}
	d.line.say("data           "+corpus.Description, "data", slog.String("description", corpus.Description))
	speed, at, err := d.workerSpeed(ctx)
	if err != nil {
		return nil, err
	}
	all := speed * float64(min(c.Workers, at))
	budget := cmp.Or(c.Tokens, max(1, int(budgetShare*all*c.Seconds)))
	d.line.say(fmt.Sprintf("this machine   %d CPUs · a worker alone makes %s tokens/s · budget %s tokens in %s", runtime.NumCPU(), rate(speed),
		grouped(budget), status.Duration(c.Seconds)), "machine", slog.Int("cpus", runtime.NumCPU()), slog.Float64("worker_tokens_per_second", speed), slog.Int("budget", budget))
	d.swarm.Flags = append(append(c.runFlags("demo", budget), "--coordinators", strconv.Itoa(c.Coordinators)), c.spreadFlags()...)
	defer d.swarm.Stop()
	if err := d.swarm.Start(ctx, c.Coordinators, c.Workers); err != nil {
		return nil, err
	}
	d.line.say(fmt.Sprintf("swarm          %s and %d workers · page %s · logs in %s", coordinators(c.Coordinators), c.Workers, d.swarm.Page, d.swarm.Path("logs")), "swarm",
		slog.Int("workers", c.Workers), slog.String("page", d.swarm.Page), slog.String("invite", d.swarm.Invite))
	d.started = time.Now()
	if c.Chaos {
		d.chaos = localswarm.NewChaos(d.swarm, rand.New(rand.NewPCG(c.Seed, 3)), d.started, seconds(c.Seconds), c.Stages)
	}
	reason := d.follow(ctx)
	if d.chaos != nil {
		d.chaos.EndHunt() // a frozen worker could not leave
	}
	return d.report(reason), nil
}

// follow watches the run to its end and returns what went wrong, or nil.
func (d *demo) follow(ctx context.Context) error {
	until := d.started.Add(seconds(d.cfg.Seconds))
	interrupted := ctx.Done()
	stopped, ordered := false, false
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-interrupted:
			interrupted, stopped = nil, true
			d.line.say("stopping       the run ends with what is committed; Ctrl-C again stops now", "stopping")
			until = time.Now()
		case <-pace.C:
			pace.Reset(d.pace())
		}
		// The swarm is asked to the end, also after an interruption.
		if err := d.step(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		now := time.Now()
		if d.last != nil && d.last.Run.Done {
			return d.leave(stopped)
		}
		if !ordered && now.After(until) && d.ended.IsZero() && d.swarm.Coordinator.Running() {
			if err := d.swarm.Order(orderEnd); err != nil {
				return err
			}
			ordered, until = true, now
		}
		if now.After(until.Add(endGrace)) {
			return fmt.Errorf("the run did not end within %s after its time: %s", endGrace, d.standing())
		}
	}
}

// coordinators counts them in words.
func coordinators(n int) string {
	if n == 1 {
		return "a coordinator"
	}
	return fmt.Sprintf("%d coordinators", n)
}

// leave waits for the goodbyes.
func (d *demo) leave(stopped bool) error {
	if err := d.swarm.AwaitWorkers(); err != nil {
		return err
	}
	heard := false
	err := d.swarm.Watch(context.Background(), goodbyesWithin, func(shot *status.Snapshot) bool {
		d.last, heard = shot, true
		return d.swarm.Settled()
	})
	if !heard {
		return err
	} // else what was heard is judged
	if stopped {
		return errors.New("it was stopped before its end")
	}
	return nil
}

// pace is the time to the next look: short while chaos waits for a moment to strike.
func (d *demo) pace() time.Duration {
	if d.chaos != nil && d.chaos.Hunting {
		return 30 * time.Millisecond
	}
	return 250 * time.Millisecond
}

// step looks at the swarm once, and lets chaos act.
func (d *demo) step(ctx context.Context) error {
	if d.chaos != nil {
		if err := d.chaos.Act(ctx, d.last); err != nil {
			return err
		}
	}
	if d.chaos == nil || !d.chaos.Down {
		if err := d.swarm.Check(); err != nil {
			return err
		}
		if shot, err := d.swarm.Look(ctx); err == nil { // else the next look tells
			d.take(shot)
		}
	}
	return nil
}

// take keeps a snapshot and shows it.
func (d *demo) take(s *status.Snapshot) {
	if d.last != nil && s.Health.FailedAttempts < d.last.Health.FailedAttempts {
		d.failed += d.last.Health.FailedAttempts // of a coordinator that was restarted
	}
	d.last = s
	if points := s.Learning.HeldOuts; len(points) > 0 && points[0].Tokens == 0 {
		d.first = &points[0].Loss
	}
	now := time.Now()
	if d.trained.IsZero() && s.Health.Training > 0 {
		d.trained = now
	}
	if d.ended.IsZero() && s.Run.Phase == "ended" {
		d.ended = now
	}
	d.line.state(demoLine(s, d.cfg.Workers))
}

// standing says in short where the run is.
func (d *demo) standing() string {
	if d.last == nil {
		return "the coordinator never answered"
	}
	return fmt.Sprintf("it is %s at height %d with %d of %d tokens", d.last.Run.Phase, d.last.Run.Height, d.last.Run.Tokens, d.last.Run.TokenBudget)
}

// demoLine is the one live line of a demo.
func demoLine(s *status.Snapshot, workers int) (string, []slog.Attr) {
	text := fmt.Sprintf("%-14s %d of %d workers", s.Run.Phase, s.Health.Training, workers)
	attrs := []slog.Attr{
		slog.String("state", s.Run.Phase), slog.Int("training", s.Health.Training), slog.Uint64("height", s.Run.Height), slog.Uint64("tokens", s.Run.Tokens),
		slog.Uint64("commits", s.Health.Commits),
	}
	if l := s.Learning.Train; l != nil {
		text += fmt.Sprintf(" · loss %.3f", *l)
		attrs = append(attrs, slog.Float64("loss", *l))
	}
	if l := s.Learning.HeldOut; l != nil {
		text += fmt.Sprintf(" · held-out %.3f", *l)
		attrs = append(attrs, slog.Float64("held_out", *l))
	}
	text += fmt.Sprintf(" · %s of %s tokens", status.Figure(float64(s.Run.Tokens)), status.Figure(float64(s.Run.TokenBudget)))
	if r := s.Speed.TokensPerSecond; r != nil {
		text += fmt.Sprintf(" · %s tokens/s", rate(*r))
		attrs = append(attrs, slog.Float64("tokens_per_second", *r))
	}
	text += fmt.Sprintf(" · %d commits", s.Health.Commits)
	if left := s.Speed.SecondsLeft; left != nil && s.Run.Phase == "training" {
		text += " · ≈ " + status.Duration(*left) + " left"
	}
	return text, attrs
}

// seconds turns a setting into a duration.
func seconds(x float64) time.Duration { return time.Duration(x * float64(time.Second)) }

// workerSpeed times a worker's inner steps on this machine, in tokens a second, and tells how many workers make so many
// at a time: those on one GPU share it.
func (d *demo) workerSpeed(ctx context.Context) (speed float64, atOnce int, err error) {
	c := d.cfg
	shape, err := c.shape()
	if err != nil {
		return 0, 0, err
	}
	device, err := c.device(d.line)
	if err != nil {
		return 0, 0, err
	}
	defer device.Close()
	if atOnce = max(1, runtime.NumCPU()/c.Threads); device.card != nil {
		d.line.machine(device, "")
		atOnce = 1
	}
	recipe, err := c.chosen()
	if err != nil {
		return 0, 0, err
	}
	trainer := training.TrainerConfig{
		Model: shape, Batch: c.WorkerBatch, LR: optimizer.Schedule{Peak: recipe.LR, Shape: optimizer.Constant}, WeightDecay: optimizer.Schedule{Shape: optimizer.Constant},
		AdamW: optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1},
	}
	if recipe.Inner == wire.InnerMuon {
		trainer.Inner = optimizer.MuonConfig{Momentum: 0.95, Every: optimizer.MuonEvery(shape.Width, c.WorkerBatch*shape.Context), AdamW: trainer.AdamW}
	}
	s, err := training.MeasureSpeed(ctx, device.on, trainer, min(speedTest, seconds(c.Seconds/10)), nil)
	return s.TokensPerSecond, atOnce, err
}

// localCheckpoint is the number of commits between two checkpoints of a local run, about half a minute: at each the
// coordinator measures the held-out loss on the cores that train.
const localCheckpoint = 48

// runFlags are the coordinator's flags for a local run.
func (c *Config) runFlags(name string, budget int) []string {
	flags := []string{
		"--name", name, "--preset", c.Preset, "--tokens", strconv.Itoa(budget), "--worker-batch", strconv.Itoa(c.WorkerBatch),
		"--recipe", c.Recipe, "--h", strconv.Itoa(c.H), "--fragments", strconv.Itoa(c.Fragments), "--checkpoint-every", strconv.Itoa(localCheckpoint), "--lr", strconv.FormatFloat(c.LR, 'g', -1, 64), "--seed", strconv.FormatUint(c.Seed, 10),
	}
	if c.Data != "" {
		flags = append(flags, "--data", c.Data)
	}
	return flags
}

// spreadFlags are the coordinator's flags that say how the model is spread.
func (c *Config) spreadFlags() []string {
	flags := []string{
		"--stages", strconv.Itoa(c.Stages), "--activations", c.Activations, "--micro-batch", strconv.Itoa(c.Micro),
		"--subspace", strconv.Itoa(c.Subspace), "--rebalance", strconv.FormatFloat(c.Rebalance, 'g', -1, 64),
	}
	if c.Together {
		flags = append(flags, "--synchronous")
	}
	return flags
}
