package coordinator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"dunlin/wire"
)

// How long a worker waits.
const (
	firstBackoff  = 500 * time.Millisecond
	lastBackoff   = 5 * time.Second
	dialWindow    = 30 * time.Second // for a dial to end
	welcomeWindow = 10 * time.Second // for an answer to a hello
	leaseWindow   = 3 * time.Second  // for a lease
	leaseAhead    = 15 * time.Second // of training that leases cover
	syncWindow    = 30 * time.Second // before syncing is asked for again
	warmWindow    = time.Minute      // for the first steps to be timed
	handOverAfter = 10 * time.Second // for running rounds while draining
	endedAfter    = time.Minute      // the same where the run has ended: what is waited for is its last state
	goodbyeWindow = 2 * time.Second  // for the entry that ends the slot
	calmBeat      = 15 * time.Second // between heartbeats
	busyBeat      = 2 * time.Second  // while training or draining, so that the page lives
	// Each member spaces everyone's heartbeats by so much more, so that a coordinator
	// hears at most about 50 kB of them a second, however many there are.
	beatSpace = 3600 * time.Microsecond
)

// LeavesWithin is how long a worker takes to leave a run that goes on, at most.
const LeavesWithin = handOverAfter + goodbyeWindow

// BeatEvery returns the mean time between two heartbeats of a worker, which is busy
// when it trains, in a run of so many members that takes one for dead after silence.
func BeatEvery(busy bool, members int, silence time.Duration) time.Duration {
	every := calmBeat
	if busy {
		every = busyBeat
	}
	return max(every, min(time.Duration(members)*beatSpace, silence*4/5))
}

// JoinerConfig is what a worker decides by.
type JoinerConfig struct {
	Spec  *wire.RunSpec // validated
	Stage int           // that it serves; peers of the first one lease windows
}

// Validate checks the configuration.
func (c JoinerConfig) Validate() error {
	if c.Spec == nil {
		return errors.New("joiner: the run spec is needed")
	}
	if n := c.Spec.H * c.Spec.Data.Batch; n < 1 || n > wire.MaxH<<16 {
		return fmt.Errorf("joiner: %d windows in %d steps", n, c.Spec.H)
	}
	return nil
}

// Joiner is one worker's membership: dialling, syncing, warming, training,
// draining, each with a reason, a deadline and an exit. The coordinator's
// absence does not stop it: what it needs to train it has.
type Joiner struct {
	cfg JoinerConfig
	rng *rand.Rand

	state  wire.WorkerState
	reason string
	since  time.Time // of the state

	link     link
	dials    int
	linkAt   time.Time // when the link's present wait ends; zero when it waits for nobody's clock
	slot     wire.Slot
	height   uint64
	phase    wire.Phase
	members  int           // live slots of the run
	silence  time.Duration // after which a slot ends
	h        uint64        // inner steps between two of its rounds, the more of those in force and to come
	windows  uint64        // leased and not trained on
	step     time.Duration // of an inner step; 0 before it is known
	leaseAt  time.Time     // until when a request is out
	beatAt   time.Time     // of the next heartbeat
	beaten   time.Time     // of the newest
	paused   bool          // by the run's phase
	training bool          // the inner loop may run
	drain    drain
	finished bool

	now     time.Time
	effects []JoinerEffect
}

// link is where a worker stands with the coordinator.
type link uint8

const (
	linkDown    link = iota // until linkAt, then dial
	linkDialled             // Reached or Lost should come
	linkAsked               // hello is said
	linkUp                  // welcome
)

// drain is a worker's way out.
type drain struct {
	reason string        // "" while it stays
	handed bool          // nothing undecided, or time is up
	within time.Duration // that it waits for what is undecided
	at     time.Time
}

// NewJoiner returns a worker that begins to dial at its first Tick. The random
// source is for jitter.
func NewJoiner(cfg JoinerConfig, rng *rand.Rand) (*Joiner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Joiner{cfg: cfg, rng: rng, phase: wire.PhaseTraining, silence: milliseconds(cfg.Spec.Deadlines.Silence), h: cfg.Spec.H}, nil
}

