package world

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/compute"
	"dunlin/cuda"
	"dunlin/cuda/driver"
	"dunlin/cuda/ptxemu"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/peer"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// elsewhere is a sleeper whose weights lie on a device with memory of its own, which is lost after some of its steps.
type elsewhere struct {
	*sleeper
	host   [][]float32
	steps  int
	losses []int // steps after which the device is lost
	closed int   // openings that fail before it is back
	lost   bool
}

func (e *elsewhere) Live() [][]float32 { return e.host }

func (e *elsewhere) Pull(tensors []int) error {
	for _, i := range tensors {
		copy(e.host[i], e.live[i])
	}
	return e.state()
}

func (e *elsewhere) Push(tensors []int) error {
	for _, i := range tensors {
		copy(e.live[i], e.host[i])
	}
	return e.state()
}

func (e *elsewhere) state() error {
	if e.lost {
		return fmt.Errorf("step on a card: %w", compute.ErrLost)
	}
	return nil
}

func (e *elsewhere) Step(positions []uint64, progress float64) (float64, error) {
	if e.steps++; len(e.losses) > 0 && e.steps == e.losses[0] {
		e.losses, e.lost, e.closed = e.losses[1:], true, 2
		for _, tensor := range append(e.live, e.host...) {
			for i := range tensor {
				tensor[i] = float32(math.NaN()) // nobody may take these for weights
			}
		}
	}
	if err := e.state(); err != nil {
		return 0, err
	}
	return e.sleeper.Step(positions, progress)
}

func (e *elsewhere) Reopen() error {
	if e.closed--; e.closed >= 0 {
		return errors.New("the driver is not back yet")
	}
	e.lost = false
	return nil
}

// A worker whose device is lost goes back to syncing, takes committed weights and trains on: the run ends with
// everybody's bits equal.
func TestDeviceIsLost(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.TokenBudget = 8, 40_000 })
		w.start(place{})
		card := &elsewhere{losses: []int{30, 41}}
		worker := w.start(place{key: 2, dir: scratch(t), engine: func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) {
			inner, err := sleepingEngine(100*time.Millisecond)(spec, tokens, joiner)
			if err != nil {
				return nil, err
			}
			card.sleeper = inner.(*sleeper)
			for _, tensor := range card.live {
				card.host = append(card.host, make([]float32, len(tensor)))
			}
			return card, nil
		}})
		other := w.start(place{key: 3, dir: scratch(t), engine: sleepingEngine(150 * time.Millisecond)})
		worker.await("a lost device", func(s *status.Snapshot) bool {
			for _, p := range s.Peers {
				if p.You && p.State == "syncing" && strings.Contains(p.Reason, "opening the device again") {
					return true
				}
			}
			return false
		})
		for _, n := range []*node{worker, other} {
			if err := n.finish(); err != nil {
				t.Error(err)
			}
		}
		if len(card.losses) > 0 || card.steps < 60 {
			t.Errorf("the card made %d steps, losses to come %v", card.steps, card.losses)
		}
		w.agree(worker, other)
	})
}

// emulatedCard opens an emulated GPU, of whose calls lose may say that one loses the card.
func emulatedCard(lose func(call string) bool) (compute.Device, error) {
	cards, err := ptxemu.New(ptxemu.Config{Workers: 1, Fault: func(call string, _ int) error {
		if !lose(call) {
			return nil
		}
		return &driver.Error{Code: driver.LaunchFailed, Call: call}
	}})
	if err != nil {
		return nil, err
	}
	open := func() (driver.Context, error) { return cards.Open(0) }
	context, err := open()
	if err != nil {
		return nil, err
	}
	return cuda.New(context, cuda.Options{Reopen: open})
}

// onEmulatedCard trains on an emulated GPU, a step every tenth of a second, and loses the card once, in the step of that
// number.
func onEmulatedCard(t *testing.T, lostIn int, steps *int) func(*wire.RunSpec, []byte, bool) (engine.Engine, error) {
	return func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) {
		lose := false
		device, err := emulatedCard(func(call string) bool {
			now := lose && call == "cuLaunchKernel"
			lose = lose && !now
			return now
		})
		if err != nil {
			return nil, err
		}
		made, err := engine.NewLocal(spec, device, tokens, joiner, filepath.Join(scratch(t), "moments"), model.Room{})
		if err != nil {
			return nil, errors.Join(err, device.Close())
		}
		return &emulatedEngine{Local: made, device: device, before: func() {
			time.Sleep(100 * time.Millisecond) // of the bubble's clock: emulation takes none
			*steps++
			lose = *steps == lostIn
		}}, nil
	}
}

