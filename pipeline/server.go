package pipeline

import (
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// ServerConfig is what a peer needs to know to serve a stage.
type ServerConfig struct {
	Stage, Stages int
	Mode          Mode
	Queue         int    // calls that wait
	Held          int    // answered backward calls that wait for their trainer's word
	Batch         int    // micro-batches of an inner step, with local steps
	Version       uint64 // of the weights; in synchronous mode the step that they are ready for
	Limits        Limits
}

// Validate checks the configuration.
func (c ServerConfig) Validate() error {
	switch {
	case c.Stages < 1 || c.Stages > wire.MaxStages || c.Stage < 0 || c.Stage >= c.Stages:
		return fmt.Errorf("server: stage %d of %d; 1 to %d stages are allowed, counted from 0", c.Stage, c.Stages, wire.MaxStages)
	case c.Mode > LocalSteps:
		return fmt.Errorf("server: %v", c.Mode)
	case c.Queue < 1 || c.Held < 1:
		return fmt.Errorf("server: room for %d calls and %d held; at least one each", c.Queue, c.Held)
	case c.Mode == LocalSteps && (c.Batch < 1 || c.Batch > wire.MaxMicroBatches):
		return fmt.Errorf("server: %d micro-batches an inner step; 1 to %d are allowed", c.Batch, wire.MaxMicroBatches)
	}
	return c.Limits.validate()
}

// Server serves one stage on one peer, one pass at a time. It is not safe for
// concurrent use.
type Server struct {
	cfg     ServerConfig
	version uint64
	queue   []*job // in order of arrival
	running *job   // being computed or added; nil when idle
	held    []*job // answered backward calls, in order of answer
	past    pastKeys
	gone    []wire.StageKey // given up, oldest first

	sum     []MicroID // what the sum is of
	adding  bool      // running is being added
	steps   steps
	abreast abreast
	wait    ewma // s that calls spend in the queue
	took    ewma // s of computing in units of a forward pass
	served  uint64
	behind  map[uint64]uint64 // backward calls by versions since their forward pass, up to 16

	now     time.Time
	effects []Effect
}

// job is one call.
type job struct {
	call     *wire.StageCall
	from     wire.PeerID
	arrived  time.Time
	wait     time.Duration
	accepted bool
	dropped  bool // nobody wants it any more, but it is running
	until    time.Time
}

// NewServer returns a server with nothing to do.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, version: cfg.Version, past: pastKeys{}, behind: map[uint64]uint64{}}, nil
}

// Step takes in an event and returns what is to be done, in order.
func (s *Server) Step(now time.Time, ev Event) []Effect {
	s.now, s.effects = now, nil
	switch e := ev.(type) {
	case From:
		s.message(e.Peer, e.Message)
	case PeerDown:
		s.peerDown(e.Peer)
	case Computed:
		s.computed(e)
	case ComputeFailed:
		if j := s.finishRunning(e.Key); j != nil && !j.dropped {
			s.returned(isMicro(e.Key))
			s.refuse(j.from, e.Key, wire.StageBroken, e.Reason)
		}
	case Added:
		s.added(e.Key)
	case Reduced:
		s.reduced(e)
	case ReduceFailed:
		s.reduceFailed(e)
	case Stepped:
		s.stepped(e.Version)
	case Moved:
		s.moved(e.Version)
	case Leave:
		s.leave()
	case Tick, Announced, Alive, Drawn, NotDrawn, Failed, Decided, Stop:
	}
	s.expire()
	s.work()
	s.sendAway()
	effects := s.effects
	s.effects = nil
	return effects
}

func (s *Server) do(e Effect) { s.effects = append(s.effects, e) }

func (s *Server) send(to wire.PeerID, m wire.StageMessage) { s.do(Send{To: to, Message: m}) }

func (s *Server) note(format string, args ...any) { s.do(Note{Text: fmt.Sprintf(format, args...)}) }

// refuse ends a call that will not be answered.
func (s *Server) refuse(to wire.PeerID, k wire.StageKey, code wire.StageRefusalCode, reason string) {
	s.do(Drop{Key: k})
	s.send(to, &wire.StageRefusal{Key: k, Code: code, Reason: reason[:min(len(reason), 200)]})
}

