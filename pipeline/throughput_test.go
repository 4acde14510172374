package pipeline

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dunlin/wire"
)

// line is a pipeline without chance and faults: machines in virtual time, passes and
// transfers that take what they take. Trainers sit at the peers of the first stage.
type line struct {
	stages, peers   int // peers of each stage
	forward, step   time.Duration
	link            Link    // of each peer
	bytes           float64 // between two stages, of one micro-batch
	batch, inFlight int     // micro-batches of an inner step; of a trainer
	least           float64 // of the forecast; 0: nine tenths

	now      time.Duration
	queue    events
	seq      int
	machines []*machine
	counted  int
}

// machine is one peer.
type machine struct {
	stage    int
	server   *Server
	trainer  *Trainer
	up, down time.Duration // busy until
	ticks    [2]int
}

func (l *line) id(i int) wire.PeerID { return wire.PeerID{1, byte(i)} }

// run plays for so long and returns the micro-batches a second after a tenth of it.
func (l *line) run(t testing.TB, long time.Duration) float64 {
	t.Helper()
	for s := range l.stages {
		for range l.peers {
			server, err := NewServer(ServerConfig{Stage: s, Stages: l.stages, Mode: LocalSteps, Queue: 64, Held: 4, Batch: l.batch, Limits: DefaultLimits()})
			if err != nil {
				t.Fatal(err)
			}
			l.machines = append(l.machines, &machine{stage: s, server: server})
		}
	}
	for i := range l.peers {
		trainer, err := NewTrainer(TrainerConfig{
			Slot: wire.Slot(1 + i), Stages: l.stages, Mode: LocalSteps, InFlight: l.inFlight, PerPeer: 2, Bytes: uint64(l.bytes),
			Limits: DefaultLimits(), Rand: rand.New(rand.NewPCG(uint64(i), 1)),
		})
		if err != nil {
			t.Fatal(err)
		}
		l.machines[i].trainer = trainer
	}
	for i := range l.peers {
		for j, m := range l.machines {
			l.give(l.machines[i], false, Announced{Peer: l.id(j), Stage: m.stage, State: Online, Seq: 1})
		}
	}
	before, begun := 0, long/10
	l.after(begun, func() { before = l.counted })
	for l.queue.Len() > 0 && l.now < long {
		e := heap.Pop(&l.queue).(event)
		l.now = e.at
		e.do()
	}
	return float64(l.counted-before) / (long - begun).Seconds()
}

func (l *line) after(d time.Duration, do func()) {
	l.seq++
	heap.Push(&l.queue, event{l.now + d, l.seq, do})
}

func (l *line) time() time.Time { return time.Unix(0, 0).Add(l.now) }

// give steps a machine's server or trainer and does what that says.
func (l *line) give(m *machine, server bool, ev Event) {
	step, deadline, which := m.server.Step, m.server.Deadline, 0
	if !server {
		step, deadline, which = m.trainer.Step, m.trainer.Deadline, 1
	}
	for _, e := range step(l.time(), ev) {
		l.do(m, e)
	}
	m.ticks[which]++
	tick := m.ticks[which]
	if at := deadline(); !at.IsZero() {
		l.after(at.Sub(l.time()), func() {
			if m.ticks[which] == tick {
				l.give(m, server, Tick{})
			}
		})
	}
}

// work has a machine compute for a while; a server does one thing at a time.
func (l *line) work(m *machine, d time.Duration, ev Event) {
	l.after(d, func() { l.give(m, true, ev) })
}

func (l *line) do(m *machine, e Effect) {
	switch e := e.(type) {
	case Draw:
		l.after(0, func() { l.give(m, false, Drawn{e.Micro}) })
	case Compute:
		took := l.forward
		if e.Backward {
			took *= 3
		}
		l.work(m, took, Computed{e.Key, took})
	case Add:
		l.work(m, 0, Added(e))
	case InnerStep:
		l.work(m, l.step, Stepped{m.server.version + 1})
	case Release:
		if e.Outcome == Counted {
			l.counted++
		}
	case Send:
		l.send(m, e)
	default:
	}
}

// send carries a message and what goes with it.
func (l *line) send(from *machine, e Send) {
	to := l.machines[e.To[1]]
	size, server := 100.0, false
	switch msg := e.Message.(type) {
	case *wire.StageCall:
		server = true
		if to.stage > 0 {
			size += l.bytes
		}
		if msg.Backward && to.stage < l.stages-1 {
			size += l.bytes
		}
	case *wire.StageAnswer:
		if backward, _ := to.trainer.Awaits(l.id(l.index(from)), msg.Key); !backward || from.stage > 0 {
			size += l.bytes
		}
	case *wire.StageCancel, *wire.StageAccept:
		server = true
	default:
	}
	arrive := func() { l.give(to, server, From{l.id(l.index(from)), e.Message}) }
	if from == to {
		l.after(0, arrive)
		return
	}
	took := time.Duration(size / l.link.Bandwidth * float64(time.Second))
	from.up = max(from.up, l.now) + took
	to.down = max(to.down+took, from.up+l.link.RTT/2)
	l.after(to.down-l.now, arrive)
}