type emulatedEngine struct {
	*engine.Local
	device compute.Device
	before func()
}

func (e *emulatedEngine) Step(positions []uint64, progress float64) (float64, error) {
	e.before()
	return e.Local.Step(positions, progress)
}

func (e *emulatedEngine) Close() error { return errors.Join(e.Local.Close(), e.device.Close()) }

// One worker trains on an emulated GPU, which is lost once, the other on two devices of the processor as a team: both end
// with the run's bits.
func TestEmulatedCardAndProcessorAgree(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) {
			r.H, r.Batch, r.Model.Context, r.TokenBudget = 4, 1, 16, 1000
		})
		w.start(place{})
		steps := 0
		card := w.start(place{key: 2, dir: scratch(t), engine: onEmulatedCard(t, 9, &steps)})
		processor := w.start(place{key: 3, dir: scratch(t), engine: func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) {
			one, err := cpuEngine(t)(spec, tokens, joiner)
			if err != nil {
				return nil, err
			}
			two, err := cpuEngine(t)(spec, tokens, joiner)
			return engine.NewTeam(paced{one}, paced{two}), err
		}})
		card.await("a lost card", func(s *status.Snapshot) bool {
			return slices.ContainsFunc(s.Notes, func(n status.Note) bool { return strings.HasPrefix(n.Text, "the device is lost: inner step") })
		})
		for _, n := range []*node{card, processor} {
			if err := n.finish(); err != nil {
				t.Error(err)
			}
		}
		if steps < 12 {
			t.Errorf("the card made %d steps", steps)
		}
		s := w.agree(card, processor)
		t.Logf("%d steps on the emulated card, %d commits, loss %.3f", steps, s.Health.Commits, *s.Learning.Train)
	})
}

// A stage on an emulated GPU that is lost: its peer ends, comes back as another one, and all end with the run's bits.
func TestStageOnAnEmulatedCard(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) {
			threeStages(r)
			r.TokenBudget = 1500
		})
		w.start(place{})
		nodes := []*node{w.stageWorker(2, 0), nil, w.stageWorker(4, 2)}
		calls := 0 // of the driver
		onCard := place{
			key: 3, dir: scratch(t), change: func(c *peer.Config) { c.Stage = 1 },
			engine: func(spec *wire.RunSpec, _ []byte, joiner bool) (engine.Engine, error) {
				device, err := emulatedCard(func(string) bool {
					calls++
					return calls == 700
				})
				if err != nil {
					return nil, err
				}
				w.t.Cleanup(func() { _ = device.Close() }) // one of them is lost
				return engine.NewStage(spec, 1, device, joiner, "", model.Room{})
			},
		}
		if err := w.start(onCard).finish(); !errors.Is(err, compute.ErrLost) {
			t.Fatalf("with its card lost the peer ends with %v", err)
		}
		nodes[1] = w.start(onCard)
		for stage, n := range nodes {
			if err := n.finish(); err != nil {
				t.Errorf("stage %d: %v", stage, err)
			}
		}
		s := w.lead.await("the end", func(s *status.Snapshot) bool { return s.Run.Done })
		for stage, n := range nodes {
			if got, want := n.snapshot().Run.StateHash, s.Stages[stage].StateHash; got != want || want.IsZero() {
				t.Errorf("stage %d has state %s, the coordinator %s", stage, got.Short(), want.Short())
			}
		}
		t.Logf("%d calls of the driver, %d tokens in %d commits, loss %.3f", calls, s.Run.Tokens, s.Health.Commits, *s.Learning.Train)
		w.lead.halt()
	})
}

// paced takes a tenth of a second of the bubble's clock for a step.
type paced struct{ engine.Engine }

func (p paced) Step(positions []uint64, progress float64) (float64, error) {
	time.Sleep(100 * time.Millisecond)
	return p.Engine.Step(positions, progress)
}
