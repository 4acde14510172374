package swarm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"

	"dunlin/wire"
)

const serviceCall = "dunlin.call"

// MaxCall bounds what a call asks and what is answered, bytes. It holds eight
// commands of the greatest size (wire.MaxCommand).
const MaxCall = 8*wire.MaxMessage + 64<<10

// Call asks a connected peer one thing beside the control stream and returns
// what it answers, each at most MaxCall bytes. Only peers that Answer this host
// can be called. Errors: ErrNotConnected, ErrClosed, the context's, or a broken stream.
func (h *Host) Call(ctx context.Context, to wire.PeerID, request []byte) ([]byte, error) {
	answer, err := h.call(ctx, to, request)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", to.Short(), err)
	}
	return answer, nil
}

func (h *Host) call(ctx context.Context, to wire.PeerID, request []byte) ([]byte, error) {
	if len(request) == 0 || len(request) > MaxCall {
		return nil, fmt.Errorf("%d bytes, want 1 to %d", len(request), MaxCall)
	}
	r, s, err := h.sessionWith(to)
	if err != nil {
		return nil, err
	}
	defer h.release(r)
	st, err := h.p2p.NewStream(network.WithNoDial(ctx, "a session has its connections"), r.pid, h.raft)
	if err != nil {
		return nil, err
	}
	defer st.Reset()
	defer context.AfterFunc(ctx, func() { st.Reset() })()
	defer context.AfterFunc(s.ctx, func() { st.Reset() })()
	if err := st.Scope().SetService(serviceCall); err != nil {
		return nil, err
	}
	if err := h.writeCall(st, request); err != nil {
		return nil, cause(ctx, err)
	}
	answer, err := h.readCall(st)
	if err != nil {
		return nil, cause(ctx, err)
	}
	return answer, nil
}

// cause prefers the context's error to that of the stream that it broke.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (h *Host) writeCall(st network.Stream, body []byte) error {
	st.SetWriteDeadline(time.Now().Add(h.limits.Write))
	frame := appendFrame(nil, body)
	n, err := st.Write(frame)
	h.meter.classes[wire.ClassControl].out.Add(uint64(n))
	h.sending.spend(n)
	if err != nil {
		return err
	}
	return st.CloseWrite()
}

func (h *Host) readCall(st network.Stream) ([]byte, error) {
	in := bufio.NewReaderSize(&timedReader{stream: st, limit: h.limits.Write}, 4<<10)
	size, err := readFrameSize(in, MaxCall)
	if err != nil {
		return nil, err
	}
	if err := st.Scope().ReserveMemory(size, network.ReservationPriorityMedium); err != nil {
		return nil, fmt.Errorf("memory for a call of %d bytes: %w", size, err)
	}
	defer st.Scope().ReleaseMemory(size)
	b, err := readExactly(in, size)
	if err == nil {
		h.count(wire.ClassControl, size+uvarintLen(size))
	}
	return b, err
}

// Answer has serve answer the calls of the given peers from now on, on
// goroutines of the host, until the context ends; others' calls are refused.
// An error ends a call without an answer.
func (h *Host) Answer(ctx context.Context, peers []wire.PeerID, serve func(ctx context.Context, from wire.PeerID, request []byte) ([]byte, error)) {
	var allowed []p2ppeer.ID
	for _, id := range peers {
		allowed = append(allowed, p2pID(id))
	}
	h.p2p.SetStreamHandler(h.raft, h.tracked(func(st network.Stream) {
		pid := st.Conn().RemotePeer()
		if ctx.Err() != nil || !slices.Contains(allowed, pid) || st.Scope().SetService(serviceCall) != nil {
			st.Reset()
			return
		}
		defer context.AfterFunc(ctx, func() { st.Reset() })()
		if err := h.answerCall(ctx, st, pid, serve); err != nil {
			st.Reset()
			if !errors.Is(err, context.Canceled) {
				h.log.Debug("call not answered", "peer", pid.String(), "err", err)
			}
		}
	}))
	context.AfterFunc(ctx, func() { h.p2p.RemoveStreamHandler(h.raft) })
}

func (h *Host) answerCall(ctx context.Context, st network.Stream, pid p2ppeer.ID, serve func(context.Context, wire.PeerID, []byte) ([]byte, error)) error {
	id, err := wireID(pid)
	if err != nil {
		return err
	}
	request, err := h.readCall(st)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.limits.Serve)
	defer cancel()
	answer, err := serve(ctx, id, request)
	if err != nil {
		return err
	}
	if err := h.writeCall(st, answer); err != nil {
		return err
	}
	return st.Close()
}
