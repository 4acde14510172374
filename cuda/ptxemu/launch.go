package ptxemu

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// launch is one run of a kernel over a grid of blocks.
type launch struct {
	kernel      *kernel
	grid, block [3]uint32
	shared      int // bytes of dynamic shared memory
	params      []byte
	memory      *memory
	limit       int64 // instructions of warps

	blocks uint32
	base   uint32 // tags of blocks lie behind it
	next   atomic.Uint32
	spent  atomic.Int64
	stop   atomic.Bool
	order  []uint32
	atomic sync.Mutex // held by atomic operations
}

// worker runs blocks one after the other. What it needs for a block is kept for the next.
type worker struct {
	launch     *launch
	kernel     *kernel
	base       uint32
	current    block
	trails     map[*allocation]*trail
	footprints map[footprint][]uint64
	budget     int64
	finding    *Finding

	sites    []site
	executed []uint64
	lanes    []uint64
	blocks   uint64
}

// chunk is how many instructions a worker takes from the launch's limit at once.
const chunk = 1 << 16

// refill takes more of the launch's limit. It reports false when nothing is left.
func (w *worker) refill() bool {
	if w.launch.stop.Load() || w.launch.spent.Add(chunk) > w.launch.limit {
		return false
	}
	w.budget = chunk
	return true
}

// trail returns what is known of an allocation in the launch, nil when nothing can go wrong.
func (w *worker) trail(a *allocation) *trail {
	if a.constant || w.launch.blocks == 1 && w.launch.block[0]*w.launch.block[1]*w.launch.block[2] <= 32 {
		return nil
	}
	t := w.trails[a]
	if t == nil {
		t = &trail{}
		w.trails[a] = t
	}
	return t
}

// place returns the coordinates of the n-th block.
func (l *launch) place(n uint32) [3]uint32 {
	return [3]uint32{n % l.grid[0], n / l.grid[0] % l.grid[1], n / l.grid[0] / l.grid[1]}
}

// prepare makes a worker ready for a launch.
func (w *worker) prepare(l *launch) {
	w.launch, w.kernel, w.base = l, l.kernel, l.base
	w.finding, w.budget, w.blocks = nil, 0, 0
	clear(w.footprints)
	n := len(l.kernel.code)
	w.sites = fresh(w.sites, n)
	w.executed = fresh(w.executed, n)
	w.lanes = fresh(w.lanes, n)
	w.current.prepare(w)
}

// fresh returns n zero values, in old memory when it is large enough.
func fresh[T any](old []T, n int) []T {
	if cap(old) < n {
		return make([]T, n)
	}
	old = old[:n]
	clear(old)
	return old
}

// run runs blocks until none is left.
func (w *worker) run() {
	l := w.launch
	for !l.stop.Load() {
		n := l.next.Add(1) - 1
		if n >= l.blocks {
			return
		}
		if l.order != nil {
			n = l.order[n]
		}
		w.blocks++
		w.current.run(n)
		if w.finding != nil {
			l.stop.Store(true)
			return
		}
	}
}

// run runs the launch on some workers and returns what they found.
func (l *launch) run(workers []*worker, random *rand.Rand) *Finding {
	l.blocks = l.grid[0] * l.grid[1] * l.grid[2]
	if l.blocks > 1 && l.blocks <= 1<<16 {
		l.order = make([]uint32, l.blocks)
		for i := range l.order {
			l.order[i] = uint32(i)
		}
		random.Shuffle(len(l.order), func(i, j int) { l.order[i], l.order[j] = l.order[j], l.order[i] })
	}
	workers = workers[:min(len(workers), int(l.blocks))]
	var all sync.WaitGroup
	for i, w := range workers {
		w.prepare(l)
		if i > 0 {
			all.Go(w.run)
		}
	}
	workers[0].run()
	all.Wait()
	var first *Finding
	for i, w := range workers {
		if f := w.finding; f != nil && (first == nil || f.Kind != Endless && first.Kind == Endless) {
			first = f
		}
		for _, other := range workers[:i] {
			if first == nil && l.blocks > 1 {
				first = compare(w, other)
			}
		}
	}
	return first
}

// block is the block that a worker runs.
type block struct {
	worker *worker
	place  [3]uint32
	tag    uint32
	shared []byte
	cells  []cell
	epoch  uint32 // barriers so far, from 1
	warps  []*warp
	spare  []*warp
}

