package allowance

import (
	"fmt"
	"time"
)

// Rules are what a volunteer allows. The zero value allows everything.
type Rules struct {
	Hours      Hours
	Busy       bool   // pause while others use the processor
	Battery    bool   // pause on battery
	UpPerDay   uint64 // bytes to send between two midnights; 0 is no limit
	DownPerDay uint64 // bytes to receive, likewise
	Cores      int    // that the machine has, for Busy
}

// How long others must need the processor before training makes room, and must not need it before it goes on.
const (
	busyAfter  = 10 * time.Second
	quietAfter = time.Minute
)

// busyCores is the mean use by others from which a machine counts as busy: a quarter of it, half a core at least.
func (r Rules) busyCores() float64 { return max(0.5, float64(r.Cores)/4) }

// State is what outlives the process.
type State struct {
	Paused   bool   `json:"paused"`   // by its owner
	Day      string `json:"day"`      // of Sent and Received, like 2026-05-04
	Sent     uint64 `json:"sent"`     // bytes on that day
	Received uint64 `json:"received"` // likewise
}

// Gate decides whether to train now, and why not. It starts open; the first Step tells.
type Gate struct {
	rules   Rules
	state   State
	battery bool
	busy    string    // why the machine counts as busy; "" when it does not
	turning time.Time // since when others' use has been on the other side; zero: it is not

	closed bool
	reason string
	until  time.Time
}

// NewGate goes on from an earlier process's state.
func NewGate(rules Rules, state State) *Gate { return &Gate{rules: rules, state: state} }

// Event is something that a Gate takes in.
//
//sumtype:decl
type Event interface{ event() }

// Ruled changes the rules.
type Ruled struct{ Rules Rules }

// Asked is the owner's word: pause, or go on.
type Asked struct{ Pause bool }

// Seen is a look at the machine.
type Seen struct {
	Others  float64 // cores that other programs use, mean since the last look
	Battery bool    // it runs on battery
}

// Moved says that so many more bytes were sent and received.
type Moved struct{ Sent, Received uint64 }

// Tick says that the deadline has come.
type Tick struct{}

func (Ruled) event() {}
func (Asked) event() {}
func (Seen) event()  {}
func (Moved) event() {}
func (Tick) event()  {}

// Effect is something to do.
//
//sumtype:decl
type Effect interface{ effect() }

// Pause says to stop training, or, while it is stopped, that the reason is another one.
type Pause struct {
	Reason string    // for people
	Until  time.Time // when it goes on by itself; zero when nobody knows
}

// Resume says to train on.
type Resume struct{}

// Keep says to keep the state for the next process.
type Keep struct{ State State }

func (Pause) effect()  {}
func (Resume) effect() {}
func (Keep) effect()   {}

// Step takes in an event at a time of the owner's clock, in the owner's time zone.
func (g *Gate) Step(now time.Time, ev Event) []Effect {
	before := g.state
	if today := now.Format(time.DateOnly); g.state.Day != today {
		g.state.Day, g.state.Sent, g.state.Received = today, 0, 0
	}
	switch e := ev.(type) {
	case Ruled:
		g.rules = e.Rules
		if !g.rules.Busy {
			g.busy, g.turning = "", time.Time{}
		}
	case Asked:
		g.state.Paused = e.Pause
	case Seen:
		g.battery = e.Battery
		g.seen(now, e.Others)
	case Moved:
		g.state.Sent += e.Sent
		g.state.Received += e.Received
	case Tick:
	}
	var out []Effect
	if g.state != before {
		out = append(out, Keep{g.state})
	}
	reason, until := g.why(now)
	switch {
	case reason == "" && g.closed:
		out = append(out, Resume{})
	case reason != "" && (!g.closed || reason != g.reason || !until.Equal(g.until)):
		out = append(out, Pause{reason, until})
	}
	g.closed, g.reason, g.until = reason != "", reason, until
	return out
}

// seen follows others' use of the processor: it must stay on the other side of its bound for a while to count.
func (g *Gate) seen(now time.Time, others float64) {
	limit, wait := g.rules.busyCores(), busyAfter
	other := others >= limit
	if g.busy != "" {
		wait, other = quietAfter, others < limit/2
	}
	switch {
	case !g.rules.Busy || !other:
		g.turning = time.Time{}
	case g.turning.IsZero():
		g.turning = now
	case now.Sub(g.turning) < wait:
	case g.busy == "":
		g.busy, g.turning = fmt.Sprintf("other programs use %.1f of %d cores", others, g.rules.Cores), time.Time{}
	default:
		g.busy, g.turning = "", time.Time{}
	}
}

// why returns what keeps training from going on, the most certain first, or "".
func (g *Gate) why(now time.Time) (reason string, until time.Time) {
	switch {
	case g.state.Paused:
		return "you paused it; dunlin resume goes on", time.Time{}
	case g.rules.Battery && g.battery:
		return "this machine runs on battery", time.Time{}
	case g.busy != "":
		return g.busy, time.Time{}
	case !g.rules.Hours.Open(now):
		return "outside its hours, " + g.rules.Hours.String(), g.rules.Hours.Change(now)
	case g.rules.UpPerDay > 0 && g.state.Sent >= g.rules.UpPerDay:
		return fmt.Sprintf("today's upload of %.4g MB is used up", float64(g.rules.UpPerDay)/1e6), midnight(now)
	case g.rules.DownPerDay > 0 && g.state.Received >= g.rules.DownPerDay:
		return fmt.Sprintf("today's download of %.4g MB is used up", float64(g.rules.DownPerDay)/1e6), midnight(now)
	}
	return "", time.Time{}
}

// State returns what is to outlive the process.
func (g *Gate) State() State { return g.state }

// Deadline returns when a Tick is due at the latest; zero: never.
func (g *Gate) Deadline(now time.Time) time.Time {
	next := g.rules.Hours.Change(now)
	if g.rules.UpPerDay+g.rules.DownPerDay > 0 && (next.IsZero() || midnight(now).Before(next)) {
		next = midnight(now)
	}
	return next
}

// midnight is the next one.
func midnight(now time.Time) time.Time {
	return time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, now.Location())
}