func (s *Server) message(from wire.PeerID, msg wire.StageMessage) {
	switch msg := msg.(type) {
	case *wire.StageCall:
		s.called(from, msg)
	case *wire.StageCancel:
		s.returned(isMicro(msg.Key))
		s.cancelled(from, msg.Key)
	case *wire.StageAccept:
		s.accepted(from, msg.Key)
	case *wire.StageClose:
		s.closed(from, msg)
	case *wire.StageApply:
		s.apply(from, msg)
	case *wire.StageVoid:
		s.fence(msg.Trainer, msg.Try)
	case *wire.StageSum: // the driver's
	case *wire.StageAnswer, *wire.StageRefusal, *wire.StageCounted, *wire.StageReduced, *wire.StageMissing, *wire.StageApplied:
	}
}

// TrainerOf returns the slot whose trainer alone may send a message, which the driver sees
// to; 0 for what any server may.
func TrainerOf(m wire.StageMessage) wire.Slot {
	switch m := m.(type) {
	case *wire.StageCall:
		return m.Key.Trainer
	case *wire.StageCancel:
		return m.Key.Trainer
	case *wire.StageAccept:
		return m.Key.Trainer
	case *wire.StageClose:
		return m.Trainer
	case *wire.StageApply:
		return m.Trainer
	case *wire.StageVoid:
		return m.Trainer
	case *wire.StageSum, *wire.StageAnswer, *wire.StageRefusal, *wire.StageCounted, *wire.StageReduced, *wire.StageMissing, *wire.StageApplied:
	}
	return 0
}

const otherStage = "this peer serves another stage"

// called queues a call or refuses it.
func (s *Server) called(from wire.PeerID, c *wire.StageCall) {
	k := c.Key
	if s.mixes(c) { // without a Drop, for that is the other pass's
		s.send(from, &wire.StageRefusal{Key: k, Code: wire.StageInvalid, Reason: "this attempt is one of the other pass"})
		return
	}
	if k.Stage != uint64(s.cfg.Stage) || (!c.Backward && s.cfg.Stage == s.cfg.Stages-1) {
		s.refuse(from, k, wire.StageInvalid, otherStage)
		return
	}
	if s.cfg.Mode == Synchronous {
		if code, why := s.inStep(k.Trainer, k.Try, k.Step); why != "" {
			s.do(Drop{Key: k})
			refusal := &wire.StageRefusal{Key: k, Code: code, Reason: why}
			if k.Step < s.version && k.Trainer == s.steps.trainer && k.Try == s.steps.try {
				refusal.Version = s.version
			}
			s.send(from, refusal)
			return
		}
	}
	if c.Backward && (s.past.has(idOf(k)) || slices.Contains(s.sum, idOf(k))) {
		s.refuse(from, k, wire.StageAlready, "")
		return
	}
	if s.repeats(k, c.Backward) {
		return
	}
	switch {
	case len(s.queue) >= s.cfg.Queue:
		s.refuse(from, k, wire.StageBusy, "its queue is full")
	default:
		s.queue = append(s.queue, &job{call: c, from: from, arrived: s.now})
	}
}

// mixes reports whether a call has the key of a call for the other pass, whose end would
// take along what is kept of both.
func (s *Server) mixes(c *wire.StageCall) bool {
	other := func(j *job) bool { return j.call.Key == c.Key && j.call.Backward != c.Backward }
	return slices.ContainsFunc(s.queue, other) || slices.ContainsFunc(s.held, other) || s.running != nil && other(s.running)
}

// repeats handles a call for what an earlier one was for: the same attempt is
// one already, a later one takes its place. It reports whether there is
// nothing more to do.
func (s *Server) repeats(k wire.StageKey, backward bool) bool {
	same := func(j *job) bool { return idOf(j.call.Key) == idOf(k) && j.call.Backward == backward && !j.dropped }
	for _, list := range [][]*job{s.queue, s.held} {
		if i := slices.IndexFunc(list, same); i >= 0 {
			if had := list[i].call.Key.Attempt; had >= k.Attempt || list[i].accepted {
				if list[i].call.Key != k { // else it is what is kept
					s.do(Drop{Key: k})
				}
				return true
			}
			s.cancelled(list[i].from, list[i].call.Key)
			return false
		}
	}
	if s.running != nil && same(s.running) {
		if had := s.running.call.Key.Attempt; s.adding || had >= k.Attempt {
			if s.running.call.Key != k {
				s.do(Drop{Key: k})
			}
			return true
		}
		s.running.dropped = true
	}
	return false
}

// cancelled drops a call that its trainer does not want any more. What it
// accepted stays.
func (s *Server) cancelled(from wire.PeerID, k wire.StageKey) {
	s.forget(func(j *job) bool { return j.from == from && j.call.Key == k })
}

