package pipeline

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"dunlin/wire"
)

// world runs trainers and servers in virtual time over a made-up network, with
// faults, and checks the promises of the package on books of its own
// (referee_test.go). Everything follows from the seed.
type world struct {
	plan     schedule
	rng      *rand.Rand
	now      time.Duration
	queue    events
	seq      int
	servers  []*host
	trainers []*host
	slots    wire.Slot
	next     uint64 // micro-batch that a synchronous successor begins with
	referee  referee
	calm     bool
	fault    error
	record   *strings.Builder
}

// host is one process.
type host struct {
	id      wire.PeerID
	alive   bool
	life    int // counts its starts
	seq     uint64
	slow    float64
	frozen  time.Duration // until
	crash   int           // dies after that many effects; 0: does not
	timer   int
	twice   bool
	links   map[wire.PeerID]time.Duration // when the newest message arrives there
	cuts    map[wire.PeerID]time.Duration // until
	trainer *Trainer
	kept    map[uint64]*keptMicro

	stage   int
	state   PeerState
	serving bool // its weights are there; others take it for a server before that
	leaves  bool
	server  *Server
	calls   map[wire.StageKey]*keptCall
	sum     []MicroID
	reduce  *reduction
	reduced []MicroID
}

// keptMicro is what a trainer's driver keeps of a micro-batch.
type keptMicro struct {
	inputs, grads []uint64 // by stage; 0: not there. grads are of the stage's output.
}

// keptCall is what a server's driver keeps of a call.
type keptCall struct {
	backward  bool
	input     uint64
	grad      uint64
	out       uint64
	heldGrad  bool
	addedOnce bool
}

// reduction is the adding up of one edition in one stage.
type reduction struct {
	name    string
	members []wire.PeerID
	sums    map[wire.PeerID][]MicroID
	over    bool
}

// envelope is a message with its activations.
type envelope struct {
	message wire.StageMessage
	payload [2]uint64
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || (e[i].at == e[j].at && e[i].seq < e[j].seq)
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// worldLimits are short, so that stories are.
func worldLimits() Limits {
	return Limits{
		Call: 4 * time.Second, CallMin: time.Second, Queue: time.Second / 2, Accept: time.Second, Close: 8 * time.Second, Held: 12 * time.Second, GiveUp: time.Minute,
		Outage: 2 * time.Second, Ban: 2 * time.Second, BanMost: 16 * time.Second, SayAgain: 20 * time.Second,
	}
}

func newWorld(seed uint64, plan schedule) *world {
	w := &world{plan: plan, rng: rand.New(rand.NewPCG(seed, 0x3031d)), referee: newReferee(plan)}
	for stage := range plan.stages {
		for range plan.peers {
			h := &host{id: wire.PeerID{byte(len(w.servers) + 1), 0x5e}, stage: stage, slow: 0.5 + w.rng.Float64()}
			w.servers = append(w.servers, h)
			w.startServer(h)
		}
	}
	for range plan.trainers {
		w.newTrainer()
	}
	for _, f := range plan.faults {
		w.after(f.at, func() { w.strike(f) })
	}
	w.after(plan.calm, w.heal)
	w.heartbeats()
	return w
}

func (w *world) time() time.Time { return time.Unix(0, 0).Add(w.now) }

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + d, w.seq, do})
}

// between returns a random duration up to most.
func (w *world) between(most time.Duration) time.Duration {
	return time.Duration(1 + w.rng.Int64N(int64(most)))
}

func (w *world) fail(format string, args ...any) {
	if w.fault == nil {
		w.fault = fmt.Errorf("at %v: "+format, append([]any{w.now}, args...)...)
	}
}

