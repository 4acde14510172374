package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/wire"
)

// TrainerConfig is what a trainer needs to know.
type TrainerConfig struct {
	Slot   wire.Slot // never used before; in synchronous mode servers follow the greatest
	Stages int       // at least 1
	Mode   Mode
	Batch  int // micro-batches of a step, in synchronous mode

	InFlight int    // micro-batches drawn and not yet counted in every stage
	PerPeer  int    // calls at one peer at a time
	Bytes    uint64 // of the activations between two stages, of one micro-batch
	Limits   Limits

	Step  uint64 // the next one, in synchronous mode: the version of the weights
	First uint64 // number of the first micro-batch
	Rand  *rand.Rand
}

// Validate checks the configuration.
func (c TrainerConfig) Validate() error {
	switch {
	case c.Slot == 0 || c.Rand == nil:
		return errors.New("trainer: the slot and a random source are needed")
	case c.Stages < 1 || c.Stages > wire.MaxStages:
		return fmt.Errorf("trainer: %d stages; 1 to %d are allowed", c.Stages, wire.MaxStages)
	case c.Mode > LocalSteps:
		return fmt.Errorf("trainer: %v", c.Mode)
	case c.Mode == Synchronous && (c.Batch < 1 || c.Batch > wire.MaxMicroBatches):
		return fmt.Errorf("trainer: %d micro-batches a step; 1 to %d are allowed", c.Batch, wire.MaxMicroBatches)
	case c.InFlight < 1 || c.InFlight > wire.MaxMicroBatches || c.PerPeer < 1:
		return fmt.Errorf("trainer: %d micro-batches in flight, %d calls at a peer; at least one each", c.InFlight, c.PerPeer)
	}
	return c.Limits.validate()
}

// Trainer walks micro-batches through the stages and back. It is not safe for
// concurrent use.
type Trainer struct {
	cfg     TrainerConfig
	stages  []wiring
	micros  []*micro // in order of number
	next    uint64   // the next micro-batch's
	redraw  time.Time
	nodata  int // in a row
	stopped bool
	step    step
	totals  Totals

	now     time.Time
	effects []Effect
}

// Totals counts what became of micro-batches and calls.
type Totals struct {
	Counted, Partly, Abandoned uint64 // micro-batches, of which Abandoned may be counted in some stages
	Somewhere                  uint64 // abandoned ones that some stage counted
	Calls, Retries, Timeouts   uint64
}

// PartlyShare returns the share of finished micro-batches that are not known
// to be counted in every stage but in some; 0 when none is finished.
func (t Totals) PartlyShare() float64 {
	all := t.Counted + t.Partly + t.Abandoned
	if all == 0 {
		return 0
	}
	return float64(t.Partly+t.Somewhere) / float64(all)
}

// NewTrainer returns a trainer that knows no peers.
func NewTrainer(cfg TrainerConfig) (*Trainer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Trainer{cfg: cfg, next: cfg.First, stages: make([]wiring, cfg.Stages), step: step{number: cfg.Step, first: cfg.First}}
	for s := range t.stages {
		t.stages[s] = wiring{rng: cfg.Rand, bytes: cfg.Bytes, limit: cfg.PerPeer, loyal: cfg.Mode == LocalSteps, lim: cfg.Limits}
	}
	return t, nil
}

// Step takes in an event and returns what is to be done, in order.
func (t *Trainer) Step(now time.Time, ev Event) []Effect {
	t.now, t.effects = now, nil
	switch e := ev.(type) {
	case Announced:
		t.announced(e)
	case Alive:
		for stage := range t.stages {
			t.stages[stage].alive(e.Peer)
		}
	case PeerDown:
		t.peerDown(e.Peer)
	case Drawn:
		t.drawn(e.Micro)
	case NotDrawn:
		t.notDrawn(e)
	case Failed:
		if m, p := t.calling(e.Key); p != nil {
			t.callFailed(m, p, e.Reason, true)
		}
	case From:
		t.message(e.Peer, e.Message)
	case Decided:
		t.decided(e)
	case Stop:
		t.stop()
	case Tick, Computed, ComputeFailed, Added, Reduced, ReduceFailed, Stepped, Moved, Leave:
	}
	t.expire()
	t.accepts()
	t.calls()
	t.closeStep()
	t.draws()
	t.outages()
	effects := t.effects
	t.effects = nil
	return effects
}

