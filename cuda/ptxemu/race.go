package ptxemu

import "fmt"

// cell is what the sanitizer knows of a grain of shared memory.
type cell struct {
	wrote, read     uint32 // epochs of the block, 0 for never
	wSyncs, rSyncs  uint16 // barriers of the warp that had passed
	writer, readers uint16 // thread; readers may be a whole warp or several
}

// Values of cell beside epochs and threads.
const (
	pendingCopy = 0xffffffff // in wrote: a cp.async that was not waited for
	warpReaders = 0x400      // in readers: several threads of the warp in the low bits
	manyReaders = 0xffff

	atomicWriters = 0x800 // in writer: atomic operations
)

// readCells checks and notes a read of shared memory. It reports whether it was lawful.
func (w *warp) readCells(lane int, from uint64, bytes, grain int) bool {
	b := w.block
	thread := uint16(32*w.index + lane)
	cells := b.cells[from/uint64(grain) : (from+uint64(bytes)+uint64(grain)-1)/uint64(grain)]
	for i := range cells {
		c := &cells[i]
		if c.wrote-1 >= b.epoch-1 { // never, pending or since the last barrier
			switch {
			case c.wrote == 0:
				w.fault(Uninitialised, lane, "byte %d of shared memory was never written by this block", from+uint64(i*grain))
				return false
			case c.wrote == pendingCopy:
				w.fault(Unwaited, lane, "byte %d of shared memory, into which thread %d copies", from+uint64(i*grain), c.writer)
				return false
			case c.writer != thread && (c.writer>>5 != thread>>5 || c.wSyncs == w.syncs):
				w.fault(Race, lane, "reads byte %d of shared memory, which thread %d writes without a barrier between", from+uint64(i*grain), c.writer)
				return false
			}
		}
		if c.read != b.epoch {
			c.read, c.readers, c.rSyncs = b.epoch, thread, w.syncs
			continue
		}
		c.rSyncs = w.syncs
		if c.readers != thread {
			switch r := c.readers; {
			case r == manyReaders:
			case r < warpReaders && r>>5 == thread>>5 || r >= warpReaders && r-warpReaders == thread>>5:
				c.readers = warpReaders + thread>>5
			default:
				c.readers = manyReaders
			}
		}
	}
	return true
}

// writeCells checks and notes a write. A deposit is a copy that lands later.
func (w *warp) writeCells(lane int, from uint64, bytes, grain int, m mode) bool {
	b := w.block
	thread := uint16(32*w.index + lane)
	writer := thread
	if m == modify {
		writer = atomicWriters // whose order among each other does not matter
	}
	cells := b.cells[from/uint64(grain) : (from+uint64(bytes)+uint64(grain)-1)/uint64(grain)]
	for i := range cells {
		c := &cells[i]
		switch {
		case c.wrote == 0 && m == modify:
			w.fault(Uninitialised, lane, "byte %d of shared memory was never written by this block", from+uint64(i*grain))
			return false
		case c.wrote == pendingCopy:
			w.fault(Unwaited, lane, "byte %d of shared memory, into which thread %d copies", from+uint64(i*grain), c.writer)
			return false
		case c.wrote == b.epoch && c.writer != writer && (c.writer>>5 != writer>>5 || c.wSyncs == w.syncs):
			w.fault(Race, lane, "writes byte %d of shared memory, which thread %d writes too without a barrier between", from+uint64(i*grain), c.writer)
			return false
		case c.read == b.epoch && c.readers != thread:
			warp := c.readers >> 5
			if c.readers >= warpReaders {
				warp = c.readers - warpReaders
			}
			if c.readers == manyReaders || warp != thread>>5 || c.rSyncs == w.syncs {
				w.fault(Race, lane, "writes byte %d of shared memory, which %s without a barrier between", from+uint64(i*grain), readersOf(c.readers))
				return false
			}
		}
		c.wrote, c.writer, c.wSyncs = b.epoch, writer, w.syncs
		if m == deposit {
			c.wrote = pendingCopy
		}
	}
	return true
}

func readersOf(r uint16) string {
	switch {
	case r == manyReaders:
		return "several warps read"
	case r >= warpReaders:
		return fmt.Sprintf("threads of warp %d read", r-warpReaders)
	}
	return fmt.Sprintf("thread %d reads", r)
}

// trail is what one worker's blocks did to an allocation in a launch: for each
// grain the last block to write and to read, in pages.
type trail struct {
	pages []*page
}

// page covers pageGrains grains. A use holds the tag of its block in the upper
// half and, below, the instruction, thread and a mark: for writes that they were
// atomic, for reads that several threads of the block read.
type page struct {
	launch      uint32
	stored      bool
	write, read [pageGrains]uint64
	wrote, saw  [pageGrains]uint32 // barriers of the block that had passed
}