// prepare makes room for the blocks of a launch and fills what all blocks share.
func (b *block) prepare(w *worker) {
	b.worker = w
	k, l := w.kernel, w.launch
	threads := int(l.block[0] * l.block[1] * l.block[2])
	bytes := k.shared
	if k.dynamic >= 0 || l.shared > 0 {
		bytes = max(k.dynamic, k.shared) + l.shared
	}
	b.shared = fresh(b.shared, bytes)
	b.cells = fresh(b.cells, (bytes+1<<k.grain-1)>>k.grain)
	n := (threads + 31) / 32
	for len(b.spare) < n {
		b.spare = append(b.spare, &warp{block: b, index: len(b.spare)})
	}
	b.warps = b.spare[:n]
	for i, warp := range b.warps {
		warp.r = fresh(warp.r, k.n32)
		warp.q = fresh(warp.q, k.n64)
		warp.p = fresh(warp.p, k.preds)
		warp.local = fresh(warp.local, 32*k.local)
		warp.all = allLanes
		if rest := threads - 32*i; rest < 32 {
			warp.all = 1<<rest - 1
		}
		for _, f := range k.fixed32 {
			for lane := range 32 {
				warp.r[f.slot][lane] = f.value
			}
		}
		for _, f := range k.fixed64 {
			for lane := range 32 {
				warp.q[f.slot][lane] = f.value
			}
		}
		for _, f := range k.fixedPreds {
			warp.p[f.slot] = f.value
		}
		for _, s := range k.specials {
			for lane := range 32 {
				warp.r[s.slot][lane] = l.special(s.name, uint32(32*i+lane))
			}
		}
	}
}

// special returns the value of a register that the card fills, except for the block's place.
func (l *launch) special(name string, thread uint32) uint32 {
	lane := thread & 31
	switch name {
	case "tid.x":
		return thread % l.block[0]
	case "tid.y":
		return thread / l.block[0] % l.block[1]
	case "tid.z":
		return thread / l.block[0] / l.block[1]
	case "ntid.x", "ntid.y", "ntid.z":
		return l.block[name[5]-'x']
	case "nctaid.x", "nctaid.y", "nctaid.z":
		return l.grid[name[7]-'x']
	case "laneid":
		return lane
	case "warpid":
		return thread >> 5
	case "lanemask_eq":
		return 1 << lane
	case "lanemask_lt":
		return 1<<lane - 1
	case "lanemask_le":
		return 2<<lane - 1
	case "lanemask_gt":
		return ^uint32(2<<lane - 1)
	case "lanemask_ge":
		return ^uint32(1<<lane - 1)
	case "dynamic_smem_size":
		return uint32(l.shared)
	}
	return 0
}

// run runs one block to its end or to a finding.
func (b *block) run(n uint32) {
	w := b.worker
	b.place, b.tag, b.epoch = w.launch.place(n), w.base+1+n, 1
	clear(b.cells)
	for i := range b.shared {
		b.shared[i] = poison
	}
	for _, warp := range b.warps {
		warp.start()
		for _, s := range w.kernel.specials {
			if len(s.name) == 7 && s.name[:6] == "ctaid." {
				warp.put(slot{B32, s.slot}, allLanes, uint64(b.place[s.name[6]-'x']))
			}
		}
	}
	for turn := int(n); ; turn++ { // another warp begins each time
		for i := range b.warps {
			warp := b.warps[(i+turn)%len(b.warps)]
			if !warp.done {
				warp.resume()
			}
			if w.finding != nil {
				return
			}
		}
		if !b.release() {
			return
		}
	}
}

// release lets the warps go on from the barrier where all of them wait. It reports false when the block is at its end.
func (b *block) release() bool {
	at := int32(-1)
	for _, w := range b.warps {
		if !w.done && at < 0 {
			at = w.waits
		}
	}
	if at < 0 {
		return false
	}
	for _, w := range b.warps {
		switch {
		case w.done || w.alive != w.all:
			w.faultAt(at, Divergence, bits.TrailingZeros32(w.all&^w.alive), "the thread left the kernel before a barrier where others wait")
			return false
		case w.waits != at:
			line, text := b.worker.kernel.place(at)
			w.faultAt(w.waits, Divergence, 0, "other warps wait at another barrier, line %d: %s", line, text)
			return false
		}
	}
	b.reduce(&b.worker.kernel.code[at])
	b.epoch++
	for _, w := range b.warps {
		w.waits = -1
		w.syncs++
	}
	return true
}

// blockBarrier is what a barrier computes over all threads.
type blockBarrier struct {
	reduce      string // "", "popc", "and", "or"
	destination slot
	source      int
	negate      bool
}

// reduce gives all threads the result of a barrier.
func (b *block) reduce(op *operation) {
	s := &op.sync
	if s.reduce == "" {
		return
	}
	count, threads := 0, 0
	for _, w := range b.warps {
		p := w.p[s.source]
		if s.negate {
			p = ^p
		}
		count += bits.OnesCount32(p & w.all)
		threads += bits.OnesCount32(w.all)
	}
	truth := s.reduce == "and" && count == threads || s.reduce == "or" && count > 0
	for _, w := range b.warps {
		switch {
		case s.reduce == "popc":
			w.put(s.destination, allLanes, uint64(count))
		case truth:
			w.p[s.destination.at] = allLanes
		default:
			w.p[s.destination.at] = 0
		}
	}
}