func (t *Trainer) do(e Effect) { t.effects = append(t.effects, e) }

func (t *Trainer) send(to wire.PeerID, m wire.StageMessage) { t.do(Send{To: to, Message: m}) }

func (t *Trainer) note(format string, args ...any) { t.do(Note{Text: fmt.Sprintf(format, args...)}) }

// announced takes in a peer's word. A peer has one stage, or several that it
// announces apart; who leaves one finishes what it has there.
func (t *Trainer) announced(e Announced) {
	if e.Stage < 0 || e.Stage >= len(t.stages) || e.State > Leaving {
		return
	}
	t.stages[e.Stage].announce(e, t.now)
}

// peerDown gives up what is awaited of a peer. Its records stay, banned: it
// may be back.
func (t *Trainer) peerDown(id wire.PeerID) {
	for stage := range t.stages {
		w := &t.stages[stage]
		s := w.find(id)
		if s == nil {
			continue
		}
		why := w.fault(s, t.now, false)
		t.note("stage %d: %s is gone, %s", stage+1, id.Short(), why)
		for _, m := range slices.Clone(t.micros) {
			p := &m.parts[stage]
			if p.holder != id {
				continue
			}
			if p.state == partCalling {
				t.callFailed(m, p, "disconnected", true)
				continue
			}
			t.lost(m, p, "disconnected")
		}
	}
	t.memberGone(id)
}

// message handles what a server says.
func (t *Trainer) message(from wire.PeerID, msg wire.StageMessage) {
	switch msg := msg.(type) {
	case *wire.StageAnswer:
		if m, p := t.calling(msg.Key); p != nil && p.holder == from {
			t.answered(m, p, msg)
		}
	case *wire.StageRefusal:
		if m, p := t.calling(msg.Key); p != nil && p.holder == from {
			t.refused(m, p, msg)
		}
	case *wire.StageCounted:
		if m, p := t.part(msg.Key); p != nil && p.holder == from && (p.state == partAccepted || (p.state == partAnswered && msg.Fate != wire.StageInSum)) {
			t.counted(m, p, msg.Fate)
		}
	case *wire.StageReduced:
		t.reduced(from, msg)
	case *wire.StageMissing:
		t.missing(from, msg)
	case *wire.StageApplied:
		t.applied(from, msg)
	case *wire.StageSum: // the driver's
	case *wire.StageCall, *wire.StageCancel, *wire.StageAccept, *wire.StageClose, *wire.StageApply, *wire.StageVoid:
	}
}

// part returns the micro-batch and the part that a key's newest attempt is.
func (t *Trainer) part(k wire.StageKey) (*micro, *part) {
	if k.Trainer != t.cfg.Slot || k.Step != t.stepNumber() || k.Try != t.step.try || k.Stage >= uint64(len(t.stages)) {
		return nil, nil
	}
	i, found := slices.BinarySearchFunc(t.micros, k.Micro, func(m *micro, n uint64) int { return cmp.Compare(m.number, n) })
	if !found || t.micros[i].parts[k.Stage].attempt != k.Attempt {
		return nil, nil
	}
	return t.micros[i], &t.micros[i].parts[k.Stage]
}

// calling returns the part of a key whose call is under way; others came too late.
func (t *Trainer) calling(k wire.StageKey) (*micro, *part) {
	m, p := t.part(k)
	if p == nil || p.state != partCalling {
		return nil, nil
	}
	return m, p
}

