package pipeline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/wire"
)

const (
	rateDecay   = 0.1 // weight of the newest call in a peer's rate
	unknownRate = 1.0 // seconds of a forward pass, before any is measured
	busyFirst   = 100 * time.Millisecond
	busyMost    = 5 * time.Second
	retryFirst  = time.Second
	retryMost   = 30 * time.Second
	maxPeers    = 1024 // of one stage that are remembered
	spareTries  = 2    // time-outs in a row until a peer is banned
)

// wiring chooses peers of one stage by interleaved weighted round-robin
// (SWARM, arXiv 2301.11913, section 3.2): each peer has a virtual time that
// grows by what its calls are expected to take, and the least goes next. Unlike
// the released code it counts time-outs as measurements, knows links, and bans
// for a time that doubles.
type wiring struct {
	peers []*server // by id; a stage has tens, so that a scan does for a heap
	rng   *rand.Rand
	bytes uint64        // of a boundary's activations
	limit int           // calls at one peer at a time
	loyal bool          // who runs a forward pass runs the backward pass too
	lim   Limits        //
	since time.Time     // nobody usable since then; zero when somebody is
	said  time.Duration // outage that was told last
}

// server is one peer of the stage as the trainer sees it.
type server struct {
	id    wire.PeerID
	state PeerState
	seq   uint64
	link  Link

	vt, tie float64 // virtual time in seconds; the second orders equals by chance
	seconds float64 // moving sum of seconds of a forward pass
	samples int
	last    time.Time // of the newest sample
	calls   int       // under way

	failures, timeouts int // in a row
	failed, banned     time.Time
	silent             bool // gave no sign of life since it failed
	busy               time.Time
	refusals           int // in a row
}

// rate returns the expected seconds of a forward pass.
func (s *server) rate() float64 {
	if s.samples == 0 {
		return unknownRate
	}
	weight := 1.0 // lost by starting at zero, as Adam corrects it
	if s.samples < 1000 {
		left := 1.0
		for range s.samples {
			left *= 1 - rateDecay
		}
		weight = 1 - left
	}
	return max(s.seconds/weight, 1e-6)
}

// expect returns how long a call takes when the peer has nothing else to do.
// The rate is measured from here, so it has the link in it already; the link
// counts where it is slower than what was measured, or nothing was.
func (w *wiring) expect(s *server, backward bool) time.Duration {
	bytes := 2 * w.bytes
	if backward {
		bytes = 3 * w.bytes
	}
	compute := time.Duration(min(s.rate()*callSize(backward), 1e6) * float64(time.Second))
	if s.samples == 0 {
		return compute + s.link.time(bytes)
	}
	return max(compute, s.link.time(bytes))
}

// find returns the stage's record of a peer, or nil.
func (w *wiring) find(id wire.PeerID) *server {
	i := slices.IndexFunc(w.peers, func(s *server) bool { return s.id == id })
	if i < 0 {
		return nil
	}
	return w.peers[i]
}

// announce takes in a peer's word. It reports whether it was news.
func (w *wiring) announce(e Announced, now time.Time) bool {
	s := w.find(e.Peer)
	if s == nil {
		if len(w.peers) >= maxPeers {
			w.peers = slices.DeleteFunc(w.peers, func(s *server) bool { return s.calls == 0 && !w.allowed(s, now, true) })
		}
		if len(w.peers) >= maxPeers {
			return false
		}
		s = &server{id: e.Peer, vt: w.least(), tie: w.rng.Float64()}
		at, _ := slices.BinarySearchFunc(w.peers, e.Peer, func(s *server, id wire.PeerID) int { return comparePeers(s.id, id) })
		w.peers = slices.Insert(w.peers, at, s)
	} else if e.Seq <= s.seq {
		return false
	}
	if s.state != Online && e.State == Online {
		s.vt = max(s.vt, w.least()) // what it missed while away is not owed to it
	}
	s.state, s.seq, s.link, s.busy, s.silent = e.State, e.Seq, e.Link, time.Time{}, false
	return true
}

// alive takes in a sign of life.
func (w *wiring) alive(id wire.PeerID) {
	if s := w.find(id); s != nil {
		s.silent = false
	}
}

// least returns the least virtual time of the peers that serve.
func (w *wiring) least() float64 {
	found, least := false, 0.0
	for _, s := range w.peers {
		if s.state == Online && (!found || s.vt < least) {
			found, least = true, s.vt
		}
	}
	return least
}

// allowed reports whether a peer serves and no ban holds. After a ban, and when
// nobody else is left, only a peer that has given a sign of life since its failure
// gets in.
func (w *wiring) allowed(s *server, now time.Time, lastResort bool) bool {
	switch {
	case s.state != Online:
		return false
	case s.failed.IsZero():
		return true
	case s.silent:
		return false
	case lastResort:
		return !now.Before(s.failed.Add(backoff(s.failures, retryFirst, retryMost)))
	}
	return !now.Before(s.banned)
}

