package swarm

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"dunlin/wire"
)

// A host that awaits something of a peer asks it for signs of life: a byte on a
// stream of its own, which the remote sends back. The kernel of a machine whose
// process is frozen still acknowledges, and one that is cut off says nothing for
// a quarter of an hour, so neither shows in the connection soon enough.

const serviceVigil = "dunlin.vigil"

// Await names the peers of whom the caller awaits something now, in place of
// those named before. A session with one of them, open or yet to begin, ends when
// it gives no sign of life for Limits.Silence, as does one with a peer whom this
// host has asked for bulk. Other sessions may be silent.
func (h *Host) Await(peers []wire.PeerID) {
	awaited := make(map[wire.PeerID]bool, len(peers))
	for _, id := range peers {
		awaited[id] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.awaited {
		if r := h.peers[p2pID(id)]; r != nil && !awaited[id] {
			r.awaited.Store(false)
		}
	}
	for _, id := range peers {
		if r := h.peers[p2pID(id)]; r != nil {
			r.awaited.Store(true)
			if s := r.session.Load(); s != nil {
				s.watch()
			}
		}
	}
	h.awaited = awaited
}

// watch has the session's vigil look whether something is awaited.
func (s *session) watch() {
	select {
	case s.vigil <- struct{}{}:
	default:
	}
}

// owing reports whether something is awaited of the remote.
func (r *remote) owing() bool { return r.awaited.Load() || len(r.fetches) > 0 }

// keepVigil asks for signs of life while something is awaited, until the session ends.
func (h *Host) keepVigil(r *remote, s *session) {
	var st network.Stream
	defer func() {
		if st != nil {
			st.Reset()
		}
	}()
	pause := time.NewTimer(0)
	defer pause.Stop()
	select {
	case <-s.heard:
	case <-s.ctx.Done():
		return
	}
	// Once at the beginning, for the time that the way takes: nothing is awaited yet.
	if first, _ := h.signOfLife(r, s, nil); first != nil { // without an answer the time is not known
		first.Reset()
	}
	for {
		for r.owing() {
			pause.Reset(h.limits.Silence / 2)
			select {
			case <-s.ctx.Done():
				return
			case <-pause.C:
			}
			if !r.owing() {
				break
			}
			alive, came := context.WithCancel(s.ctx)
			h.spawn(func() { h.knock(alive, r, s) })
			var err error
			st, err = h.signOfLife(r, s, st)
			came()
			if err != nil && s.ctx.Err() == nil {
				h.fail(r, s, fmt.Sprintf("no sign of life within %s: %v", h.limits.Silence, err))
				return
			}
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.vigil:
		}
	}
}

// signOfLife has one byte come back on st, or on a new stream where there is none.
func (h *Host) signOfLife(r *remote, s *session, st network.Stream) (network.Stream, error) {
	deadline := time.Now().Add(h.limits.Silence)
	if st == nil {
		ctx, cancel := context.WithDeadline(network.WithAllowLimitedConn(network.WithNoDial(s.ctx, "a session has its connections"), "control is small"), deadline)
		defer cancel()
		var err error
		if st, err = h.p2p.NewStream(ctx, r.pid, h.life); err != nil {
			return nil, err
		}
		if err := st.Scope().SetService(serviceVigil); err != nil {
			return st, err
		}
	}
	if err := st.SetDeadline(deadline); err != nil {
		return st, err
	}
	b := []byte{0}
	began := time.Now()
	if _, err := st.Write(b); err != nil {
		return st, err
	}
	h.meter.classes[wire.ClassControl].out.Add(1)
	h.sending.spend(1)
	n, err := st.Read(b)
	h.count(wire.ClassControl, n)
	if err == nil {
		r.away.Store(int64(time.Since(began)))
	}
	return st, err
}

// Way is what is known of the way to a peer.
type Way struct {
	RTT     time.Duration // there and back for one byte of control, when last tried; 0 while not known
	Relayed bool          // through another peer
}

// Ways tells how the peers with a session are reached.
func (h *Host) Ways() map[wire.PeerID]Way {
	h.mu.Lock()
	open := make([]*remote, 0, len(h.peers))
	for _, r := range h.peers {
		if r.session.Load() != nil {
			open = append(open, r)
		}
	}
	h.mu.Unlock()
	ways := make(map[wire.PeerID]Way, len(open))
	for _, r := range open {
		ways[r.id] = Way{RTT: time.Duration(r.away.Load()), Relayed: h.p2p.Network().Connectedness(r.pid) == network.Limited}
	}
	return ways
}

// answerVigil sends back what comes, no faster than anyone needs.
func (h *Host) answerVigil(st network.Stream) {
	defer st.Reset()
	r, err := h.borrow(st.Conn().RemotePeer())
	if err != nil {
		return
	}
	defer h.release(r)
	s := r.session.Load()
	if s == nil || st.Scope().SetService(serviceVigil) != nil {
		return
	}
	defer context.AfterFunc(s.ctx, func() { st.Reset() })()
	b := []byte{0}
	for {
		if _, err := st.Read(b); err != nil {
			return
		}
		h.count(wire.ClassControl, 1)
		if !r.messages.Allow() {
			h.cutOff(r, "it asks for more signs of life than any peer needs")
			return
		}
		if err := st.SetWriteDeadline(time.Now().Add(h.limits.Write)); err != nil {
			return
		}
		if _, err := st.Write(b); err != nil {
			return
		}
		h.meter.classes[wire.ClassControl].out.Add(1)
		h.sending.spend(1)
	}
}
