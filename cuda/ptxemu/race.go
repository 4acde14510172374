package ptxemu

import (
	"fmt"
	"math/bits"
)

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

// readCells checks and notes reads of shared memory by lanes, whose places there are in w.address. It reports whether they
// were lawful.
func (w *warp) readCells(m uint32, bytes int) bool {
	b := w.block
	grain, epoch, whole := b.worker.kernel.grain, b.epoch, uint16(warpReaders+w.index)
	before, repeats := ^uint64(0), 0
	for ; m != 0; m &= m - 1 {
		lane := bits.TrailingZeros32(m) & 31
		at := w.address[lane]
		if at != before {
			before, repeats = at, 0
		} else if repeats++; repeats > 1 {
			continue // two threads of the warp are noted as readers, more make no difference
		}
		thread := uint16(32*w.index + lane)
		first, last := grain.span(at, bytes)
		cells := b.cells[first : last+1]
		for i := range cells {
			c := &cells[i]
			fresh := c.wrote-1 >= epoch-1 // never written, pending or since the last barrier
			if !fresh && c.read == epoch && (c.readers == whole || c.readers == manyReaders) {
				c.rSyncs = w.syncs
				continue
			}
			if fresh && !w.mayRead(c, lane, thread, (first+uint64(i))<<grain) {
				return false
			}
			if c.read != epoch {
				c.read, c.readers, c.rSyncs = epoch, thread, w.syncs
				continue
			}
			c.rSyncs = w.syncs
			if c.readers != thread {
				switch r := c.readers; {
				case r == manyReaders:
				case r < warpReaders && r>>5 == thread>>5 || r == whole:
					c.readers = whole
				default:
					c.readers = manyReaders
				}
			}
		}
	}
	return true
}

// mayRead checks a read of what was not written before the last barrier.
func (w *warp) mayRead(c *cell, lane int, thread uint16, at uint64) bool {
	switch {
	case c.wrote == 0:
		w.fault(Uninitialised, lane, "byte %d of shared memory was never written by this block", at)
	case c.wrote == pendingCopy:
		w.fault(Unwaited, lane, "byte %d of shared memory, into which thread %d copies", at, c.writer)
	case c.writer != thread && (c.writer>>5 != thread>>5 || c.wSyncs == w.syncs):
		w.fault(Race, lane, "reads byte %d of shared memory, which thread %d writes without a barrier between", at, c.writer)
	default:
		return true
	}
	return false
}

// writeCells is readCells for writes. A deposit is a copy that lands later.
func (w *warp) writeCells(m uint32, bytes int, as mode) bool {
	b := w.block
	grain, wrote := b.worker.kernel.grain, b.epoch
	if as == deposit {
		wrote = pendingCopy
	}
	for ; m != 0; m &= m - 1 {
		lane := bits.TrailingZeros32(m) & 31
		thread := uint16(32*w.index + lane)
		writer := thread
		if as == modify {
			writer = atomicWriters // whose order among each other does not matter
		}
		first, last := grain.span(w.address[lane], bytes)
		for g := first; g <= last; g++ {
			c := &b.cells[g]
			if (c.wrote-1 >= b.epoch-1 || c.read == b.epoch) && !w.mayWrite(c, lane, thread, writer, g<<grain, as) {
				return false
			}
			c.wrote, c.writer, c.wSyncs = wrote, writer, w.syncs
		}
	}
	return true
}

// mayWrite checks a write over what was never written, or was used since the last barrier.
func (w *warp) mayWrite(c *cell, lane int, thread, writer uint16, at uint64, as mode) bool {
	epoch := w.block.epoch
	switch {
	case c.wrote == 0 && as == modify:
		w.fault(Uninitialised, lane, "byte %d of shared memory was never written by this block", at)
		return false
	case c.wrote == pendingCopy:
		w.fault(Unwaited, lane, "byte %d of shared memory, into which thread %d copies", at, c.writer)
		return false
	case c.wrote == epoch && c.writer != writer && (c.writer>>5 != writer>>5 || c.wSyncs == w.syncs):
		w.fault(Race, lane, "writes byte %d of shared memory, which thread %d writes too without a barrier between", at, c.writer)
		return false
	case c.read == epoch && c.readers != thread:
		warp := c.readers >> 5
		if c.readers >= warpReaders {
			warp = c.readers - warpReaders
		}
		if c.readers == manyReaders || warp != thread>>5 || c.rSyncs == w.syncs {
			w.fault(Race, lane, "writes byte %d of shared memory, which %s without a barrier between", at, readersOf(c.readers))
			return false
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

// page returns what is known of a page in a launch.
func (t *trail) page(number uint64, launch uint32) *page {
	for uint64(len(t.pages)) <= number {
		t.pages = append(t.pages, nil)
	}
	p := t.pages[number]
	if p == nil {
		p = new(page)
		t.pages[number] = p
	}
	if p.launch != launch {
		p.launch, p.stored = launch, false
	}
	return p
}

// follow checks and notes uses of global memory by lanes, whose places there are in w.address, against those of other blocks
// that this worker ran and of other warps of the block since the last barrier.
func (w *warp) follow(t *trail, m uint32, access *access) bool {
	worker := w.block.worker
	grain, base, epoch, tag := worker.kernel.gridwide, worker.base, w.block.epoch, w.block.tag
	var p *page
	number := ^uint64(0)
	for ; m != 0; m &= m - 1 {
		lane := bits.TrailingZeros32(m) & 31
		mine := w.use(access.pc, lane)
		if access.mode == modify {
			mine |= useAtomic
		}
		first, last := grain.span(w.address[lane], access.bytes)
		for g := first; g <= last; g++ {
			if g/pageGrains != number {
				number = g / pageGrains
				p = t.page(number, base)
			}
			at := g % pageGrains
			write, read := &p.write[at], &p.read[at]
			if writer := uint32(*write >> 32); writer > base && *write&mine&useAtomic == 0 &&
				(writer != tag || p.wrote[at] == epoch && (*write^mine)&useThread>>5 != 0) {
				w.fault(Race, lane, "uses byte %d of global memory, which %s", g<<grain, worker.describe(*write, "writes"))
				return false
			}
			reader := uint32(*read >> 32)
			if access.mode == load {
				switch {
				case reader == base: // several blocks
				case reader < base, reader == tag && p.saw[at] != epoch: // the first reader of the launch, or since the barrier
					*read, p.saw[at] = mine, epoch
				case reader != tag:
					*read = uint64(base)<<32 | mine&0xffffffff
				case (*read^mine)&useThread>>5 != 0:
					*read = mine | useMany
				}
				continue
			}
			if reader >= base && (reader != tag || p.saw[at] == epoch && (*read&useMany != 0 || (*read^mine)&useThread>>5 != 0)) {
				w.fault(Race, lane, "writes byte %d of global memory, which %s", g<<grain, worker.describe(*read, "reads"))
				return false
			}
			*write, p.wrote[at], p.stored = mine, epoch, true
		}
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
				f.Detail = fmt.Sprintf("writes byte %d of global memory, which %s", (i*pageGrains+g)<<a.kernel.gridwide, a.describe(second, "uses"))
				return f
			}
		}
	}
	return nil
}