// forget drops the calls that match and are not accepted.
func (s *Server) forget(match func(*job) bool) {
	drop := func(j *job) bool {
		if j.accepted || !match(j) {
			return false
		}
		s.do(Drop{Key: j.call.Key})
		s.remember(j.call.Key)
		return true
	}
	s.queue = slices.DeleteFunc(s.queue, drop)
	s.held = slices.DeleteFunc(s.held, drop)
	if s.running != nil && !s.adding && !s.running.dropped && match(s.running) {
		s.running.dropped = true
	}
}

// peerDown drops what a trainer that is gone had asked for.
func (s *Server) peerDown(id wire.PeerID) {
	s.returned(func(p passage) bool { return p.from == id })
	s.forget(func(j *job) bool { return j.from == id })
}

// work begins what is next: backward before forward, since it frees memory at
// the trainer and is waited for by the stage before; then the oldest. Weight
// gradients wait while anything is asked for, for nobody waits for them (zero
// bubble), unless what is held has no more room.
func (s *Server) work() {
	if s.running != nil || s.steps.stepping {
		return
	}
	if s.stepFull() {
		return
	}
	next := s.choose()
	if accepted := slices.IndexFunc(s.held, func(j *job) bool { return j.accepted }); accepted >= 0 && (next == nil || len(s.held) >= s.cfg.Held) {
		j := s.held[accepted]
		s.held = slices.Delete(s.held, accepted, accepted+1)
		s.running, s.adding = j, true
		s.unclose() // the set that was being added up is not this one
		s.do(Add{Key: j.call.Key})
		return
	}
	if next == nil {
		return
	}
	if next.call.Backward && len(s.held) >= s.cfg.Held && !s.evict(next) {
		return
	}
	s.queue = slices.DeleteFunc(s.queue, func(j *job) bool { return j == next })
	arrived := next.arrived
	if !next.call.Backward && arrived.Before(s.abreast.shut) {
		arrived = s.abreast.shut // a wait for the step says nothing of how much a stage has to do
	}
	next.wait = s.now.Sub(arrived)
	s.wait.add(next.wait.Seconds())
	s.running, s.adding = next, false
	behind := uint64(0)
	if !next.call.Backward {
		s.passes(next)
	} else {
		if v := next.call.Version; v > 0 && v < s.version {
			behind = s.version - v
		}
		s.behind[min(behind, 16)]++
	}
	s.do(Compute{Key: next.call.Key, Backward: next.call.Backward, Behind: behind})
}

// choose returns the call that is computed next, nil when there is none that
// can be. With no room to hold another answer, a backward call waits unless it
// is older than what is held, and forward calls go on while they are abreast.
func (s *Server) choose() *job {
	for _, j := range s.queue {
		if j.call.Backward && (len(s.held) < s.cfg.Held || s.newest(j) != nil || s.anyAccepted()) {
			return j
		}
	}
	i := slices.IndexFunc(s.queue, func(j *job) bool { return !j.call.Backward })
	switch {
	case i < 0:
		return nil
	case s.full():
		s.abreast.shut = s.now
		return nil
	}
	return s.queue[i]
}

func (s *Server) anyAccepted() bool {
	return slices.ContainsFunc(s.held, func(j *job) bool { return j.accepted })
}

// newest returns the held call of the same trainer with the greatest number
// above j's that may be given up, or nil.
func (s *Server) newest(j *job) *job {
	var out *job
	for _, h := range s.held {
		if !h.accepted && h.from == j.from && h.call.Key.Micro > j.call.Key.Micro && (out == nil || h.call.Key.Micro > out.call.Key.Micro) {
			out = h
		}
	}
	return out
}

// evict gives up the newest held call to make room for an older one, which
// its trainer accepts first: else both would wait for each other.
func (s *Server) evict(j *job) bool {
	out := s.newest(j)
	if out == nil {
		return false
	}
	s.giveUp(out, "there is no room to hold it")
	return true
}

// giveUp drops a held call and says so.
func (s *Server) giveUp(j *job, reason string) {
	s.held = slices.DeleteFunc(s.held, func(h *job) bool { return h == j })
	s.returned(isMicro(j.call.Key))
	s.note("the gradient of micro-batch %d for the trainer in slot %d is given up: %s", j.call.Key.Micro, j.call.Key.Trainer, reason)
	s.do(Drop{Key: j.call.Key})
	s.remember(j.call.Key)
	s.send(j.from, &wire.StageCounted{Key: j.call.Key, Fate: wire.StageGivenUp})
}