// Awaits reports whether a call under this key waits for this peer's answer, and of which
// pass. What else comes as an answer must not be kept: its attempt is over, or it is a
// stranger's.
func (t *Trainer) Awaits(from wire.PeerID, k wire.StageKey) (backward, awaited bool) {
	if _, p := t.calling(k); p != nil && p.holder == from {
		return p.backward, true
	}
	return false, false
}

func (t *Trainer) stepNumber() uint64 {
	if t.cfg.Mode == Synchronous {
		return t.step.number
	}
	return 0
}

// draws asks for micro-batches while there is room, and in synchronous mode
// while the step is not full.
func (t *Trainer) draws() {
	if t.now.Before(t.redraw) || (t.stopped && (t.cfg.Mode == LocalSteps || t.next == t.step.first)) {
		return
	}
	under := 0
	for _, m := range t.micros {
		if !m.done() {
			under++
		}
	}
	for under < t.cfg.InFlight {
		if t.cfg.Mode == Synchronous && (t.step.phase != stepRunning || t.next-t.step.first >= uint64(t.cfg.Batch)) {
			return
		}
		m := &micro{number: t.next, parts: make([]part, len(t.stages)), drawing: true}
		t.micros = append(t.micros, m)
		t.next++
		under++
		t.do(Draw{Micro: m.number, Step: t.stepNumber()})
	}
}

func (t *Trainer) drawn(number uint64) {
	if m := t.find(number); m != nil && m.drawing {
		m.drawing, t.nodata = false, 0
		m.parts[0].since = t.now
	}
}

// notDrawn asks again later for the same number; when this trainer has been
// told to stop, the micro-batch is given up.
func (t *Trainer) notDrawn(e NotDrawn) {
	m := t.find(e.Micro)
	if m == nil || !m.drawing {
		return
	}
	if t.stopped {
		if t.cfg.Mode == Synchronous {
			t.drop("the trainer stops and the step cannot be filled", t.step.number)
		} else {
			t.end(m, Abandoned)
		}
		return
	}
	t.nodata++
	m.redraw = t.now.Add(backoff(t.nodata, retryFirst, retryMost))
	t.redraw = m.redraw
	if t.nodata == 1 {
		t.note("no data for micro-batch %d: %s", e.Micro, e.Reason)
	}
}

// stop ends drawing, of what waits for windows too.
func (t *Trainer) stop() {
	t.stopped = true
	for _, m := range slices.Clone(t.micros) {
		if m.drawing && !m.redraw.IsZero() {
			t.notDrawn(NotDrawn{Micro: m.number})
		}
	}
}

func (t *Trainer) find(number uint64) *micro {
	i, found := slices.BinarySearchFunc(t.micros, number, func(m *micro, n uint64) int { return cmp.Compare(m.number, n) })
	if !found {
		return nil
	}
	return t.micros[i]
}

// outages says which stages have nobody, after a while and then at doubling times.
func (t *Trainer) outages() {
	for s := range t.stages {
		w := &t.stages[s]
		if w.since.IsZero() {
			continue
		}
		if next := t.nextOutage(w); !t.now.Before(next) {
			w.said = max(t.now.Sub(w.since), t.cfg.Limits.Outage)
			t.do(Outage{Stage: s, Since: w.since, For: w.said})
		}
	}
}

func (t *Trainer) nextOutage(w *wiring) time.Time {
	return w.since.Add(max(t.cfg.Limits.Outage, min(2*w.said, w.said+5*time.Minute)))
}

// Deadline returns when Tick is due; zero: never.
func (t *Trainer) Deadline() time.Time {
	var next time.Time
	for _, m := range t.micros {
		next = earlier(next, m.deadline(t.now, t.cfg.Limits))
	}
	for s := range t.stages {
		w := &t.stages[s]
		next = earlier(next, w.retry(t.now))
		if !w.since.IsZero() {
			next = earlier(next, t.nextOutage(w))
		}
	}
	if t.redraw.After(t.now) {
		next = earlier(next, t.redraw)
	}
	if t.step.retry.After(t.now) {
		next = earlier(next, t.step.retry)
	}
	return earlier(next, t.step.deadline)
}
