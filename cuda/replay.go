package cuda

import (
	"slices"

	"dunlin/cuda/driver"
)

// work is one piece of work that waits to be queued on the card.
type work struct {
	kernel      kernel // or one of the two below
	grid, block [3]uint32
	args        [maxArgs]uint64
	count       int // of args
}

// What is no kernel.
const (
	workSet  kernel = -1 - iota // args: address, value, count of values
	workCopy                    // args: to, from, bytes
)

const (
	maxPending  = 256 // pieces that wait at most
	leastReplay = 16  // pieces of a list that is worth a graph
	maxGraphs   = 64
	maxSeen     = 1024 // more lists than a step has
	idleLists   = 4096 // that came since a graph was of use, before it makes room for another
)

// replay turns lists of work that come again, piece for piece and address for
// address, into graphs of the driver, which cost one call. A list ends where the
// host waits or copies; that of a training step's forward and backward pass is the
// same in each step. Since a graph stands for equal work only, it cannot be stale.
type replay struct {
	off     bool // the driver has no graphs, or failed with one
	pending []work
	seen    [maxSeen]uint64 // hashes of lists that came once
	next    int             // place of the next one
	graphs  []recorded
	lists   uint64 // that were worth a graph
	count   uint64 // of them those that a graph did
}

// recorded is a list that came twice, as a graph.
type recorded struct {
	hash  uint64
	list  []work
	graph driver.Graph
	used  uint64 // number of the list that it did last
}

// queue keeps work until flush. Nothing happens after an error.
func (d *Device) queue(w work) {
	if d.err != nil {
		return
	}
	r := &d.replay
	if r.pending == nil {
		r.pending = make([]work, 0, maxPending)
	}
	r.pending = append(r.pending, w)
	if len(r.pending) == maxPending {
		d.flush()
	}
}

// flush hands what waits to the card, as a graph when it came before.
func (d *Device) flush() {
	r := &d.replay
	list := r.pending
	r.pending = r.pending[:0]
	if d.err != nil || len(list) == 0 {
		return
	}
	if r.off || len(list) < leastReplay {
		d.issue(list)
		return
	}
	r.lists++
	hash := hashOf(list)
	for i := range r.graphs {
		if g := &r.graphs[i]; g.hash == hash && slices.Equal(g.list, list) {
			g.used = r.lists
			d.note("launch a graph", d.context.LaunchGraph(g.graph, d.work))
			r.count++
			return
		}
	}
	if !slices.Contains(r.seen[:], hash) {
		r.seen[r.next] = hash
		r.next = (r.next + 1) % maxSeen
		d.issue(list)
		return
	}
	if len(r.graphs) == maxGraphs && !d.forget() {
		d.issue(list)
		return
	}
	if graph, ok := d.record(list); ok {
		d.note("launch a graph", d.context.LaunchGraph(graph, d.work))
		r.graphs = append(r.graphs, recorded{hash, slices.Clone(list), graph, r.lists})
		r.count++
		return
	}
	r.off = true
	d.issue(list)
}

// forget frees the graph that was not of use for the longest time, if that is long. A step with more lists than there is
// room for keeps those graphs that it has: recording all of them in turn would cost more than doing without some.
func (d *Device) forget() bool {
	r := &d.replay
	oldest := 0
	for i := range r.graphs {
		if r.graphs[i].used < r.graphs[oldest].used {
			oldest = i
		}
	}
	if r.lists-r.graphs[oldest].used < idleLists {
		return false
	}
	d.note("free a graph", d.context.FreeGraph(r.graphs[oldest].graph))
	r.graphs = slices.Delete(r.graphs, oldest, oldest+1)
	return d.err == nil
}

// record makes a graph of a list, or says that there are none here. Whatever is
// wrong with the work itself shows when it is issued without one.
func (d *Device) record(list []work) (driver.Graph, bool) {
	if d.context.BeginCapture(d.work) != nil {
		return 0, false
	}
	d.issue(list)
	failed := d.err != nil
	graph, err := d.context.EndCapture(d.work)
	if failed || err != nil {
		if err == nil {
			_ = d.context.FreeGraph(graph) // it lacks what failed
		}
		d.err = nil
		return 0, false
	}
	return graph, true
}

// issue queues a list on the card.
func (d *Device) issue(list []work) {
	for i := range list {
		w := &list[i]
		var err error
		what := "clear memory"
		switch w.kernel {
		case workSet:
			err = d.context.Set32(driver.Pointer(w.args[0]), uint32(w.args[1]), int(w.args[2]), d.work)
		case workCopy:
			what = "copy"
			err = d.context.CopyOnDevice(driver.Pointer(w.args[0]), driver.Pointer(w.args[1]), int(w.args[2]), d.work)
		default:
			what = "launch"
			err = d.context.Launch(d.functions[w.kernel], w.grid, w.block, 0, d.work, w.args[:w.count])
		}
		if err != nil {
			if what == "launch" {
				what += " " + entries()[w.kernel].name
			}
			d.note(what, err)
			return
		}
	}
}

// hashOf mixes all words of a list (FNV-1a, by words).
func hashOf(list []work) uint64 {
	const prime = 1099511628211
	hash := uint64(14695981039346656037)
	for i := range list {
		w := &list[i]
		hash = (hash ^ uint64(w.kernel)) * prime
		for j := range w.grid {
			hash = (hash ^ uint64(w.grid[j])<<32 ^ uint64(w.block[j])) * prime
		}
		for _, a := range w.args[:w.count] {
			hash = (hash ^ a) * prime
		}
	}
	return hash
}