// Step takes in an event and returns what is to be done, in order.
func (j *Joiner) Step(now time.Time, ev JoinerEvent) []JoinerEffect {
	j.now, j.effects = now, nil
	if j.finished {
		return nil
	}
	if j.state == 0 {
		j.enter(wire.StateDialling, "not connected yet")
		j.linkAt = now
	}
	switch e := ev.(type) {
	case Reached:
		j.reached()
	case Lost:
		j.lost(e.Reason)
	case Welcomed:
		j.welcomed(e.Welcome)
	case Refused:
		j.refused(e.Refuse)
	case CaughtUp:
		j.caughtUp(e.Height)
	case Warmed:
		j.step = time.Duration(e.StepTime) * time.Microsecond
		if j.state == wire.StateWarming {
			j.enter(wire.StateTraining, fmt.Sprintf("a step takes %v", (time.Duration(e.StepTime)*time.Microsecond).Round(100*time.Microsecond)))
		}
	case WindowsLeft:
		j.windows = e.Windows
	case Drained:
		j.startDrain(e)
	case HandedOver:
		if j.drain.reason != "" && !j.drain.handed {
			j.goodbye()
		}
	case Diverged:
		j.again("this replica is being repaired", "repairing this replica: "+e.Reason)
	case DeviceLost:
		j.again("the device is lost", "opening the device again: "+e.Reason)
	case Logged:
		j.logged(e)
	case Tick:
	}
	j.waits()
	j.keepInTouch()
	effects := j.effects
	j.effects = nil
	return effects
}

func (j *Joiner) do(e JoinerEffect) { j.effects = append(j.effects, e) }

func (j *Joiner) enter(s wire.WorkerState, reason string) {
	if j.state != s {
		j.since, j.beatAt = j.now, j.now // a change is told at once
	}
	if j.state != s || j.reason != reason {
		j.state, j.reason = s, reason
		j.do(SetState{State: s, Reason: reason})
	}
}

func (j *Joiner) finish(code wire.RefuseCode, s wire.WorkerState, reason string) {
	j.stop(reason)
	j.enter(s, reason)
	j.finished = true
	j.do(Finished{Code: code, Reason: reason})
}

func (j *Joiner) stop(reason string) {
	if j.training {
		j.training = false
		j.do(StopTraining{Reason: reason})
	}
}

func (j *Joiner) train() {
	if !j.training && !j.paused {
		j.training = true
		j.do(StartTraining{})
	}
}

// reached says hello on a new connection.
func (j *Joiner) reached() {
	if j.link == linkAsked || j.link == linkUp {
		return
	}
	j.dials = 0
	j.hello()
}

func (j *Joiner) hello() {
	j.link, j.linkAt = linkAsked, j.now.Add(welcomeWindow)
	j.do(SendHello{Slot: j.slot})
}

// lost goes on with whatever can go on without the coordinator.
func (j *Joiner) lost(reason string) {
	stood := j.link == linkAsked || j.link == linkUp
	j.link, j.leaseAt = linkDown, time.Time{}
	j.linkAt = j.now.Add(j.backoff())
	if j.drain.handed {
		j.finish(0, wire.StateGone, j.drain.reason)
		return
	}
	switch {
	case j.state == wire.StateDialling:
		j.enter(wire.StateDialling, "coordinator not reached: "+reason)
	case !stood: // said when it broke
	case j.training:
		j.do(Note{Text: "training on without the coordinator: " + reason})
	default:
		j.do(Note{Text: "the coordinator is gone: " + reason})
	}
}

// backoff doubles up to its cap, give or take a quarter.
func (j *Joiner) backoff() time.Duration {
	d := lastBackoff
	if j.dials < 4 {
		d = min(d, firstBackoff<<j.dials)
	}
	return d*3/4 + time.Duration(j.rng.Int64N(int64(d)/2))
}

// welcomed takes the slot. A worker that comes back to its slot goes on.
func (j *Joiner) welcomed(w wire.Welcome) {
	if w.Slot == 0 || j.link != linkAsked {
		return
	}
	j.link, j.linkAt, j.beatAt = linkUp, time.Time{}, j.now
	if w.Slot == j.slot {
		return
	}
	j.slot, j.windows, j.leaseAt = w.Slot, 0, time.Time{}
	j.do(TakeSlot{Slot: w.Slot})
	if j.drain.reason == "" {
		j.sync(w.Head, "following the ledger to its head")
	}
}

func (j *Joiner) sync(head uint64, reason string) {
	j.enter(wire.StateSyncing, reason)
	j.do(StartSync{Head: max(head, j.height)})
}

