package pipeline

import (
	"errors"
	"fmt"
	"time"

	"dunlin/wire"
)

// Mode says what a stage makes of the gradients it counts.
type Mode uint8

// The modes.
const (
	// Synchronous: all stages add up the same set of micro-batches and step on
	// it together. One trainer at a time.
	Synchronous Mode = iota
	// LocalSteps: each peer makes inner steps on what it counted itself; the
	// rounds of its stage average the peers (DiLoCo). Any number of trainers.
	LocalSteps
)

// String names the mode.
func (m Mode) String() string {
	switch m {
	case Synchronous:
		return "synchronous"
	case LocalSteps:
		return "local steps"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// backwardCost is what a backward pass from the stage's input costs in forward
// passes (SWARM's released code).
const backwardCost = 2.5

// Limits are how long things may take.
type Limits struct {
	Call     time.Duration // the longest forward call; a backward call takes 2.5 times as long
	CallMin  time.Duration // a call's deadline is never sooner, however fast the peer was: an inner step may be before it
	Queue    time.Duration // a forward call waits in a queue until it is sent to another peer, with local steps
	Accept   time.Duration // until an unanswered StageAccept or StageApply is sent again, three times in all
	Close    time.Duration // for the members of a stage to add up
	Held     time.Duration // a server keeps an answered backward call that nobody accepts
	GiveUp   time.Duration // one stage's part of a micro-batch may take in all
	Outage   time.Duration // a stage without reachable peers, before it is said
	Ban      time.Duration // the first; doubles with each failure in a row
	BanMost  time.Duration
	SayAgain time.Duration // between two notes about the same wait
}

// DefaultLimits returns limits for volunteers' links: SWARM's call time-outs and
// Petals' bans (reference implementations).
func DefaultLimits() Limits {
	return Limits{
		Call: 30 * time.Second, CallMin: 10 * time.Second, Queue: 3 * time.Second, Accept: 2 * time.Second, Close: 2 * time.Minute, Held: time.Minute,
		GiveUp: 10 * time.Minute, Outage: 5 * time.Second, Ban: 15 * time.Second, BanMost: 10 * time.Minute,
		SayAgain: time.Minute,
	}
}

func (l Limits) validate() error {
	for _, d := range []time.Duration{l.Call, l.CallMin, l.Queue, l.Accept, l.Close, l.Held, l.GiveUp, l.Outage, l.Ban, l.BanMost, l.SayAgain} {
		if d <= 0 {
			return fmt.Errorf("pipeline: a limit of %v; each must be positive (see DefaultLimits)", d)
		}
	}
	if l.Queue > l.CallMin || l.CallMin > l.Call || l.Ban > l.BanMost {
		return errors.New("pipeline: a least limit is above its most")
	}
	return nil
}

// Link is what is known of the way to a peer; zeros are unknown.
type Link struct {
	RTT       time.Duration
	Bandwidth float64 // bytes a second, the slower direction
}

// time returns how long bytes take, and half a round trip.
func (l Link) time(bytes uint64) time.Duration {
	d := l.RTT / 2
	if l.Bandwidth > 0 {
		d += time.Duration(min(float64(bytes)/l.Bandwidth, 1e6) * float64(time.Second))
	}
	return d
}

// PeerState is a peer's word about itself and its stage.
type PeerState uint8

// What a peer is to its stage.
const (
	Joining PeerState = iota // fetches the stage's state; counts as load, gets no calls
	Online                   // serves
	Leaving                  // finishes what it has
)

func (s PeerState) String() string {
	switch s {
	case Joining:
		return "joining"
	case Online:
		return "online"
	case Leaving:
		return "leaving"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// callSize returns a call's cost in forward passes.
func callSize(backward bool) float64 {
	if backward {
		return backwardCost
	}
	return 1
}

// backoff returns first·2^(n−1) for the nth failure, at most most; 0 for n < 1.
func backoff(n int, first, most time.Duration) time.Duration {
	if n < 1 {
		return 0
	}
	if n > 30 {
		return most
	}
	return min(most, first<<(n-1))
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// MicroID names a micro-batch in a run.
type MicroID struct {
	Trainer wire.Slot
	Micro   uint64
}

func idOf(k wire.StageKey) MicroID { return MicroID{k.Trainer, k.Micro} }

func (m MicroID) String() string { return fmt.Sprintf("t%d m%d", m.Trainer, m.Micro) }
