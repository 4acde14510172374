package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"dunlin/coordinator"

	"dunlin/compress"
	"dunlin/contribution"
	"dunlin/optimizer"
	"dunlin/replica"
	"dunlin/wire"
)

// World is a swarm in virtual time.
type World struct {
	sc       Scenario
	spec     *wire.RunSpec
	run      wire.Hash
	codec    compress.Codec // of contributions
	result   compress.Codec
	configs  []contribution.Config // by fragment
	state0   []wire.FragmentHead
	rng      *rand.Rand
	now      time.Duration
	seq      uint64
	queue    queue
	hosts    []*host // the coordinator's first
	ids      map[wire.PeerID]*host
	net      *network
	referee  *referee
	mess     mess
	wish     *coordinator.Change // the organiser's newest word
	over     bool                // all has drained
	err      error
	recorder recorder
	// hook sees a body that is durable and a message that is about to be sent;
	// for tests that need one moment.
	hook   func(p *process, what any)
	events int
}

// event is something that happens at a time; of equal times, in the order of
// scheduling. What happens to a process does not happen once it is dead, and
// waits while it is frozen.
type event struct {
	at  time.Duration
	seq uint64
	on  *process
	do  func()
}

type queue []*event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || (q[i].at == q[j].at && q[i].seq < q[j].seq)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(*event)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

// New builds the world of a scenario.
func New(sc Scenario) (*World, error) {
	if err := sc.Validate(); err != nil {
		return nil, err
	}
	spec, err := sc.runSpec()
	if err != nil {
		return nil, err
	}
	w := &World{sc: sc, spec: spec, run: spec.ID(), rng: rand.New(rand.NewPCG(sc.Seed, 0x51)), ids: map[wire.PeerID]*host{}}
	if w.codec, err = compress.ByName(spec.Contribution); err != nil {
		return nil, err
	}
	if w.result, err = compress.ByName(spec.Result); err != nil {
		return nil, err
	}
	for f := range sc.Setup.Values {
		layout, err := replica.FlatLayout(spec, f, sc.Setup.SlabValues)
		if err != nil {
			return nil, err
		}
		w.configs = append(w.configs, contribution.Config{Layout: layout, Codec: w.codec, Merge: optimizer.Merge(spec.Merge), Decay: spec.Decay.Value(), Alpha: spec.Alpha.Value()})
	}
	first, err := replica.NewFlat(spec, sc.Setup.SlabValues)
	if err != nil {
		return nil, err
	}
	w.state0 = first.Heads()
	if sc.Record {
		w.recorder.w = w
	}
	w.net = newNetwork(w)
	w.addHost(sc.LeadWork)
	for range sc.Workers {
		w.addHost(true)
	}
	if w.referee, err = newReferee(w); err != nil {
		return nil, err
	}
	for i, h := range w.hosts {
		w.after(time.Duration(i)*37*time.Millisecond, nil, h.start)
	}
	for _, f := range sc.Faults {
		w.after(f.At, nil, func() { w.strike(f) })
	}
	w.after(sc.Calm, nil, w.calm)
	return w, nil
}

// after schedules something; on may be nil.
func (w *World) after(d time.Duration, on *process, do func()) {
	w.seq++
	heap.Push(&w.queue, &event{at: w.now + max(0, d), seq: w.seq, on: on, do: do})
}

// between draws a duration.
func (w *World) between(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(w.rng.Int64N(int64(to-from)))
}

// fail ends the run with the first broken promise.
func (w *World) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("at %v: "+format, append([]any{w.now}, args...)...)
	}
}

// ErrStuck is wrapped by errors about progress that did not come.
var ErrStuck = errors.New("no progress")

// Run runs the scenario to its end and returns the first broken promise.
func (w *World) Run() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("at %v: panic: %v\n%s", w.now, r, debug.Stack())
		}
	}()
	w.RunUntil(w.sc.Calm + w.sc.Busy + w.patience() + 2*drainTime)
	if w.err == nil && !w.over {
		w.referee.stuck("the run does not end")
	}
	return w.err
}

// RunUntil runs to a time or to the first broken promise.
func (w *World) RunUntil(t time.Duration) {
	for len(w.queue) > 0 && w.err == nil && !w.over && w.queue[0].at <= t {
		e := heap.Pop(&w.queue).(*event)
		w.now = e.at
		if p := e.on; p != nil {
			if p.dead {
				continue
			}
			if p.h.frozen {
				p.h.backlog = append(p.h.backlog, e)
				continue
			}
		}
		w.events++
		e.do()
	}
	w.now = max(w.now, t)
}

// Err returns the first broken promise.
func (w *World) Err() error { return w.err }

// Transcript returns what was recorded.
func (w *World) Transcript() string { return w.recorder.text() }

// patience is within how long everything that waits must go on once nothing
// is wrong any more: a few attempts and the longest round.
func (w *World) patience() time.Duration {
	slowest := time.Duration(0)
	for _, h := range w.hosts {
		slowest = max(slowest, h.stepTime)
	}
	d := w.spec.Deadlines
	return time.Duration(4*d.Attempt+d.Silence+d.Leave)*time.Millisecond + 6*time.Duration(w.spec.H)*slowest + 30*time.Second
}

// calm is when the faults are over; from then on everybody must get on.
func (w *World) calm() {
	w.mess = mess{}
	w.referee.calm()
	w.after(3*time.Second, nil, w.wait)
}

// wait ends the run once everybody got on, at the latest when patience is over.
func (w *World) wait() {
	missing := w.referee.missing()
	switch {
	case missing == "" && w.now >= w.sc.Calm+w.sc.Busy:
		w.end()
	case missing != "" && w.now >= w.sc.Calm+w.sc.Busy+w.patience():
		w.referee.stuck(missing)
	default:
		w.after(time.Second, nil, w.wait)
	}
}

// end lets the organiser end the run, and waits until it has drained.
func (w *World) end() {
	w.organise(coordinator.Change{Phase: wire.PhaseEnded, Reason: "enough"})
	began := w.now
	var drained func()
	drained = func() {
		left := w.referee.left()
		switch {
		case left == "":
			w.over = true
		case w.now >= began+drainTime:
			w.referee.stuck(left)
		default:
			w.after(100*time.Millisecond, nil, drained)
		}
	}
	w.after(time.Second, nil, drained)
}

// drainTime is within how long a run that has ended must have drained.
const drainTime = 40 * time.Second