func (w *world) say(format string, args ...any) {
	if w.record != nil {
		fmt.Fprintf(w.record, "%9.3f %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// run plays the story to its end: faults until the calm, then a while of peace
// in which work must get on, then everything must come to rest.
func (w *world) run() error {
	const patience = 8 * time.Minute
	one := time.Duration(w.plan.batch*w.plan.stages) * (6*w.plan.compute + 6*w.plan.latency) // a step, one call at a time
	peace := 30*time.Second + one
	var before int
	w.after(w.plan.calm+20*time.Second, func() { before = w.referee.progress })
	w.after(w.plan.calm+20*time.Second+peace, func() {
		if w.referee.progress == before {
			w.fail("no progress in %v of peace\n%s", peace, w.dump())
		}
		for _, h := range w.trainers {
			if h.alive {
				w.step(h, Stop{})
			}
		}
	})
	for w.queue.Len() > 0 && w.fault == nil {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
		if w.now > w.plan.calm+20*time.Second+peace && w.resting() {
			w.referee.end(w)
			return w.fault
		}
		if w.now > w.plan.calm+peace+patience {
			w.fail("something waits for ever\n%s", w.dump())
		}
	}
	return w.fault
}

// resting reports whether nothing is under way any more.
func (w *world) resting() bool {
	for _, h := range w.trainers {
		if h.alive && (len(h.kept) > 0 || len(h.trainer.micros) > 0) {
			return false
		}
	}
	for _, h := range w.servers {
		if h.alive && h.server != nil && (h.server.running != nil || len(h.server.queue)+len(h.server.held) > 0) {
			return false
		}
	}
	return true
}

func (w *world) dump() string {
	var b strings.Builder
	for _, h := range w.trainers {
		if !h.alive {
			continue
		}
		fmt.Fprintf(&b, "trainer %s %+v\n", h.id.Short(), h.trainer.Snapshot())
		for _, m := range h.trainer.micros {
			fmt.Fprintf(&b, "  m%d drawing %t", m.number, m.drawing)
			for _, p := range m.parts {
				fmt.Fprintf(&b, " [%d at %s #%d forwarded %t graded %t retry %v]", p.state, p.holder.Short(), p.attempt, p.forwarded, p.graded, p.retry.Sub(time.Unix(0, 0)))
			}
			fmt.Fprintln(&b)
		}
	}
	for _, h := range w.servers {
		if h.alive && h.server != nil {
			fmt.Fprintf(&b, "server %s %v %+v\n", h.id.Short(), h.state, h.server.Snapshot())
		}
	}
	return b.String()
}

// startServer starts or restarts a server, which is listed at once and serves when its
// weights are there. In synchronous mode they are those of the newest step that stands.
func (w *world) startServer(h *host) {
	h.alive, h.state, h.serving, h.leaves, h.crash, h.frozen = true, Online, false, false, 0, 0
	h.life++
	h.links, h.cuts = map[wire.PeerID]time.Duration{}, map[wire.PeerID]time.Duration{}
	h.calls, h.sum, h.reduce, h.reduced = map[wire.StageKey]*keptCall{}, nil, nil, nil
	var err error
	h.server, err = NewServer(ServerConfig{
		Stage: h.stage, Stages: w.plan.stages, Mode: w.plan.mode, Queue: w.plan.queue, Held: w.plan.held, Batch: w.plan.batch,
		Limits: worldLimits(),
	})
	if err != nil {
		w.fail("%v", err)
	}
	w.say("server %s starts in stage %d", h.id.Short(), h.stage)
	w.announce(h)
	life := h.life
	w.after(w.between(max(1, w.plan.load)), func() {
		if h.life == life {
			h.serving = true
			w.step(h, Moved{w.referee.head()})
		}
	})
}

func (w *world) newTrainer() *host {
	w.slots++
	h := &host{
		id: wire.PeerID{byte(w.slots), 0x71}, alive: true, life: 1, slow: 1, kept: map[uint64]*keptMicro{},
		links: map[wire.PeerID]time.Duration{}, cuts: map[wire.PeerID]time.Duration{},
	}
	step := w.referee.head()
	if step > 0 && w.rng.IntN(2) == 0 {
		step-- // its peer missed one
	}
	var err error
	h.trainer, err = NewTrainer(TrainerConfig{
		Slot: w.slots, Stages: w.plan.stages, Mode: w.plan.mode, Batch: w.plan.batch, InFlight: w.plan.inFlight, PerPeer: w.plan.perPeer,
		Bytes: 1 << 20, Limits: worldLimits(), Step: step, First: w.next, Rand: rand.New(rand.NewPCG(uint64(w.slots), 5)),
	})
	if err != nil {
		w.fail("%v", err)
	}
	w.trainers = append(w.trainers, h)
	if w.calm {
		w.endZombies()
	}
	w.say("trainer %s starts with slot %d at step %d", h.id.Short(), w.slots, step)
	for _, s := range w.servers {
		if s.alive && s.server != nil {
			w.announce(s)
		}
	}
	w.step(h, Tick{})
	return h
}

// announce tells every trainer about a server.
func (w *world) announce(h *host) {
	h.seq++
	ev := Announced{Peer: h.id, Stage: h.stage, State: h.state, Seq: h.seq, Link: Link{RTT: 2 * w.plan.latency}}
	for _, t := range w.trainers {
		if t.alive {
			w.deliver(h, t, func() { w.step(t, ev) })
		}
	}
}

func (w *world) heartbeats() {
	w.after(4*time.Second, func() {
		for _, h := range slices.Concat(w.servers, w.trainers) {
			w.referee.overdue(w, h)
		}
		for _, h := range w.servers {
			if h.alive && h.server != nil && h.frozen < w.now {
				w.announce(h)
			}
		}
		w.heartbeats()
	})
}

// deliver carries something in order of sending; what a cut stops is lost.
func (w *world) deliver(from, to *host, do func()) {
	if from.cuts[to.id] > w.now {
		return
	}
	at := max(w.now+w.between(w.plan.latency), from.links[to.id])
	from.links[to.id] = at
	lives := [2]int{from.life, to.life}
	w.after(at-w.now, func() {
		if to.life == lives[1] && to.alive && from.cuts[to.id] <= w.now {
			do()
		}
	})
}

func (w *world) find(id wire.PeerID) *host {
	for _, h := range slices.Concat(w.servers, w.trainers) {
		if h.id == id {
			return h
		}
	}
	return nil
}

// step gives an event to a host's machine and carries out what it says.
func (w *world) step(h *host, ev Event) {
	if !h.alive || w.fault != nil {
		return
	}
	if h.frozen > w.now {
		life := h.life
		w.after(h.frozen-w.now, func() {
			if h.life == life {
				w.step(h, ev)
			}
		})
		return
	}
	var effects []Effect
	if _, tick := ev.(Tick); !tick {
		w.say("%s < %s", h.id.Short(), ev)
	}
	if h.trainer != nil {
		effects = h.trainer.Step(w.time(), ev)
	} else {
		effects = h.server.Step(w.time(), ev)
	}
	life := h.life
	for _, e := range effects {
		w.say("%s > %s", h.id.Short(), e)
		if h.trainer != nil {
			w.doTrainer(h, e)
		} else {
			w.doServer(h, e)
		}
		if h.crash > 0 {
			if h.crash--; h.crash == 0 {
				w.kill(h)
			}
		}
		if h.life != life || !h.alive {
			return
		}
	}
	w.referee.look(w, h)
	w.setTimer(h)
}

func (w *world) setTimer(h *host) {
	var deadline time.Time
	if h.trainer != nil {
		deadline = h.trainer.Deadline()
	} else {
		deadline = h.server.Deadline()
	}
	h.timer++
	if deadline.IsZero() || w.plan.bug == "driver forgets deadlines" {
		return
	}
	if !deadline.After(w.time()) {
		w.fail("%s asks for a tick that is due already", h.id.Short())
		return
	}
	timer, life := h.timer, h.life
	w.after(deadline.Sub(w.time()), func() {
		if h.timer == timer && h.life == life {
			w.step(h, Tick{})
		}
	})
}

// later gives an event after a while, unless the host has died by then.
func (w *world) later(h *host, d time.Duration, ev Event) {
	life := h.life
	w.after(d, func() {
		if h.life == life {
			w.step(h, ev)
		}
	})
}
