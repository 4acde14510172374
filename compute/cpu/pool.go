package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// spins is how often a waiting goroutine looks before it parks: some 20 µs,
// longer than the gap between two operations of a training step.
const spins = 1 << 13

// task is work cut into parts. Parts run in any order, on any worker, each
// exactly once.
type task interface {
	part(d *Device, worker, part int)
}

// pool runs the parts of one task at a time on the caller (worker 0) and on
// threads-1 persistent goroutines, which spin for a moment and then park.
type pool struct {
	device  *Device
	workers []parker // of the goroutines; worker i+1 parks in workers[i]
	caller  parker
	ended   sync.WaitGroup

	// The fields below are written by the caller before generation moves.
	task  task
	parts int64

	generation atomic.Uint32
	next       atomic.Int64
	pending    atomic.Int64 // goroutines that have not finished this generation
	closed     atomic.Bool
}

// parker is one goroutine's place to sleep. Whoever takes parked from true to
// false owns the wake-up.
type parker struct {
	parked atomic.Bool
	wake   chan struct{}
	_      [40]byte // a cache line of its own
}

func (p *parker) await(ready func() bool) {
	for i := range spins {
		if ready() {
			return
		}
		if i%64 == 63 {
			runtime.Gosched()
		}
	}
	for !ready() {
		p.parked.Store(true)
		if ready() && p.parked.CompareAndSwap(true, false) {
			return
		}
		<-p.wake
	}
}

func (p *parker) unpark() {
	if p.parked.CompareAndSwap(true, false) {
		p.wake <- struct{}{}
	}
}

func newPool(d *Device, threads int) *pool {
	p := &pool{device: d, workers: make([]parker, threads-1)}
	p.caller.wake = make(chan struct{}, 1)
	for i := range p.workers {
		p.workers[i].wake = make(chan struct{}, 1)
		p.ended.Go(func() { p.work(i) })
	}
	return p
}

// run executes every part of t and returns when all are done.
func (p *pool) run(t task, parts int) {
	if len(p.workers) == 0 || parts <= 1 {
		for i := range parts {
			t.part(p.device, 0, i)
		}
		return
	}
	p.task, p.parts = t, int64(parts)
	p.next.Store(0)
	p.pending.Store(int64(len(p.workers)))
	p.generation.Add(1)
	for i := range p.workers {
		p.workers[i].unpark()
	}
	p.claim(0)
	p.caller.await(p.idle)
	p.task = nil
}

func (p *pool) idle() bool { return p.pending.Load() == 0 }

func (p *pool) claim(worker int) {
	for {
		i := p.next.Add(1) - 1
		if i >= p.parts {
			return
		}
		p.task.part(p.device, worker, int(i))
	}
}

func (p *pool) work(i int) {
	var seen uint32
	moved := func() bool { return p.generation.Load() != seen }
	for {
		p.workers[i].await(moved)
		seen++
		if p.closed.Load() {
			return
		}
		p.claim(i + 1)
		if p.pending.Add(-1) == 0 {
			p.caller.unpark()
		}
	}
}

func (p *pool) close() {
	if p.closed.Swap(true) {
		return
	}
	p.generation.Add(1)
	for i := range p.workers {
		p.workers[i].unpark()
	}
	p.ended.Wait()
}

// scratch is memory of one worker that grows to the largest need and stays.
type scratch struct{ floats []float32 }

// take returns n values with whatever they held before. Only one take of a
// part is valid at a time.
func (s *scratch) take(n int) []float32 {
	if cap(s.floats) < n {
		s.floats = make([]float32, n)
		largePages(s.floats)
	}
	return s.floats[:n]
}