func (l *line) index(m *machine) int {
	for i := range l.machines {
		if l.machines[i] == m {
			return i
		}
	}
	return -1
}

// TestForecastIsWhatTheMachinesDo lets trainers and servers run in virtual time without faults
// and compares with the forecast, which plays one peer a stage. Few gradients are late, and
// nobody is taken for dead, however long passes and inner steps take.
func TestForecastIsWhatTheMachinesDo(t *testing.T) {
	const ms, kB = time.Millisecond, 1e3
	slow, near, far := Link{RTT: 50 * ms, Bandwidth: 100e6 / 8}, Link{RTT: ms, Bandwidth: 1e9}, Link{RTT: 100 * ms, Bandwidth: 100e6 / 8}
	for name, l := range map[string]*line{
		"two of one peer":               {stages: 2, peers: 1, batch: 16, forward: 66 * ms, step: 470 * ms, link: slow, bytes: 532 * kB},
		"two with a step of few":        {stages: 2, peers: 1, batch: 4, forward: 66 * ms, step: 100 * ms, link: slow, bytes: 532 * kB},
		"two with a step of many":       {stages: 2, peers: 1, batch: 64, forward: 66 * ms, step: 470 * ms, link: slow, bytes: 532 * kB},
		"two with few under way":        {stages: 2, peers: 1, batch: 16, forward: 66 * ms, step: 470 * ms, link: slow, bytes: 532 * kB, inFlight: 3},
		"two with one under way":        {stages: 2, peers: 1, batch: 16, forward: 66 * ms, step: 470 * ms, link: slow, bytes: 532 * kB, inFlight: 1},
		"three of two near peers":       {stages: 3, peers: 2, batch: 4, forward: 20 * ms, step: 20 * ms, link: near, bytes: 16 * kB, least: 0.85}, // a step of few waits for peers that have more to do by chance
		"three of two peers":            {stages: 3, peers: 2, batch: 8, forward: 20 * ms, step: 20 * ms, link: slow, bytes: 16 * kB},
		"three with long inner steps":   {stages: 3, peers: 1, batch: 8, forward: 300 * ms, step: 5000 * ms, link: slow, bytes: 532 * kB},
		"three of three far peers":      {stages: 3, peers: 3, batch: 16, forward: 300 * ms, step: 1000 * ms, link: far, bytes: 1000 * kB},
		"three of three slow peers":     {stages: 3, peers: 3, batch: 16, forward: 1000 * ms, step: 3000 * ms, link: slow, bytes: 500 * kB},
		"four that cost the links much": {stages: 4, peers: 1, batch: 16, forward: 300 * ms, step: 2000 * ms, link: far, bytes: 1000 * kB},
	} {
		if l.inFlight == 0 {
			l.inFlight = 2*l.stages + 2
		}
		look := Outlook{Bytes: l.bytes, Tokens: 1, InFlight: l.inFlight * l.peers, Batch: l.batch}
		for s := range l.stages {
			w := Worker{Forward: l.forward, Step: l.step, Link: l.link}
			if s == 0 && l.peers == 1 { // the trainer is there
				w.Link = Link{}
			}
			look.Stages = append(look.Stages, slices.Repeat([]Worker{w}, l.peers))
		}
		f, err := look.Forecast()
		if err != nil {
			t.Fatal(err)
		}
		steps := time.Duration(40) // of a peer
		got := l.run(t, steps*(time.Duration(4*l.batch)*l.forward+l.step))
		t.Logf("%s: %.3f micro-batches/s, forecast %.3f by %s, inner steps cost %.2f", name, got, f.Micros, f.Bound, f.Steps)
		if got < cmp.Or(l.least, 0.9)*f.Micros || got > 1.1*f.Micros {
			t.Errorf("%s: %.3f micro-batches/s, forecast %.3f by %s", name, got, f.Micros, f.Bound)
		}
		var backward, late uint64
		for _, m := range l.machines {
			for versions, count := range m.server.Snapshot().Behind {
				if backward += count; versions > 0 {
					late += count
				}
				if versions > 1 && count > 0 {
					t.Errorf("%s: %d gradients are late by %d inner steps", name, count, versions)
				}
			}
			if m.trainer != nil && m.trainer.totals.Timeouts > 0 {
				t.Errorf("%s: %d calls of a trainer are given up", name, m.trainer.totals.Timeouts)
			}
		}
		if late > backward/lateShare || l.batch < lateShare && late > 0 {
			t.Errorf("%s: %d of %d gradients are late by an inner step", name, late, backward)
		}
	}
}
