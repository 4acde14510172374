package engine

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"dunlin/compute"
)

// Team is an Engine of several: each trains on a goroutine of its own, a batch whenever it is free, from weights of its
// own. Where weights leave for the swarm they are the mean of all, each weighed by the steps that it made since they were
// equal: local SGD within the machine (Stich 2019, algorithm 1), as the swarm does it among machines. So cards of one
// machine have one identity, one contribution and one merge. A member whose device stays lost is left out until it is back.
type Team struct {
	members []*member
	done    chan outcome // takes one of each member
	wg      sync.WaitGroup
	live    [][]float32
	loss    float64 // of the newest finished step
	known   bool    // there was one
}

// member is an engine of a team and what its goroutine is told.
type member struct {
	engine Engine
	orders chan func() (float64, error)
	busy   bool
	lost   bool      // its device, until it is open again
	tried  time.Time // when it was tried last
	steps  uint64    // made
	equal  []uint64  // by tensor: its steps when the tensor was pushed last
}

// lostPatience is how long a team does without a lost member before it tries its device again.
const lostPatience = time.Minute

// outcome is what a member's order came to.
type outcome struct {
	member *member
	loss   float64
	err    error
}

// NewTeam makes one engine of several, at least one, which are the team's from then on.
func NewTeam(engines ...Engine) *Team {
	t := &Team{done: make(chan outcome, len(engines))}
	for _, e := range engines {
		m := &member{engine: e, orders: make(chan func() (float64, error)), equal: make([]uint64, len(e.Live()))}
		t.members = append(t.members, m)
		t.wg.Go(func() { m.run(t.done) })
	}
	for _, tensor := range engines[0].Live() {
		t.live = append(t.live, make([]float32, len(tensor)))
	}
	return t
}

// run carries out orders on one thread, which a card's driver likes.
func (m *member) run(done chan<- outcome) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for order := range m.orders {
		loss, err := order()
		done <- outcome{m, loss, err}
	}
}

// await takes in what one member has done.
func (t *Team) await() error {
	o := <-t.done
	o.member.busy = false
	if o.err != nil {
		o.member.lost = errors.Is(o.err, compute.ErrLost)
		return fmt.Errorf("%s: %w", o.member.engine.Name(), o.err)
	}
	t.loss, t.known = o.loss, true
	return nil
}

// settle waits for all members.
func (t *Team) settle() error {
	var errs []error
	for _, m := range t.members {
		for m.busy {
			errs = append(errs, t.await())
		}
	}
	return errors.Join(errs...)
}

func (t *Team) idle() *member {
	for _, m := range t.members {
		if !m.busy && !m.lost {
			return m
		}
	}
	return nil
}

// well returns the members whose devices are there.
func (t *Team) well() []*member {
	return slices.DeleteFunc(slices.Clone(t.members), func(m *member) bool { return m.lost })
}

// Step implements Engine: it gives the batch to a member that is free and waits until one is. The loss is that of the
// step that ended last.
func (t *Team) Step(positions []uint64, progress float64) (float64, error) {
	m := t.idle()
	batch := append([]uint64(nil), positions...)
	m.busy = true
	m.orders <- func() (float64, error) { return m.engine.Step(batch, progress) }
	m.steps++
	for t.idle() == nil || !t.known {
		if err := t.await(); err != nil {
			return 0, err
		}
	}
	return t.loss, nil
}

// Live implements Engine.
func (t *Team) Live() [][]float32 { return t.live }

// Pull implements Engine.
func (t *Team) Pull(tensors []int) error {
	if err := t.settle(); err != nil {
		return err
	}
	for _, m := range t.well() {
		if err := m.engine.Pull(tensors); err != nil {
			m.lost = errors.Is(err, compute.ErrLost)
			return fmt.Errorf("%s: %w", m.engine.Name(), err)
		}
	}
	for _, i := range tensors {
		t.mean(i)
	}
	return nil
}

// mean sets a tensor to the members' mean.
func (t *Team) mean(tensor int) {
	well, all := t.well(), uint64(0)
	for _, m := range well {
		all += m.steps - m.equal[tensor]
	}
	to := t.live[tensor]
	clear(to)
	for _, m := range well {
		share := float32(1) / float32(len(well))
		if all > 0 {
			share = float32(float64(m.steps-m.equal[tensor]) / float64(all))
		}
		for i, v := range m.engine.Live()[tensor] {
			to[i] += float32(share * v)
		}
	}
}

// Push implements Engine. A member whose device is back takes all weights.
func (t *Team) Push(tensors []int) error {
	if err := t.settle(); err != nil {
		return err
	}
	for _, m := range t.well() {
		if err := t.push(m, tensors); err != nil {
			return err
		}
	}
	all := make([]int, len(t.live))
	for i := range all {
		all[i] = i
	}
	for _, m := range t.members {
		if m.lost && time.Since(m.tried) >= lostPatience && m.reopen() == nil {
			m.lost = t.push(m, all) != nil
		}
	}
	return nil
}

// push gives a member the team's weights.
func (t *Team) push(m *member, tensors []int) error {
	for _, i := range tensors {
		copy(m.engine.Live()[i], t.live[i])
		m.equal[i] = m.steps
	}
	if err := m.engine.Push(tensors); err != nil {
		m.lost = errors.Is(err, compute.ErrLost)
		return fmt.Errorf("%s: %w", m.engine.Name(), err)
	}
	return nil
}

// Remember implements Engine.
func (t *Team) Remember() error {
	errs := []error{t.settle()}
	for _, m := range t.well() {
		errs = append(errs, m.engine.Remember())
	}
	return errors.Join(errs...)
}

// Reopen implements Engine: it opens the devices that were lost, and is content with those that are there.
func (t *Team) Reopen() error {
	_ = t.settle() // what was lost meanwhile is noted
	var errs []error
	for _, m := range t.members {
		if m.lost {
			errs = append(errs, m.reopen())
		}
	}
	if len(t.well()) > 0 {
		return nil
	}
	return errors.Join(errs...)
}

// reopen opens a member's device again.
func (m *member) reopen() error {
	m.tried = time.Now()
	if err := m.engine.Reopen(); err != nil {
		return fmt.Errorf("%s: %w", m.engine.Name(), err)
	}
	m.lost = false
	return nil
}

// Name implements Engine.
func (t *Team) Name() string {
	var names []string
	for _, m := range t.members {
		name := m.engine.Name()
		if m.lost {
			name += " (lost)"
		}
		names = append(names, name)
	}
	return strings.Join(names, " + ")
}

// Close implements Engine.
func (t *Team) Close() error {
	errs := []error{t.settle()}
	for _, m := range t.members {
		close(m.orders)
	}
	t.wg.Wait()
	for _, m := range t.members {
		errs = append(errs, m.engine.Close())
	}
	return errors.Join(errs...)
}