const (
	pageGrains = 1024
	useAtomic  = 1 << 31
	useMany    = 1 << 31
	useThread  = 1<<10 - 1
)

// use packs who did something. Tags of a launch lie behind its base, which itself stands for several blocks.
func (w *warp) use(pc int32, lane int) uint64 {
	return uint64(w.block.tag)<<32 | uint64(pc&(1<<21-1))<<10 | uint64(32*w.index+lane)
}

// follow checks and notes a use of global memory against those of other blocks
// that this worker ran and of other warps of the block since the last barrier.
func (w *warp) follow(t *trail, lane int, from uint64, bytes int, access *access) bool {
	worker := w.block.worker
	grain, base, epoch := uint64(worker.kernel.gridwide), worker.base, w.block.epoch
	mine := w.use(access.pc, lane)
	if access.mode == modify {
		mine |= useAtomic
	}
	for g := from / grain; g <= (from+uint64(bytes)-1)/grain; g++ {
		for uint64(len(t.pages)) <= g/pageGrains {
			t.pages = append(t.pages, nil)
		}
		p := t.pages[g/pageGrains]
		if p == nil {
			p = new(page)
			t.pages[g/pageGrains] = p
		}
		if p.launch != base {
			p.launch, p.stored = base, false
		}
		at := g % pageGrains
		write, read := &p.write[at], &p.read[at]
		other := *write
		if uint32(other>>32) > base && other&mine&useAtomic == 0 && (other>>32 != mine>>32 || p.wrote[at] == epoch && (other^mine)&useThread>>5 != 0) {
			w.fault(Race, lane, "uses byte %d of global memory, which %s", g*grain, worker.describe(other, "writes"))
			return false
		}
		other = *read
		if access.mode == load {
			switch tag := uint32(other >> 32); {
			case tag < base, tag == w.block.tag && p.saw[at] != epoch: // the first reader of the launch, or since the barrier
				*read = mine
			case tag == base:
			case tag != w.block.tag:
				*read = uint64(base)<<32 | mine&0xffffffff
			case (other^mine)&useThread>>5 != 0:
				*read = mine | useMany
			}
			p.saw[at] = epoch
			continue
		}
		if tag := uint32(other >> 32); tag >= base && (tag != w.block.tag || p.saw[at] == epoch && (other&useMany != 0 || (other^mine)&useThread>>5 != 0)) {
			w.fault(Race, lane, "writes byte %d of global memory, which %s", g*grain, worker.describe(other, "reads"))
			return false
		}
		*write, p.wrote[at], p.stored = mine, epoch, true
	}
	return true
}

// describe says who the other side of a race is.
func (w *worker) describe(use uint64, verb string) string {
	line, text := w.kernel.place(int32(use >> 10 & (1<<21 - 1)))
	who := "another block"
	switch tag := uint32(use >> 32); {
	case tag == w.current.tag:
		who = "the block itself"
	case tag > w.base:
		who = fmt.Sprintf("block %v", w.launch.place(tag-w.base-1))
	}
	return fmt.Sprintf("%s %s without order between them (thread %d, line %d: %s)", who, verb, use&0x3ff, line, text)
}

// compare looks for races between blocks that different workers ran.
func compare(a, b *worker) *Finding {
	for m, mine := range a.trails {
		other := b.trails[m]
		if other == nil {
			continue
		}
		for i, p := range mine.pages {
			if i >= len(other.pages) || p == nil || other.pages[i] == nil {
				continue
			}
			q := other.pages[i]
			if p.launch != a.base || q.launch != a.base || !p.stored && !q.stored {
				continue
			}
			for g := range p.write {
				x, y, z, u := p.write[g], p.read[g], q.write[g], q.read[g]
				now := func(use uint64) bool { return uint32(use>>32) >= a.base }
				var first, second uint64
				switch {
				case now(x) && now(z) && x&z&useAtomic == 0:
					first, second = x, z
				case now(x) && now(u):
					first, second = x, u
				case now(z) && now(y):
					first, second = z, y
				default:
					continue
				}
				f := &Finding{Kind: Race, Kernel: a.kernel.name, Thread: int(first & 0x3ff), Block: a.launch.place(uint32(first>>32) - a.base - 1)}
				f.Line, f.Instruction = a.kernel.place(int32(first >> 10 & (1<<21 - 1)))
				f.Detail = fmt.Sprintf("writes byte %d of global memory, which %s", (i*pageGrains+g)*a.kernel.gridwide, a.describe(second, "uses"))
				return f
			}
		}
	}
	return nil
}
