package ptxemu

import (
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// Counters is what a kernel did in all launches so far. An instruction counts
// once for a warp, a request is one instruction of a warp that touches memory.
type Counters struct {
	Kernel       string `json:"kernel"`
	Launches     uint64 `json:"launches"`
	Blocks       uint64 `json:"blocks"`
	Instructions uint64 `json:"instructions"`        // of warps
	Lanes        uint64 `json:"thread_instructions"` // of threads
	Flops        uint64 `json:"flop"`                // additions and multiplications, fused ones twice, without those of MMA
	MMA          uint64 `json:"mma"`                 // tensor core instructions
	MMAFlops     uint64 `json:"mma_flop"`            // their operations
	LoadBytes    uint64 `json:"load_bytes"`          // that threads ask of global memory
	StoreBytes   uint64 `json:"store_bytes"`
	Requests     uint64 `json:"requests"`      // of global memory
	Coalesced    uint64 `json:"coalesced"`     // those that touch no more sectors than their bytes need
	Sectors      uint64 `json:"sectors"`       // of 32 bytes that requests touch
	IdealSectors uint64 `json:"ideal_sectors"` // that their bytes need
	// Footprint is the bytes of the sectors that launches read or write, in each launch once for reading and once for writing.
	Footprint       uint64 `json:"footprint_bytes"`
	SharedRequests  uint64 `json:"shared_requests"`
	Wavefronts      uint64 `json:"wavefronts"`       // passes over the banks of shared memory
	IdealWavefronts uint64 `json:"ideal_wavefronts"` // without conflicts
}

// CoalescedShare returns the share of global requests that are coalesced, 1 when there are none.
func (c *Counters) CoalescedShare() float64 { return share(c.Coalesced, c.Requests) }

// ConflictFactor returns wavefronts of shared memory over the ideal, 1 when there are none.
func (c *Counters) ConflictFactor() float64 { return share(c.Wavefronts, c.IdealWavefronts) }

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 1
	}
	return float64(part) / float64(whole)
}

// site is what one instruction of a kernel did, and where it looked last.
type site struct {
	hit     *allocation
	trail   *trail
	touched []uint64

	requests, coalesced, sectors, ideal uint64
	bytes                               uint64
	shared, wavefronts, idealWavefronts uint64
}

// coalescing counts the sectors that a request to global memory touches.
func (w *worker) coalescing(by *warp, pc int32, m uint32, bytes int) {
	s := &w.sites[pc]
	lanes := uint64(bits.OnesCount32(m))
	sectors, last := uint64(0), ^uint64(0)
	lowest, highest, ordered := ^uint64(0), uint64(0), true
	for rest := m; rest != 0; rest &= rest - 1 {
		at := by.address[bits.TrailingZeros32(rest)&31]
		sector := at >> 5
		lowest, highest = min(lowest, at), max(highest, at+uint64(bytes))
		if sector != last {
			ordered = ordered && (last == ^uint64(0) || sector > last)
			sectors++
			last = sector
		}
	}
	if !ordered {
		sectors = distinctSectors(by, m)
	}
	// Lanes may share bytes, so that what they need is no more than the span.
	ideal := (min(lanes*uint64(bytes), highest-lowest) + 31) / 32
	s.requests++
	s.sectors += sectors
	s.ideal += ideal
	s.bytes += lanes * uint64(bytes)
	if sectors <= ideal {
		s.coalesced++
	}
}

func distinctSectors(by *warp, m uint32) uint64 {
	var seen [32]uint64
	n := 0
	for rest := m; rest != 0; rest &= rest - 1 {
		sector := by.address[bits.TrailingZeros32(rest)&31] >> 5
		if !slices.Contains(seen[:n], sector) {
			seen[n] = sector
			n++
		}
	}
	return uint64(n)
}

