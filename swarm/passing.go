package swarm

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"

	"dunlin/wire"
)

const servicePassing = "dunlin.passing"

// PassingHandler is a Handler that takes what stages of a pipeline pass to each
// other. While a call lasts nothing more is read from that peer's stream, so that
// what a slow receiver cannot take waits at its sender, whose queue is bounded.
type PassingHandler interface {
	// Passed delivers one message, in the sender's order. The bytes are the handler's. An
	// error says that nobody can read it: its sender is cut off.
	Passed(from wire.PeerID, msg []byte) error
}

// Pass queues one message of a pipeline for a peer and returns at once; it is at
// most Limits.Passing long and must not be changed afterwards. All messages to a
// peer go over one stream between the lanes. Errors and what no error means are
// those of Send.
func (h *Host) Pass(to wire.PeerID, msg []byte) error {
	if len(msg) == 0 || len(msg) > h.limits.Passing {
		return fmt.Errorf("pass to %s: message of %d bytes, want 1 to %d", to.Short(), len(msg), h.limits.Passing)
	}
	r, s, err := h.sessionWith(to)
	if err != nil {
		return fmt.Errorf("pass to %s: %w", to.Short(), err)
	}
	defer h.release(r)
	if err := s.passing.push(msg); err != nil {
		if errors.Is(err, ErrQueueFull) {
			h.meter.dropped.Add(1)
		}
		return fmt.Errorf("pass to %s: %w", to.Short(), err)
	}
	if s.writing.CompareAndSwap(false, true) && !h.spawn(func() { h.writePassing(r, s) }) {
		return fmt.Errorf("pass to %s: %w", to.Short(), ErrClosed)
	}
	return nil
}

// passingLimits bounds a session's queue of passed messages: two of the largest.
func (l Limits) passingLimits() Limits {
	l.QueueBytes, l.QueueTotal = 2*l.Passing, 16*l.Passing
	return l
}

// writePassing sends what a session passes until it ends. A stream that breaks ends the
// session, so that no message is lost unnoticed.
func (h *Host) writePassing(r *remote, s *session) {
	st, err := h.openPassing(s, r)
	if err != nil {
		h.fail(r, s, fmt.Sprintf("open stream between stages: %v", err))
		return
	}
	defer st.Reset()
	defer context.AfterFunc(s.ctx, func() { st.Reset() })()
	for {
		run := s.passing.take(s.ctx, bulkChunk)
		if run == nil {
			return
		}
		for _, msg := range run {
			out := &answering{host: h, stream: st, turn: h.sending.turn(wire.ClassActivation)}
			if err := out.write(s.ctx, appendFrame(nil, msg)); err != nil {
				if isTimeout(err) {
					err = fmt.Errorf("it took no bytes for %s", h.limits.Write)
				}
				h.fail(r, s, fmt.Sprintf("write between stages: %v", err))
				return
			}
		}
	}
}

func (h *Host) openPassing(s *session, r *remote) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(s.ctx, h.limits.Dial)
	defer cancel()
	lane, err := h.reachLane(ctx, r, s)
	if err != nil {
		return nil, err
	}
	st, err := h.lane.p2p.NewStream(network.WithNoDial(ctx, "it was dialled"), lane, h.passing)
	if err != nil {
		return nil, err
	}
	if err := st.Scope().SetService(servicePassing); err != nil {
		st.Reset()
		return nil, err
	}
	return st, nil
}

// handlePassing takes in a stream of passed messages.
func (h *Host) handlePassing(st network.Stream) {
	defer st.Reset()
	handler, ok := h.cfg.Handler.(PassingHandler)
	known := h.lane.remote(st.Conn().RemotePeer())
	if !ok || known == nil || st.Scope().SetService(servicePassing) != nil {
		return
	}
	r, s, err := h.sessionWith(known.id)
	if err != nil {
		return
	}
	defer h.release(r)
	if !s.reading.CompareAndSwap(false, true) {
		h.cutOff(r, "it opened a second stream between stages")
		return
	}
	defer context.AfterFunc(s.ctx, func() { st.Reset() })()
	err = h.blame(r, h.readPassing(r, s, st, handler))
	h.fail(r, s, fmt.Sprintf("the stream between stages ended: %v", err))
}

func (h *Host) readPassing(r *remote, s *session, st network.Stream, handler PassingHandler) error {
	timed := &timedReader{stream: st, limit: h.limits.Stall}
	in := bufio.NewReaderSize(timed, bulkChunk)
	turn := h.receiving.turn(wire.ClassActivation)
	for {
		timed.idle = in.Buffered() == 0
		if _, err := in.Peek(1); err != nil {
			return noEOF(err)
		}
		timed.idle = false
		size, err := readFrameSize(in, h.limits.Passing)
		if err != nil {
			return err
		}
		if err := st.Scope().ReserveMemory(size, network.ReservationPriorityMedium); err != nil {
			return fmt.Errorf("memory for %d bytes: %w", size, err)
		}
		msg, err := readExactly(&pacedReader{in, h, s.ctx, turn}, size)
		if err == nil {
			if unread := handler.Passed(r.id, msg); unread != nil {
				err = &protocolError{unread.Error()}
			}
		}
		st.Scope().ReleaseMemory(size)
		if err != nil {
			return err
		}
	}
}

// pacedReader reads as the download limit allows; what it leaves stays with the
// sender by the stream's own flow control.
type pacedReader struct {
	in   *bufio.Reader
	host *Host
	ctx  context.Context //nolint:containedctx // the session's
	turn *turn
}

func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.host.receiving.take(p.ctx, p.turn, min(len(b), bulkChunk))
	if err != nil {
		return 0, err
	}
	got, err := p.in.Read(b[:n])
	p.host.receiving.spend(got - n)
	p.host.meter.classes[wire.ClassActivation].in.Add(uint64(got))
	return got, err
}
