package sim

import (
	"errors"
	"slices"
	"time"

	"dunlin/wire"
)

// network carries control messages in sessions and bulk requests. A session
// delivers in order while it lasts; what a cut keeps back arrives if the cut
// heals before both ends notice.
type network struct {
	w       *World
	latency [][]time.Duration // one way, by host
	cuts    [][]int           // cuts[a][b] > 0: nothing passes from a to b
	since   [][]time.Duration // of the oldest cut in force
	slow    []float64         // factor on a host's upload
	free    []time.Duration   // when a host's uplink is
}

// mess is what the network does to traffic for a while.
type mess struct {
	duplicate, reorder, corrupt, unknown float64 // probabilities
}

func newNetwork(w *World) *network { return &network{w: w} }

// add makes room for one more host.
func (n *network) add() {
	size := len(n.latency) + 1
	links := n.w.sc.Links
	for i := range n.latency {
		d := n.w.between(links.Latency[0], links.Latency[1])
		n.latency[i] = append(n.latency[i], d)
	}
	row := make([]time.Duration, size)
	for i := range size - 1 {
		row[i] = n.latency[i][size-1]
	}
	n.latency = append(n.latency, row)
	for i := range n.cuts {
		n.cuts[i], n.since[i] = append(n.cuts[i], 0), append(n.since[i], 0)
	}
	n.cuts, n.since = append(n.cuts, make([]int, size)), append(n.since, make([]time.Duration, size))
	n.slow, n.free = append(n.slow, 1), append(n.free, 0)
}

// session is a connection between two processes.
type session struct {
	ends [2]*process
	over bool
	last [2]time.Duration // arrival of the newest message from that end
	held [2][]func()      // kept back by a cut, from that end
	bulk []func()         // what fails with the session
}

func (s *session) end(p *process) int {
	if s.ends[0] == p {
		return 0
	}
	return 1
}

// transfer returns when size bytes from a host that starts now are out.
func (n *network) transfer(from *host, size int) time.Duration {
	start := max(n.w.now, n.free[from.index])
	n.free[from.index] = start + time.Duration(float64(size)/(n.w.sc.Links.Upload*n.slow[from.index])*float64(time.Second))
	return n.free[from.index] - n.w.now
}

func (n *network) delay(a, b *host) time.Duration {
	return n.latency[a.index][b.index] + n.w.between(0, 2*time.Millisecond)
}

// send puts a message on its way; without a session it is lost.
func (n *network) send(p *process, to *host, message []byte) {
	s := p.sessions[to.index]
	if s == nil || s.over {
		return
	}
	times := 1
	if n.w.rng.Float64() < n.w.mess.duplicate {
		times = 2
	}
	side := s.end(p)
	for range times {
		at := n.w.now + n.transfer(p.h, len(message)) + n.delay(p.h, to)
		if n.w.rng.Float64() < n.w.mess.reorder {
			at += n.w.between(0, 800*time.Millisecond)
		} else {
			at = max(at, s.last[side])
			s.last[side] = at
		}
		q := s.ends[1-side]
		deliver := func() {
			if !s.over {
				q.receive(p.h, message)
			}
		}
		n.w.after(at-n.w.now, nil, func() {
			if n.cuts[p.h.index][to.index] > 0 {
				s.held[side] = append(s.held[side], deliver)
				return
			}
			n.w.after(0, q, deliver)
		})
	}
}

// finish ends a session for both.
func (n *network) finish(s *session) {
	if s.over {
		return
	}
	s.over = true
	for side, p := range s.ends {
		q := s.ends[1-side].h
		n.w.after(0, p, func() {
			if p.sessions[q.index] == s {
				p.sessions[q.index] = nil
			}
			p.sessionDown(q)
		})
	}
	for _, fail := range s.bulk {
		fail()
	}
	s.bulk = nil
}

// Within these bounds a dead or silent end is noticed.
const (
	idleLeast = 6 * time.Second
	idleMost  = 8 * time.Second
	dialTime  = 5 * time.Second
)

// died has the others notice that a process is gone, at once or late.
func (n *network) died(p *process) {
	for _, s := range p.sessions {
		if s != nil {
			d := n.delay(p.h, s.ends[1-s.end(p)].h)
			if n.w.rng.IntN(2) == 0 {
				d = n.w.between(0, idleMost)
			}
			n.w.after(d, nil, func() { n.finish(s) })
		}
	}
}

// doubt ends a frozen host's sessions unless it goes on in time.
func (n *network) doubt(h *host) {
	p, began := h.proc, n.w.now
	n.w.after(n.w.between(idleLeast, idleMost), nil, func() {
		if h.proc != p || !h.frozen || n.w.now-began < idleLeast {
			return
		}
		for _, s := range p.sessions {
			if s != nil {
				n.finish(s)
			}
		}
	})
}