// refused asks for a new slot where that helps, and else ends.
func (j *Joiner) refused(r wire.Refuse) {
	if r.Code != wire.RefuseSlot {
		s := wire.StateGone
		if r.Code == wire.RefuseBanned {
			s = wire.StateBanned
		}
		j.finish(r.Code, s, r.Reason)
		return
	}
	j.loseSlot(r.Reason)
}

// loseSlot starts over: a slot's steps, leases and intervals end with it.
func (j *Joiner) loseSlot(reason string) {
	j.slot, j.windows, j.leaseAt = 0, 0, time.Time{}
	if j.drain.reason != "" {
		j.finish(0, wire.StateGone, j.drain.reason)
		return
	}
	j.stop("the slot is lost: " + reason)
	j.enter(wire.StateDialling, "asking for a new slot: "+reason)
	if j.link == linkAsked || j.link == linkUp {
		j.hello()
	}
}

func (j *Joiner) caughtUp(height uint64) {
	if j.state != wire.StateSyncing {
		return
	}
	j.enter(wire.StateWarming, fmt.Sprintf("timing the first steps from height %d", height))
	j.train()
	j.rest()
}

// again stops training until the replica and what trains are whole.
func (j *Joiner) again(halted, reason string) {
	if j.drain.reason != "" || j.state == wire.StateDialling {
		return
	}
	j.stop(halted)
	j.sync(j.height, reason)
}

// logged follows what the log says about this slot and about the run.
func (j *Joiner) logged(e Logged) {
	j.height = max(j.height, e.Height)
	switch b := e.Body.(type) {
	case *wire.Member:
		if b.Op == wire.MemberAdmit {
			j.members++
		} else {
			j.members--
		}
		switch {
		case b.Slot != j.slot || j.slot == 0 || b.Op == wire.MemberAdmit:
		case b.Op == wire.MemberBan:
			j.finish(wire.RefuseBanned, wire.StateBanned, "banned: "+b.Reason)
		default:
			j.loseSlot(b.Reason)
		}
	case *wire.Lease:
		if b.Slot == j.slot && j.slot != 0 {
			j.windows += wire.Windows(b.Ranges)
			j.leaseAt = time.Time{}
		}
	case *wire.Settings:
		j.phaseLogged(b)
	case *wire.Attempt, *wire.Commit, *wire.Checkpoint:
	}
}

// phaseLogged pauses, resumes or drains with the run.
func (j *Joiner) phaseLogged(b *wire.Settings) {
	j.phase, j.paused = b.Phase, b.Phase == wire.PhasePaused
	j.silence = milliseconds(b.DeadlinesOr(j.cfg.Spec.Deadlines).Silence)
	if b.Tuning != nil {
		j.h = max(j.h, b.Tuning.H)
	}
	switch b.Phase {
	case wire.PhaseEnded:
		if j.slot != 0 { // without one it is still syncing from the beginning, or is refused in a moment
			j.startDrain(Drained{Reason: "the run has ended: " + b.Reason})
		}
	case wire.PhasePaused, wire.PhaseTraining:
		j.rest()
	}
}

// rest sleeps while the run is paused and wakes when it is not.
func (j *Joiner) rest() {
	switch {
	case j.paused && (j.state == wire.StateTraining || j.state == wire.StateWarming):
		j.stop("the organiser paused the run")
		j.enter(wire.StateSleeping, "the organiser paused the run")
	case !j.paused && j.state == wire.StateSleeping:
		j.enter(wire.StateTraining, "the organiser resumed the run")
		j.train()
	}
}

// startDrain leaves in good order: finish or give up the running rounds, say
// goodbye, wait for the log to have it.
func (j *Joiner) startDrain(e Drained) {
	reason := e.Reason
	if j.drain.reason != "" {
		if e.AtOnce && !j.drain.handed {
			j.goodbye()
		}
		return
	}
	working := j.state == wire.StateTraining || j.state == wire.StateWarming || j.state == wire.StateSleeping
	within := handOverAfter
	if j.phase == wire.PhaseEnded {
		within = endedAfter
	}
	j.drain = drain{reason: reason, within: within, at: j.now.Add(within)}
	j.stop(reason)
	if j.slot == 0 {
		j.finish(0, wire.StateGone, reason)
		return
	}
	j.enter(wire.StateDraining, reason)
	if !e.AtOnce && (working || j.phase == wire.PhaseEnded) {
		j.do(HandOver{Within: within})
		return
	}
	j.goodbye()
}

