package swarm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"dunlin/wire"
)

// handleBulk answers the requests that come on a stream, one after the other.
func (h *Host) handleBulk(st network.Stream) {
	if err := h.serveBulk(st); err != nil {
		st.ResetWithError(network.StreamProtocolViolation)
		return
	}
	st.Close()
}

func (h *Host) serveBulk(st network.Stream) error {
	if err := st.Scope().SetService(serviceBulk); err != nil {
		return err
	}
	r := h.lane.remote(st.Conn().RemotePeer())
	if r == nil {
		return ErrNotConnected
	}
	// The record stays while requests are answered, so that they count also in a next session.
	r, s, err := h.sessionWith(r.id)
	if err != nil {
		return err
	}
	defer h.release(r)
	defer context.AfterFunc(s.ctx, func() { st.Reset() })()
	timed := &timedReader{stream: st}
	in := bufio.NewReaderSize(timed, 4<<10)
	for timed.limit = h.limits.Stall; ; { // the first request comes with its stream
		again, err := h.serveRequest(r, s, st, in)
		if err != nil || !again {
			return err
		}
		timed.limit = bulkIdle
		if _, err := in.Peek(1); errors.Is(err, io.EOF) || isTimeout(err) {
			return nil
		}
		timed.limit = h.limits.Stall
	}
}

// serveRequest answers one request and reports whether the next may follow it.
func (h *Host) serveRequest(r *remote, s *session, st network.Stream, in *bufio.Reader) (again bool, err error) {
	done, ok := h.admitRequest(r)
	if !ok {
		return false, h.sendSmall(st, wire.ClassControl, []byte{answerBusy, 0})
	}
	defer done()
	if err := st.Scope().ReserveMemory(h.limits.Request, network.ReservationPriorityMedium); err != nil {
		return false, err
	}
	defer st.Scope().ReleaseMemory(h.limits.Request)
	req, err := h.readRequest(r, in)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, h.limits.Serve)
	answer, err := h.cfg.Handler.Serve(ctx, r.id, req.body)
	cancel()
	if s.ctx.Err() != nil {
		return false, ErrNotConnected // there is nobody to answer
	}
	if err == nil && req.offset > len(answer) {
		err = fmt.Errorf("the answer has %d bytes, not %d and more", len(answer), req.offset)
	}
	out := &answering{host: h, stream: st, turn: h.sending.turn(req.class)}
	if err != nil {
		return true, out.refuse(s.ctx, clip(printable(err.Error()), h.limits.RefusalBytes-len("…")))
	}
	return true, h.blame(r, out.send(s.ctx, in, answer[req.offset:], req.credit))
}

// blame cuts a peer off whose bulk stream ended by a fault of its own.
func (h *Host) blame(r *remote, err error) error {
	var broken *protocolError
	if errors.As(err, &broken) {
		h.cutOff(r, broken.Error())
	}
	return err
}

// answering is one answer on its way.
type answering struct {
	host   *Host
	stream network.Stream
	turn   *turn
	head   []byte // not yet sent
}

func (a *answering) refuse(ctx context.Context, text string) error {
	return a.write(ctx, append(binary.AppendUvarint([]byte{answerRefused}, uint64(len(text))), text...))
}

// send sends the answer as far as there is credit, more of which comes from in.
func (a *answering) send(ctx context.Context, in *bufio.Reader, answer []byte, credit int) error {
	a.head = binary.AppendUvarint([]byte{answerBytes}, uint64(len(answer)))
	for {
		n := min(credit, len(answer))
		if err := a.write(ctx, answer[:n]); err != nil {
			return err
		}
		answer, credit = answer[n:], credit-n
		if len(answer) == 0 {
			return nil
		}
		more, err := readCount(in)
		if err != nil {
			return err
		}
		if more == 0 {
			return &protocolError{"credit for no bytes"} // it could hold its place for ever
		}
		credit += more
	}
}

// write writes b in pieces as the upload limit allows, each of which the remote
// must take within Limits.Write.
func (a *answering) write(ctx context.Context, b []byte) error {
	for len(a.head)+len(b) > 0 {
		n, err := a.host.sending.take(ctx, a.turn, min(max(len(b), 1), bulkChunk))
		if err != nil {
			return err
		}
		n = min(n, len(b))
		piece := b[:n]
		if len(a.head) > 0 { // one packet where two would go
			piece, a.head = append(a.head, piece...), nil
		}
		if err := a.stream.SetWriteDeadline(time.Now().Add(a.host.limits.Write)); err != nil {
			return err
		}
		sent, err := a.stream.Write(piece)
		a.host.meter.classes[a.turn.class].out.Add(uint64(sent))
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// admitRequest takes a place among the requests being answered, or reports false.
func (h *Host) admitRequest(r *remote) (done func(), ok bool) {
	select {
	case r.serves <- struct{}{}:
	default:
		return nil, false
	}
	select {
	case h.serves <- struct{}{}:
		return func() { <-h.serves; <-r.serves }, true
	default:
		<-r.serves
		return nil, false
	}
}

func (h *Host) readRequest(r *remote, in *bufio.Reader) (request, error) {
	req, err := parseRequest(in, h.limits.Request)
	if err != nil {
		return request{}, h.blame(r, err)
	}
	h.count(req.class, len(appendRequest(nil, req)))
	return req, nil
}

// request is what opens a bulk stream.
type request struct {
	class  wire.Class
	offset int // bytes of the answer that the requester has
	credit int // bytes that may come before it sends more credit; at least 1
	body   []byte
}

func appendRequest(b []byte, r request) []byte {
	b = append(b, byte(r.class))
	b = binary.AppendUvarint(b, uint64(r.offset))
	b = binary.AppendUvarint(b, uint64(r.credit))
	return appendFrame(b, r.body)
}

func parseRequest(in *bufio.Reader, limit int) (r request, err error) {
	b, err := in.ReadByte()
	if err != nil {
		return r, noEOF(err)
	}
	if r.class = wire.Class(b); r.class >= wire.Classes {
		return r, &protocolError{fmt.Sprintf("a request of class %d", b)}
	}
	if r.offset, err = readCount(in); err != nil {
		return r, err
	}
	if r.credit, err = readCount(in); err != nil {
		return r, err
	}
	if r.credit == 0 {
		return r, &protocolError{"a request for no bytes"}
	}
	size, err := readFrameSize(in, limit)
	if err != nil {
		return r, err
	}
	r.body, err = readExactly(in, size)
	return r, err
}

// readCount reads a number of bytes, below 2³⁵, in its shortest form.
func readCount(in io.ByteReader) (int, error) {
	n, err := readUvarint(in)
	return int(n), err
}

// printable keeps text from the network from moving a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