// cut stops everything from a to b; heal lets it pass again.
func (n *network) cut(a, b int) {
	if n.cuts[a][b]++; n.cuts[a][b] > 1 {
		return
	}
	n.since[a][b] = n.w.now
	n.w.after(n.w.between(idleLeast, idleMost), nil, func() {
		if n.cuts[a][b] == 0 || n.w.now-n.since[a][b] < idleLeast {
			return
		}
		if p := n.w.hosts[a].proc; p != nil && p.sessions[b] != nil {
			n.finish(p.sessions[b])
		}
	})
}

func (n *network) heal(a, b int) {
	if n.cuts[a][b]--; n.cuts[a][b] > 0 {
		return
	}
	p := n.w.hosts[a].proc
	if p == nil || p.sessions[b] == nil {
		return
	}
	s := p.sessions[b]
	side := s.end(p)
	held := s.held[side]
	s.held[side] = nil
	for _, deliver := range held {
		n.w.after(n.latency[a][b], s.ends[1-side], deliver)
	}
}

func (n *network) open(a, b *host) bool { return n.cuts[a.index][b.index] == 0 }

var (
	errRefused = errors.New("connection refused")
	errTimeout = errors.New("no answer")
	errLost    = errors.New("connection lost")
	errStalled = errors.New("no bytes for too long")
	errNotHere = errors.New("not here")
)

// dial connects two processes; done hears whether it worked.
func (n *network) dial(p *process, to *host, done func(error)) {
	n.w.after(2*n.delay(p.h, to), p, func() {
		q := to.proc
		switch {
		case !n.open(p.h, to) || !n.open(to, p.h) || to.frozen:
			n.w.after(dialTime, p, func() { done(errTimeout) })
			return
		case q == nil:
			done(errRefused)
			return
		}
		if s := p.sessions[to.index]; s != nil && !s.over && s.ends[1-s.end(p)] == q {
			done(nil)
			return
		}
		for _, old := range []*session{p.sessions[to.index], q.sessions[p.h.index]} {
			if old != nil {
				n.finish(old)
			}
		}
		s := &session{ends: [2]*process{p, q}}
		n.w.after(0, nil, func() { // behind what finish says
			if p.dead || q.dead {
				return
			}
			p.sessions[to.index], q.sessions[p.h.index] = s, s
			n.w.after(0, p, func() { p.sessionUp(to) })
			n.w.after(0, q, func() { q.sessionUp(p.h) })
			n.w.after(0, p, func() { done(nil) })
		})
	})
}

// fetch asks a host for bytes; done hears once.
func (n *network) fetch(p *process, to *host, request wire.Request, done func([]byte, error)) {
	s := p.sessions[to.index]
	if s == nil || s.over {
		n.dial(p, to, func(err error) {
			if s := p.sessions[to.index]; err == nil && s != nil {
				n.ask(p, s, to, request, done)
				return
			}
			done(nil, errors.Join(err, errLost))
		})
		return
	}
	n.ask(p, s, to, request, done)
}

func (n *network) ask(p *process, s *session, to *host, request wire.Request, done func([]byte, error)) {
	settled, arrives := false, time.Duration(0)
	finish := func(b []byte, err error) {
		if !settled {
			settled = true
			done(b, err)
		}
	}
	s.bulk = append(s.bulk, func() { n.w.after(0, p, func() { finish(nil, errLost) }) })
	q := s.ends[1-s.end(p)]
	stall := time.Duration(n.w.spec.Deadlines.Stall) * time.Millisecond
	var watch func()
	watch = func() {
		switch {
		case settled:
		case arrives > n.w.now && n.open(to, p.h) && !to.frozen:
			n.w.after(stall, p, watch)
		default:
			finish(nil, errStalled)
		}
	}
	n.w.after(stall, p, watch)
	n.w.after(n.delay(p.h, to), q, func() {
		if settled || s.over || !n.open(p.h, to) || to.bad == keepsContribution && request.What == wire.WhatSlab {
			return
		}
		b, err := q.serve(request)
		at := n.transfer(to, len(b)+100) + n.delay(to, p.h)
		arrives = n.w.now + at
		if err == nil && n.w.rng.Float64() < n.w.mess.corrupt {
			b = slices.Clone(b)
			b[n.w.rng.IntN(len(b))] ^= 1 << n.w.rng.IntN(8)
		}
		n.w.after(at, p, func() {
			if !s.over && n.open(to, p.h) {
				finish(b, err)
			}
		})
	})
}