// finishRunning ends the computation of a key; nil when it is another one's.
func (s *Server) finishRunning(k wire.StageKey) *job {
	j := s.running
	if j == nil || s.adding || j.call.Key != k {
		return nil
	}
	s.running = nil
	if j.dropped {
		s.do(Drop{Key: k})
	}
	return j
}

// computed answers a call. A backward call is held until its trainer accepts it.
func (s *Server) computed(e Computed) {
	j := s.finishRunning(e.Key)
	if j == nil {
		return
	}
	s.took.add(e.Took.Seconds() / callSize(j.call.Backward))
	s.served++
	if j.dropped {
		return
	}
	s.send(j.from, &wire.StageAnswer{Key: e.Key, Version: s.version, Wait: micros(j.wait), Took: micros(e.Took)})
	if j.call.Backward {
		j.until = s.now.Add(s.cfg.Limits.Held)
		s.held = append(s.held, j)
	} else {
		s.do(Drop{Key: e.Key})
	}
}

// accepted takes a trainer's word that a held call counts. The word is
// repeated when its answer is lost.
func (s *Server) accepted(from wire.PeerID, k wire.StageKey) {
	if i := slices.IndexFunc(s.held, func(j *job) bool { return j.call.Key == k && j.from == from }); i >= 0 {
		s.held[i].accepted = true
		return
	}
	if s.running != nil && s.adding && s.running.call.Key == k {
		return // answered when it is added
	}
	fate := wire.StageUnknown
	switch {
	case s.counts(k):
		fate = wire.StageInSum
	case slices.Contains(s.gone, k):
		fate = wire.StageGivenUp
	}
	s.send(from, &wire.StageCounted{Key: k, Fate: fate})
}

// maxGone is how many calls a server remembers to have given up.
const maxGone = 256

func (s *Server) remember(k wire.StageKey) {
	if len(s.gone) == maxGone {
		s.gone = append(s.gone[:0], s.gone[1:]...)
	}
	s.gone = append(s.gone, k)
}

// counts reports whether this attempt's gradient is, or was, part of the sum.
func (s *Server) counts(k wire.StageKey) bool {
	if s.cfg.Mode == Synchronous && (s.steps.trainer != k.Trainer || s.steps.try != k.Try || s.version != k.Step) {
		return false
	}
	return slices.Contains(s.sum, idOf(k)) || s.past.has(idOf(k))
}

// added takes a gradient into the sum.
func (s *Server) added(k wire.StageKey) {
	j := s.running
	if j == nil || !s.adding || j.call.Key != k {
		return
	}
	s.running, s.adding = nil, false
	if j.dropped { // its step was void before it was added
		s.do(Clear{})
		s.sum = nil
		return
	}
	s.sum = append(s.sum, idOf(k))
	s.returned(isMicro(k))
	s.send(j.from, &wire.StageCounted{Key: k, Fate: wire.StageInSum})
}

// expire gives up answered calls that nobody accepts.
func (s *Server) expire() {
	for _, j := range slices.Clone(s.held) {
		if !j.accepted && !s.now.Before(j.until) {
			s.giveUp(j, "not accepted in time")
		}
	}
	s.returned(func(p passage) bool { return !s.now.Before(p.until) }) // its trainer may have taken it elsewhere
	s.expireStep()
}

// leave gives back what does not count yet, so that others compute it at once.
func (s *Server) leave() {
	const leaving = "it leaves the stage"
	s.empty(wire.StageMoving, leaving)
	if j := s.running; j != nil && !s.adding && !j.dropped {
		j.dropped = true
		s.refuse(j.from, j.call.Key, wire.StageMoving, leaving)
	}
}

// Deadline returns when Tick is due; zero: never.
func (s *Server) Deadline() time.Time {
	next := earlier(s.steps.sayAgain, s.reopens())
	for _, j := range s.held {
		if !j.accepted {
			next = earlier(next, j.until)
		}
	}
	return next
}

// micros returns microseconds, at most what an answer may say.
func micros(d time.Duration) uint64 { return uint64(min(max(0, d.Microseconds()), 1<<40)) }

// ewma is a bias-corrected moving average.
type ewma struct{ sum, weight float64 }

func (e *ewma) add(x float64) {
	e.sum += rateDecay * (x - e.sum)
	e.weight += rateDecay * (1 - e.weight)
}

// value returns the average, 0 before the first sample.
func (e ewma) value() float64 {
	if e.weight == 0 {
		return 0
	}
	return e.sum / e.weight
}
