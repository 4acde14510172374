package pipeline

import (
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/wire"
)

// schedule is one random story.
type schedule struct {
	mode     Mode
	stages   int
	peers    int // of each stage
	trainers int
	batch    int
	inFlight int
	perPeer  int
	queue    int
	held     int
	compute  time.Duration // of a forward pass
	latency  time.Duration // at most
	faults   []faultAt
	load     time.Duration // of a server's weights, at most
	calm     time.Duration
	bug      string
}

type faultAt struct {
	at   time.Duration
	kind faultKind
	who  int
	long time.Duration
	n    int
}

type faultKind uint8

const (
	killServer faultKind = iota
	killTrainer
	crashServer // in the middle of what an event makes it do
	crashTrainer
	freezeServer
	freezeTrainer
	slowServer
	cutLink
	moveServer
	duplicates // of small messages
	strangers  // say what they may not
	faultKinds
)

func (k faultKind) String() string {
	return [...]string{"kill server", "kill trainer", "crash server", "crash trainer", "freeze server", "freeze trainer", "slow server", "cut", "move", "duplicates", "strangers"}[k]
}

func newSchedule(seed uint64) schedule {
	rng := rand.New(rand.NewPCG(seed, 0x9199))
	pick := func(from, to int) int { return from + rng.IntN(to-from+1) }
	s := schedule{
		mode: Mode(rng.IntN(2)), stages: pick(1, 4), peers: pick(1, 3), trainers: 1, batch: pick(1, 5), inFlight: pick(1, 5), perPeer: pick(1, 3),
		queue: pick(1, 5), held: pick(1, 3), compute: time.Duration(pick(100, 600)) * time.Millisecond, latency: time.Duration(pick(5, 200)) * time.Millisecond,
		load: time.Duration(pick(1, 5000)) * time.Millisecond, calm: time.Duration(pick(10, 40)) * time.Second,
	}
	if s.mode == LocalSteps {
		s.trainers = pick(1, 3)
	}
	for range pick(0, 7) {
		s.faults = append(s.faults, faultAt{
			at: time.Duration(rng.Int64N(int64(s.calm))), kind: faultKind(rng.IntN(int(faultKinds))), who: rng.IntN(100),
			long: time.Duration(pick(100, 15000)) * time.Millisecond, n: pick(1, 60),
		})
	}
	return s
}

// kill ends a process; others notice after a while.
func (w *world) kill(h *host) {
	if !h.alive {
		return
	}
	w.say("%s dies", h.id.Short())
	h.alive = false
	h.life++
	w.referee.died(h)
	if h.reduce != nil {
		w.failReduction(h.reduce)
	}
	for _, other := range slices.Concat(w.servers, w.trainers) {
		if other != h && other.alive && (other.trainer == nil) != (h.trainer == nil) {
			at := max(w.now+w.between(time.Second), h.links[other.id]+time.Millisecond)
			w.later(other, at-w.now, PeerDown{h.id})
		}
	}
	if h.trainer == nil {
		w.after(w.between(12*time.Second), func() {
			if !h.alive {
				w.startServer(h)
			}
		})
		return
	}
	w.next = max(w.next, h.trainer.next)
	w.after(w.between(4*time.Second), func() { w.newTrainer() })
}

// strike begins a fault.
func (w *world) strike(f faultAt) {
	if w.calm {
		return
	}
	server, trainer := w.servers[f.who%len(w.servers)], w.trainers[len(w.trainers)-1-f.who%w.plan.trainers%len(w.trainers)]
	w.say("fault: %v of %s, %s for %v", f.kind, server.id.Short(), trainer.id.Short(), f.long)
	switch f.kind {
	case killServer:
		w.kill(server)
	case killTrainer:
		w.kill(trainer)
	case crashServer:
		server.crash = f.n
	case crashTrainer:
		trainer.crash = f.n
	case freezeServer:
		server.frozen = max(server.frozen, w.now+f.long)
	case freezeTrainer:
		trainer.frozen = max(trainer.frozen, w.now+f.long)
		if w.plan.mode == Synchronous && f.n%2 == 0 { // taken for dead; it is not
			w.next = max(w.next, trainer.trainer.next+1000)
			w.after(f.long/2, func() { w.newTrainer() })
		}
	case slowServer:
		server.slow = 12
		w.after(f.long, func() { server.slow = 1 })
	case cutLink:
		for _, pair := range [][2]*host{{server, trainer}, {trainer, server}} {
			pair[0].cuts[pair[1].id] = w.now + f.long
			w.later(pair[1], min(f.long, 3*time.Second), PeerDown{pair[0].id})
		}
	case moveServer:
		if server.alive && !server.leaves {
			w.move(server)
		}
	case duplicates:
		trainer.twice = true
		w.after(f.long, func() { trainer.twice = false })
	case strangers:
		for at := time.Duration(0); at < f.long; at += time.Second {
			w.after(at, w.strangersSpeak)
		}
	}
}

// move has a server leave for another stage, unless it is the last one in its own. It is
// listed for a while after it has said that it leaves.
func (w *world) move(h *host) {
	others := 0
	for _, o := range w.servers {
		if o != h && o.alive && o.stage == h.stage && !o.leaves {
			others++
		}
	}
	if others == 0 || w.plan.stages == 1 {
		return
	}
	h.leaves = true
	w.step(h, Leave{})
	life := h.life
	w.after(w.between(5*time.Second), func() {
		if h.life != life {
			return
		}
		h.state = Leaving
		w.announce(h)
		w.referee.died(h) // what it counted since its last step
		h.stage = (h.stage + 1 + w.rng.IntN(w.plan.stages-1)) % w.plan.stages
		w.startServer(h)
	})
}

// heal ends the faults.
func (w *world) heal() {
	w.say("calm")
	w.calm = true
	for _, h := range slices.Concat(w.servers, w.trainers) {
		h.crash, h.twice = 0, false // who is frozen comes back by itself
		clear(h.cuts)
	}
	for _, h := range w.servers {
		h.slow = 1
	}
	w.endZombies()
	w.ensureStages()
}

// endZombies ends trainers that were taken for dead and have a successor.
func (w *world) endZombies() {
	for _, h := range w.trainers[:len(w.trainers)-1] {
		if h.alive && w.plan.mode == Synchronous {
			h.alive = false
			h.life++
		}
	}
}

// ensureStages brings a peer to every stage that moves and deaths have emptied.
func (w *world) ensureStages() {
	for stage := range w.plan.stages {
		if slices.ContainsFunc(w.servers, func(h *host) bool { return h.stage == stage }) {
			continue
		}
		h := &host{id: wire.PeerID{byte(len(w.servers) + 1), 0x5e}, stage: stage, slow: 1}
		w.servers = append(w.servers, h)
		w.startServer(h)
	}
}