// goodbye tells the last figures and leaves.
func (j *Joiner) goodbye() {
	j.drain.handed, j.drain.at = true, j.now.Add(goodbyeWindow)
	if j.link != linkUp {
		j.finish(0, wire.StateGone, j.drain.reason)
		return
	}
	j.beat()
	j.do(SendLeave{Slot: j.slot, Reason: j.drain.reason})
}

// waits ends every wait whose time is up.
func (j *Joiner) waits() {
	if j.finished {
		return
	}
	if due(j.now, j.linkAt) {
		switch j.link {
		case linkDown:
			j.dials++
			j.link, j.linkAt = linkDialled, j.now.Add(dialWindow)
			j.do(Dial{Attempt: j.dials})
		case linkAsked:
			j.do(Note{Text: fmt.Sprintf("no answer to the hello for %v; saying it again", welcomeWindow)})
			j.hello()
		case linkDialled:
			j.lost(fmt.Sprintf("the dial did not end within %v", dialWindow))
		case linkUp:
			j.linkAt = time.Time{}
		}
	}
	switch {
	case j.drain.reason != "" && due(j.now, j.drain.at):
		if j.drain.handed {
			j.finish(0, wire.StateGone, j.drain.reason)
			return
		}
		j.do(Note{Text: fmt.Sprintf("running rounds are not decided after %v; leaving them", j.drain.within)})
		j.goodbye()
	case j.state == wire.StateSyncing && due(j.now, j.since.Add(syncWindow)):
		j.since = j.now
		j.do(Note{Text: fmt.Sprintf("still syncing after %v: %s", syncWindow, j.reason)})
		j.do(StartSync{Head: j.height})
	case j.state == wire.StateWarming && due(j.now, j.since.Add(warmWindow)):
		j.enter(wire.StateTraining, fmt.Sprintf("the first steps took more than %v", warmWindow))
	}
}

// keepInTouch sends heartbeats and asks for windows ahead of need.
func (j *Joiner) keepInTouch() {
	if j.finished || j.link != linkUp {
		return
	}
	if due(j.now, j.beatAt) {
		j.beat()
	}
	if j.cfg.Stage > 0 || j.drain.reason != "" || j.windows >= j.ahead()/2 || (!j.leaseAt.IsZero() && !due(j.now, j.leaseAt)) {
		return
	}
	j.leaseAt = j.now.Add(leaseWindow)
	if j.state == wire.StateTraining && !j.now.Before(j.beaten.Add(busyBeat)) {
		j.beat() // how much is leased depends on the steps that are known
	}
	j.do(RequestLease{Slot: j.slot, Windows: j.ahead()})
}

// ahead is how many windows a worker wants to have before it: four intervals,
// and enough to train on while the coordinator does not answer for a while.
func (j *Joiner) ahead() uint64 {
	n := 4 * j.h * j.cfg.Spec.Data.Batch
	if j.step > 0 {
		n = max(n, j.cfg.Spec.Data.Batch*uint64(leaseAhead/j.step))
	}
	return min(n, MaxLease)
}

func (j *Joiner) beat() {
	jitter := time.Duration(j.rng.Int64N(int64(calmBeat)/2)) - calmBeat/4
	every := BeatEvery(j.state == wire.StateTraining || j.state == wire.StateDraining, j.members, j.silence)
	if every >= calmBeat {
		every += jitter
	}
	j.beaten, j.beatAt = j.now, j.now.Add(every)
	j.do(SendHeartbeat{Slot: j.slot, State: j.state, Reason: limit(j.reason)})
}

// due reports whether a time, of which zero means never, has come.
func due(now, at time.Time) bool { return !at.IsZero() && !now.Before(at) }

// Deadline returns when Tick is due; zero: never.
func (j *Joiner) Deadline() time.Time {
	if j.finished {
		return time.Time{}
	}
	next := j.linkAt
	if j.link == linkUp {
		next = earlier(next, j.beatAt)
		if j.cfg.Stage <= 0 && j.drain.reason == "" && j.windows < j.ahead()/2 {
			next = earlier(next, j.leaseAt)
		}
	}
	switch j.state {
	case wire.StateSyncing:
		next = earlier(next, j.since.Add(syncWindow))
	case wire.StateWarming:
		next = earlier(next, j.since.Add(warmWindow))
	case wire.StateDraining:
		next = earlier(next, j.drain.at)
	default:
	}
	return next
}
