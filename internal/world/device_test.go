package world

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"dunlin/compute"
	"dunlin/peer"
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
		w := newWorld(t, swarmtest.New(t, home), func(r *peer.RunConfig) { r.H, r.TokenBudget = 8, 40_000 })
		w.start(place{})
		card := &elsewhere{losses: []int{30, 41}}
		worker := w.start(place{key: 2, dir: scratch(t), engine: func(spec *wire.RunSpec, tokens []byte, joiner bool) (peer.Engine, error) {
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