// conflicts counts passes over the 32 banks of 4 bytes. Lanes go together in
// groups that ask for 128 bytes: 32 lanes of 4 bytes or fewer, 16 of 8, 8 of 16.
// A group takes as many passes as the busiest bank has different words.
func (w *worker) conflicts(by *warp, pc int32, m uint32, bytes int) {
	s := &w.sites[pc]
	s.shared++
	group := min(32, 128/bytes)
	for from := 0; from < 32; from += group {
		lanes := m >> from & uint32(1<<group-1)
		if lanes == 0 {
			continue
		}
		s.idealWavefronts++
		s.wavefronts += passes(by, lanes<<from, max(bytes/4, 1))
	}
}

func passes(by *warp, m uint32, words int) uint64 {
	first := by.address[bits.TrailingZeros32(m)&31]
	lowest, highest := first, first
	for rest := m & (m - 1); rest != 0; rest &= rest - 1 {
		at := by.address[bits.TrailingZeros32(rest)&31]
		lowest, highest = min(lowest, at), max(highest, at)
	}
	if highest>>2+uint64(words)-lowest>>2 <= 32 { // no more words than banks, side by side
		return 1
	}
	var bank, load [32]uint32 // the first word a bank is asked for, plus 1, and how many different ones
	most := uint32(1)
	for rest := m; rest != 0; rest &= rest - 1 {
		first := uint32(by.address[bits.TrailingZeros32(rest)&31] >> 2)
		for word := first; word < first+uint32(words); word++ {
			switch b := &bank[word&31]; *b {
			case word + 1:
			case 0:
				*b, load[word&31] = word+1, 1
			default:
				if !asked(by, m, rest, word, words) {
					load[word&31]++
					most = max(most, load[word&31])
				}
			}
		}
	}
	return uint64(most)
}

// asked reports whether a lane before those of rest asks for a word too.
func asked(by *warp, m, rest, word uint32, words int) bool {
	for before := m &^ rest; before != 0; before &= before - 1 {
		first := uint32(by.address[bits.TrailingZeros32(before)&31] >> 2)
		if word >= first && word < first+uint32(words) {
			return true
		}
	}
	return false
}

// total sums up what a worker's blocks did.
func (w *worker) total(c *Counters) {
	for pc := range w.kernel.code {
		op, s := &w.kernel.code[pc], &w.sites[pc]
		c.Instructions += w.executed[pc]
		c.Lanes += w.lanes[pc]
		if op.mma {
			c.MMA += w.executed[pc]
			c.MMAFlops += w.executed[pc] * uint64(op.flops)
		} else {
			c.Flops += w.lanes[pc] * uint64(op.flops)
		}
		c.Requests += s.requests
		c.Coalesced += s.coalesced
		c.Sectors += s.sectors
		c.IdealSectors += s.ideal
		c.SharedRequests += s.shared
		c.Wavefronts += s.wavefronts
		c.IdealWavefronts += s.idealWavefronts
		if pc < len(w.kernel.entry.Body) && strings.HasPrefix(w.kernel.entry.Body[pc].Op[0], "st") {
			c.StoreBytes += s.bytes
		} else {
			c.LoadBytes += s.bytes
		}
	}
	c.Blocks += w.blocks
}

// footprint is the sectors of an allocation that a launch touches, one bit for each.
type footprint struct {
	of   *allocation
	mode mode // load, or store for all else
}

// footprint returns the bits of an allocation, which may be set beyond its end.
func (w *worker) footprint(a *allocation, m mode) []uint64 {
	key := footprint{a, min(m, store)}
	bits := w.footprints[key]
	if bits == nil {
		bits = make([]uint64, a.size>>11+1)
		w.footprints[key] = bits
	}
	return bits
}

// touched returns the bytes of all sectors that workers touched.
func touched(workers []*worker) (bytes uint64) {
	for i, w := range workers {
		for key, sectors := range w.footprints {
			for _, other := range workers[i+1:] {
				for k, v := range other.footprints[key] {
					sectors[k] |= v
				}
				delete(other.footprints, key)
			}
			for _, v := range sectors {
				bytes += 32 * uint64(bits.OnesCount64(v))
			}
		}
	}
	return bytes
}

// sorted returns counters by name.
func sorted(table map[string]*Counters) []Counters {
	var all []Counters
	for _, name := range slices.Sorted(maps.Keys(table)) {
		all = append(all, *table[name])
	}
	return all
}
