package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/compute"
)

// ticker is an engine whose one weight counts its steps, each of which takes so long.
type ticker struct {
	takes   time.Duration
	live    [][]float32
	mu      sync.Mutex // guards what a test changes while steps are made
	batches [][]uint64
	err     error // of the next steps
	gone    error // that opening it again meets
	opened  int
	closed  bool
}

func (e *ticker) Live() [][]float32 { return e.live }
func (e *ticker) Pull([]int) error  { return e.fault() }
func (e *ticker) Push([]int) error  { return e.fault() }
func (e *ticker) Remember() error   { return nil }
func (e *ticker) Name() string      { return fmt.Sprintf("card of %v", e.takes) }
func (e *ticker) Close() error      { e.closed = true; return nil }
func (e *ticker) Reopen() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opened++
	if e.gone == nil {
		e.err = nil
	}
	return e.gone
}

func (e *ticker) Step(positions []uint64, _ float64) (float64, error) {
	time.Sleep(e.takes)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return 0, e.err
	}
	e.live[0][0]++
	e.batches = append(e.batches, positions)
	return float64(e.takes), nil
}

func (e *ticker) fault() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// lose has the next steps, and attempts to open it again, fail.
func (e *ticker) lose() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err, e.gone = fmt.Errorf("launch: %w", compute.ErrLost), errors.New("no such card")
}

// steps is how many it has made.
func (e *ticker) steps() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.batches)
}

func newTicker(takes time.Duration) *ticker { return &ticker{takes: takes, live: [][]float32{{0}}} }

// Two cards, one twice as fast: both always train, and the mean weighs them by their steps.
func TestTeamTrainsOnAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow := newTicker(time.Second), newTicker(2*time.Second)
		team := NewTeam(fast, slow)
		if err := team.Push([]int{0}); err != nil {
			t.Fatal(err)
		}
		begin, positions := time.Now(), make([]uint64, 1)
		for i := range 30 {
			positions[0] = uint64(i) // the caller's slice is used again
			if loss, err := team.Step(positions, 0.5); err != nil || loss == 0 {
				t.Fatalf("step %d: loss %v, %v", i, loss, err)
			}
		}
		if err := team.Pull([]int{0}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 22*time.Second {
			t.Errorf("30 steps took %v; one and a half a second should take 20 s, and the first one alone", took)
		}
		if n := len(fast.batches) + len(slow.batches); n != 30 || len(slow.batches) < 9 || len(slow.batches) > 11 {
			t.Errorf("%d steps on the slow card of %d", len(slow.batches), n)
		}
		var seen []uint64
		for _, b := range append(fast.batches, slow.batches...) {
			seen = append(seen, b...)
		}
		slices.Sort(seen)
		for i, at := range seen {
			if at != uint64(i) {
				t.Fatalf("batches %v: each once is wanted", seen)
			}
		}
		f, s := float32(len(fast.batches)), float32(len(slow.batches))
		if want := (f*f + s*s) / (f + s); team.Live()[0][0] < want-1e-4 || team.Live()[0][0] > want+1e-4 {
			t.Errorf("mean %v, want %v", team.Live()[0][0], want)
		}
		team.Live()[0][0] = 100
		if err := team.Push([]int{0}); err != nil || fast.live[0][0] != 100 || slow.live[0][0] != 100 {
			t.Errorf("pushed: %v and %v, %v", fast.live[0][0], slow.live[0][0], err)
		}
		if team.Name() != "card of 1s + card of 2s" {
			t.Error(team.Name())
		}
		if err := team.Close(); err != nil || !fast.closed || !slow.closed {
			t.Errorf("closed: %v, %v, %v", err, fast.closed, slow.closed)
		}
	})
}

// The loss of one card stops the team until that card is back; the others are not opened again.
func TestTeamLosesACard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := newTicker(time.Second), newTicker(time.Second)
		team := NewTeam(good, bad)
		if _, err := team.Step([]uint64{0}, 0); err != nil {
			t.Fatal(err)
		}
		bad.err = fmt.Errorf("launch: %w", compute.ErrLost)
		var err error
		for range 4 {
			if _, err = team.Step([]uint64{1}, 0); err != nil {
				break
			}
		}
		if !errors.Is(err, compute.ErrLost) || !strings.Contains(err.Error(), "card of 1s") {
			t.Fatalf("a lost card: %v", err)
		}
		if err := team.Reopen(); err != nil || good.opened != 0 || bad.opened != 1 {
			t.Errorf("opened again: %v, %d and %d times", err, good.opened, bad.opened)
		}
		for range 4 {
			if _, err := team.Step([]uint64{2}, 0); err != nil {
				t.Error(err)
			}
		}
		if err := team.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A card that stays away is done without, and takes part again with the team's weights when it is back. Without any card
// there is no team.
func TestTeamDoesWithoutACard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := newTicker(time.Second), newTicker(time.Second)
		team := NewTeam(good, bad)
		step := func(times int) {
			t.Helper()
			for range times {
				if _, err := team.Step([]uint64{0}, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		lose := func(cards ...*ticker) {
			t.Helper()
			for _, c := range cards {
				c.lose()
			}
			for range 5 {
				if _, err := team.Step([]uint64{0}, 0); errors.Is(err, compute.ErrLost) {
					return
				}
			}
			t.Fatal("nobody heard of the loss")
		}
		step(2)
		lose(bad)
		if err := team.Reopen(); err != nil || team.Name() != "card of 1s + card of 1s (lost)" {
			t.Fatalf("with one card left: %v, %s", err, team.Name())
		}
		team.Live()[0][0] = 50
		if err := team.Push([]int{0}); err != nil || bad.opened != 1 {
			t.Fatalf("%v; the lost card was tried %d times at once", err, bad.opened)
		}
		step(3)
		if err := team.Pull([]int{0}); err != nil || team.Live()[0][0] != 53 {
			t.Errorf("the weights of the card that is left: %v, %v", team.Live()[0][0], err)
		}
		time.Sleep(lostPatience)
		bad.gone = nil
		if err := team.Push([]int{0}); err != nil || bad.live[0][0] != 53 || strings.Contains(team.Name(), "lost") {
			t.Errorf("back with %v: %v, %s", bad.live[0][0], err, team.Name())
		}
		before := bad.steps()
		step(4)
		if bad.steps() == before {
			t.Error("the card that is back makes no step")
		}
		lose(good, bad)
		if err := team.Reopen(); err == nil {
			_, err = team.Step([]uint64{0}, 0) // of the card whose loss was not met yet
			if !errors.Is(err, compute.ErrLost) || team.Reopen() == nil {
				t.Errorf("without any card: %v", err)
			}
		}
		if err := team.Close(); err != nil {
			t.Error(err)
		}
	})
}