// usable returns the peers that may be called, whether or not they have room.
func (w *wiring) usable(now time.Time) []*server {
	for _, lastResort := range []bool{false, true} {
		var out []*server
		for _, s := range w.peers {
			if w.allowed(s, now, lastResort) {
				out = append(out, s)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// pick returns who runs the next call and charges it for it, and for what will follow,
// before the call is made, so that concurrent calls spread. nil: nobody can take it now.
func (w *wiring) pick(now time.Time, backward bool) *server {
	usable := w.usable(now)
	if len(usable) == 0 {
		if w.since.IsZero() {
			w.since, w.said = now, 0
		}
		return nil
	}
	w.since = time.Time{}
	var best *server
	for _, s := range usable {
		if !w.free(s, now) {
			continue
		}
		if best == nil || s.vt < best.vt || (s.vt == best.vt && s.tie < best.tie) {
			best = s
		}
	}
	if best == nil {
		return nil
	}
	best.vt += w.expect(best, backward).Seconds()
	if w.loyal && !backward {
		best.vt += w.expect(best, true).Seconds()
	}
	best.tie = w.rng.Float64()
	best.calls++
	return best
}

// free reports whether a peer that may be called has room.
func (w *wiring) free(s *server, now time.Time) bool {
	return s.calls < w.limit && !now.Before(s.busy)
}

// patience returns how long a call may take: four times what is expected
// behind the calls that are there already, twice that after a time-out, and
// everything the limits allow before a rate is known.
func (w *wiring) patience(s *server, backward bool) time.Duration {
	most := time.Duration(float64(w.lim.Call) * callSize(backward))
	if s.samples == 0 {
		return most
	}
	return min(most, min(most, max(w.lim.CallMin, 4*time.Duration(max(1, s.calls))*w.expect(s, backward)))<<min(s.timeouts, 8))
}

// answered ends a call well. The interval begins at the answer before, so that
// calls at the same time measure what the peer gets done, not how long each waits.
func (w *wiring) answered(s *server, now, started time.Time, backward bool) {
	s.calls--
	if s.last.After(started) {
		started = s.last
	}
	s.sample(now, now.Sub(started), backward)
	s.failures, s.timeouts, s.refusals = 0, 0, 0
	s.failed, s.banned = time.Time{}, time.Time{}
}

func (s *server) sample(now time.Time, d time.Duration, backward bool) {
	s.seconds += rateDecay * (d.Seconds()/callSize(backward) - s.seconds)
	s.samples++
	s.last = now
}

// timedOut counts the whole wait as a measurement, and bans a peer that is
// late again and again. It returns what happened, for people.
func (w *wiring) timedOut(s *server, now, started time.Time, backward bool) string {
	s.calls--
	s.sample(now, now.Sub(started), backward)
	if s.timeouts++; s.timeouts < spareTries {
		return "no answer in time"
	}
	return "no answer in time again, " + w.ban(s, now)
}

// fault bans a peer; call says that a call ended by it.
func (w *wiring) fault(s *server, now time.Time, call bool) string {
	if call {
		s.calls--
	}
	return w.ban(s, now)
}

func (w *wiring) ban(s *server, now time.Time) string {
	if !s.failed.IsZero() && s.failed.Equal(now) {
		return "banned already" // one loss of a connection, many calls
	}
	s.failures++
	d := backoff(s.failures, w.lim.Ban, w.lim.BanMost)
	s.failed, s.silent, s.banned = now, true, now.Add(d)
	return fmt.Sprintf("banned for %v", d)
}

// refused ends a call that the peer has no room for.
func (w *wiring) refused(s *server, now time.Time) {
	s.calls--
	s.refusals++
	s.busy = now.Add(backoff(s.refusals, busyFirst, busyMost))
}

// retry returns when this stage may have somebody again without being told;
// zero: when a peer announces itself.
func (w *wiring) retry(now time.Time) time.Time {
	var next time.Time
	for _, s := range w.peers {
		if s.state != Online {
			continue
		}
		if s.busy.After(now) {
			next = earlier(next, s.busy)
		}
		if s.failed.IsZero() || s.silent {
			continue
		}
		if at := s.failed.Add(backoff(s.failures, retryFirst, retryMost)); at.After(now) {
			next = earlier(next, at)
		}
		if s.banned.After(now) {
			next = earlier(next, s.banned)
		}
	}
	return next
}

func comparePeers(a, b wire.PeerID) int { return slices.Compare(a[:], b[:]) }
