package sim

import (
	"fmt"
	"time"

	"dunlin/coordinator"
	"dunlin/wire"
)

// Fault is something that goes wrong at a time.
type Fault struct {
	Kind FaultKind
	At   time.Duration
	For  time.Duration // until it is over: a restart, a thaw, a healed cut
	Peer int           // whom it hits; 0 is the coordinator
	Rest []int         // the other side of a cut; nil: everybody else
	N    int           // Crash: crash points until it dies; Flip: outer steps
	Rate float64       // of what a mess does, or what a slow link has left
}

// FaultKind is what goes wrong.
type FaultKind string

// What can go wrong.
const (
	Kill      FaultKind = "kill"      // memory is lost, the disk is kept; restarts
	Power     FaultKind = "power"     // like a kill, and what was not synced is lost
	Crash     FaultKind = "crash"     // like a kill, in the middle of carrying out effects
	Freeze    FaultKind = "freeze"    // stands still, and then goes on
	Cut       FaultKind = "cut"       // nothing passes from Peer to Rest
	Split     FaultKind = "split"     // nothing passes between Peer with Rest and the others
	Slow      FaultKind = "slow"      // Peer's upload falls to Rate
	Duplicate FaultKind = "duplicate" // control messages come twice
	Reorder   FaultKind = "reorder"   // control messages overtake each other
	Corrupt   FaultKind = "corrupt"   // bulk answers have a bit flipped
	Unknown   FaultKind = "unknown"   // appends whose outcome is unknown
	Join      FaultKind = "join"      // a new worker comes
	Leave     FaultKind = "leave"     // a worker's volunteer stops it
	Backup    FaultKind = "backup"    // the disk of At is restored at At+For
	Flip      FaultKind = "flip"      // N outer steps come out wrong
	Full      FaultKind = "full"      // the disk takes no more
	Pause     FaultKind = "pause"     // the organiser pauses the run
	Solo      FaultKind = "solo"      // the organiser switches rounds off
	Tune      FaultKind = "tune"      // the organiser changes H and the outer learning rate, and then the rate again
)

func (f Fault) String() string {
	return fmt.Sprintf("%s of %d at %v for %v (rest %v, n %d, rate %g)", f.Kind, f.Peer, f.At, f.For, f.Rest, f.N, f.Rate)
}

// strike lets a fault happen and ends it in time.
func (w *World) strike(f Fault) {
	if f.Kind == Join {
		w.addHost(true).start()
		return
	}
	if f.Peer >= len(w.hosts) {
		return
	}
	h := w.hosts[f.Peer]
	w.recorder.line(h, "! %s", f)
	over := func(do func()) { w.after(f.For, nil, do) }
	switch f.Kind {
	case Kill:
		h.kill("killed")
		over(h.start)
	case Power:
		h.powerOff()
		over(h.start)
	case Crash:
		if p := h.proc; p != nil {
			p.crashIn = f.N
		}
		over(func() { // it may not have come to it
			h.kill("killed late")
			h.start()
		})
	case Freeze:
		h.freeze()
		over(h.thaw)
	case Cut, Split:
		pairs := w.pairs(f)
		for _, p := range pairs {
			w.net.cut(p[0], p[1])
		}
		over(func() {
			for _, p := range pairs {
				w.net.heal(p[0], p[1])
			}
		})
	case Slow:
		w.net.slow[f.Peer] = f.Rate
		over(func() { w.net.slow[f.Peer] = 1 })
	case Duplicate, Reorder, Corrupt, Unknown:
		w.disturb(f.Kind, f.Rate)
		over(func() { w.disturb(f.Kind, 0) })
	case Leave:
		if p := h.proc; p != nil && p.slot != 0 {
			p.hear(coordinator.Drained{Reason: "the volunteer stopped it"})
		}
	case Backup:
		saved := h.disk.clone()
		over(func() { w.restore(h, saved) })
	case Flip:
		h.flips = f.N
		over(func() { h.flips = 0 })
	case Full:
		h.full = true
		over(func() { h.full = false })
	case Pause:
		w.organise(coordinator.Change{Phase: wire.PhasePaused, Reason: "a break"})
		over(func() { w.organise(coordinator.Change{Phase: wire.PhaseTraining, Reason: "the break is over"}) })
	case Solo:
		on, off := true, false
		w.organise(coordinator.Change{Solo: &on, Reason: "to measure"})
		over(func() { w.organise(coordinator.Change{Solo: &off, Reason: "measured"}) })
	case Tune:
		w.organise(coordinator.Change{H: uint64(3 + f.N), OuterLR: wire.FloatOf(0.5), Reason: "tuned"})
		over(func() { w.organise(coordinator.Change{OuterLR: wire.FloatOf(0.25), Reason: "tuned again"}) })
	case Join:
	}
}

func (w *World) disturb(kind FaultKind, rate float64) {
	switch kind {
	case Duplicate:
		w.mess.duplicate = rate
	case Reorder:
		w.mess.reorder = rate
	case Corrupt:
		w.mess.corrupt = rate
	case Unknown:
		w.mess.unknown = rate
	default:
	}
}

// organise makes the organiser want something until the log says so; a
// coordinator may be away, or die with the word.
func (w *World) organise(c coordinator.Change) {
	if was := w.wish; was != nil { // what was wanted before and is not contradicted may not be in the log yet
		if c.Phase == 0 {
			c.Phase = was.Phase
		}
		if c.Solo == nil {
			c.Solo = was.Solo
		}
		if c.H == 0 {
			c.H = was.H
		}
	}
	w.wish = &c
	w.insist(w.wish)
}

func (w *World) insist(wish *coordinator.Change) {
	if w.wish != wish {
		return // another word has taken its place
	}
	if h := w.hosts[0]; h.proc != nil && !h.frozen && !wish.Holds(w.spec, &w.referee.books.settings) {
		h.proc.hear(coordinator.Organised{Change: *wish})
	}
	w.after(time.Second, nil, func() { w.insist(wish) })
}

// pairs lists what a cut or a split keeps apart, from and to.
func (w *World) pairs(f Fault) [][2]int {
	var out [][2]int
	inside := map[int]bool{f.Peer: true}
	for _, r := range f.Rest {
		inside[r] = true
	}
	for i := range w.hosts {
		switch {
		case f.Kind == Split && !inside[i]:
			for j := range w.hosts {
				if inside[j] {
					out = append(out, [2]int{i, j}, [2]int{j, i})
				}
			}
		case f.Kind == Cut && i != f.Peer && (f.Rest == nil || inside[i]):
			out = append(out, [2]int{f.Peer, i})
		}
	}
	return out
}

// restore puts an old disk into the machine, and starts it.
func (w *World) restore(h *host, saved *disk) {
	h.kill("its disk is lost")
	if len(saved.entries) > 0 { // an empty ledger has nothing that it could ask for
		h.disk = saved
	}
	h.start()
}
