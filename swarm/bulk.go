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

const (
	serviceBulk = "dunlin.bulk"
	bulkChunk   = 32 << 10 // bytes written at a time; the watchdogs count chunks
)

// First byte of an answer.
const (
	answerBytes   = 0
	answerRefused = 1
	answerBusy    = 2
)

// Errors of Fetch that callers branch on, beside ErrNotConnected and the context's.
var (
	// ErrBusy: the remote answers as many requests as it can; ask again or elsewhere.
	ErrBusy = errors.New("the remote is busy")
	// ErrStalled: no byte came for Limits.Stall, or no answer began within Limits.Answer.
	ErrStalled = errors.New("the transfer stalled")
	// ErrUnreachable: the connection or the stream broke.
	ErrUnreachable = errors.New("the remote cannot be reached")
	// ErrTooLarge: the answer is larger than the caller wants.
	ErrTooLarge = errors.New("the answer is too large")
)

// RefusedError is the remote's own reason for not answering a request.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return "the remote refused: " + e.Text }

// Fetch asks a peer one bulk request and returns the answer, at most maxBytes
// long. The class is counted, here and at the remote. Errors: ErrNotConnected,
// ErrUnreachable, ErrStalled, ErrBusy, ErrTooLarge, *RefusedError, the context's.
func (h *Host) Fetch(ctx context.Context, from wire.PeerID, class wire.Class, req []byte, maxBytes int) ([]byte, error) {
	answer, err := h.fetch(ctx, from, class, req, maxBytes)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("fetch %s from %s: %w", class, from.Short(), err)
	}
	return answer, nil
}

func (h *Host) fetch(ctx context.Context, from wire.PeerID, class wire.Class, req []byte, maxBytes int) ([]byte, error) {
	if len(req) == 0 || len(req) > h.limits.Request || class >= wire.Classes {
		return nil, fmt.Errorf("request of %d bytes in %s, want 1 to %d", len(req), class, h.limits.Request)
	}
	r, s, err := h.sessionWith(from)
	if err != nil {
		return nil, err
	}
	defer h.release(r)
	if !h.enter() {
		return nil, ErrClosed
	}
	defer h.wg.Done()
	select {
	case r.fetches <- struct{}{}:
		defer func() { <-r.fetches }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ctx.Done():
		return nil, ErrNotConnected
	}
	st, err := h.openBulk(ctx, s, r)
	if err != nil {
		return nil, err
	}
	answer, err := h.ask(ctx, s, st, class, req, maxBytes)
	if err != nil {
		st.Reset()
		return nil, err
	}
	st.Close()
	return answer, nil
}

func (h *Host) openBulk(ctx context.Context, s *session, r *remote) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "a session has its connections"), h.limits.Answer)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	st, err := h.p2p.NewStream(ctx, r.pid, h.bulk)
	if err != nil {
		return nil, fmt.Errorf("%w: open stream: %w", ErrUnreachable, err)
	}
	if err := st.Scope().SetService(serviceBulk); err != nil {
		st.Reset()
		return nil, fmt.Errorf("stream: %w", err)
	}
	return st, nil
}

func (h *Host) ask(ctx context.Context, s *session, st network.Stream, class wire.Class, req []byte, maxBytes int) ([]byte, error) {
	// Whatever ends the wait resets the stream, which ends reads and writes.
	defer context.AfterFunc(ctx, func() { st.Reset() })()
	defer context.AfterFunc(s.ctx, func() { st.Reset() })()
	if err := h.sendBulk(st, class, appendFrame([]byte{byte(class)}, req)); err != nil {
		return nil, transferError(err)
	}
	if err := st.CloseWrite(); err != nil {
		return nil, transferError(err)
	}
	timed := &timedReader{stream: st, limit: h.limits.Answer}
	in := bufio.NewReaderSize(timed, 4<<10)
	kind, size, err := readAnswerHead(in)
	if err != nil {
		return nil, transferError(err)
	}
	timed.limit = h.limits.Stall
	limit := maxBytes
	if kind != answerBytes {
		limit = h.limits.RefusalBytes
	}
	if size > uint64(max(limit, 0)) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are wanted", ErrTooLarge, size, limit)
	}
	if err := st.Scope().ReserveMemory(int(size), network.ReservationPriorityMedium); err != nil {
		return nil, fmt.Errorf("memory for %d bytes: %w", size, err)
	}
	answer, err := readExactly(in, int(size))
	h.meter.classes[class].in.Add(uint64(1 + uvarintLen(int(size)) + len(answer)))
	if err != nil {
		return nil, transferError(err)
	}
	switch kind {
	case answerBytes:
		return answer, nil
	case answerBusy:
		return nil, ErrBusy
	case answerRefused:
		return nil, &RefusedError{Text: printable(string(answer))}
	default:
		return nil, fmt.Errorf("%w: answer of kind %d", ErrUnreachable, kind)
	}
}

// transferError gives an error of the stream its meaning.
func transferError(err error) error {
	if isTimeout(err) {
		return fmt.Errorf("%w: %w", ErrStalled, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func readAnswerHead(in *bufio.Reader) (kind byte, size uint64, err error) {
	if kind, err = in.ReadByte(); err != nil {
		return 0, 0, noEOF(err)
	}
	if size, err = binary.ReadUvarint(in); err != nil {
		return 0, 0, noEOF(err)
	}
	return kind, size, nil
}

// sendBulk writes b in chunks, each of which the remote must take within
// Limits.Write. When rates are limited, classes take turns here.
func (h *Host) sendBulk(st network.Stream, class wire.Class, b []byte) error {
	for len(b) > 0 {
		if err := st.SetWriteDeadline(time.Now().Add(h.limits.Write)); err != nil {
			return err
		}
		n, err := st.Write(b[:min(len(b), bulkChunk)])
		h.meter.classes[class].out.Add(uint64(n))
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// handleBulk answers one request.
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
	r, err := h.borrow(st.Conn().RemotePeer())
	if err != nil {
		return err
	}
	defer h.release(r)
	r.deliver.Lock()
	s := h.up(r)
	r.deliver.Unlock()
	if s == nil {
		return ErrNotConnected
	}
	defer context.AfterFunc(s.ctx, func() { st.Reset() })()
	done, ok := h.admitRequest(r)
	if !ok {
		return h.sendBulk(st, wire.ClassControl, []byte{answerBusy, 0})
	}
	defer done()
	class, req, err := h.readRequest(r, st)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, h.limits.Serve)
	defer cancel()
	answer, err := h.cfg.Handler.Serve(ctx, r.id, req)
	kind := byte(answerBytes)
	if err != nil {
		kind, answer = answerRefused, []byte(clip(printable(err.Error()), h.limits.RefusalBytes-len("…")))
	}
	head := binary.AppendUvarint([]byte{kind}, uint64(len(answer)))
	if len(answer) <= bulkChunk {
		return h.sendBulk(st, class, append(head, answer...)) // one packet where two would go
	}
	if err := h.sendBulk(st, class, head); err != nil {
		return err
	}
	return h.sendBulk(st, class, answer)
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

func (h *Host) readRequest(r *remote, st network.Stream) (wire.Class, []byte, error) {
	if err := st.Scope().ReserveMemory(h.limits.Request, network.ReservationPriorityMedium); err != nil {
		return 0, nil, err
	}
	class, req, err := parseRequest(bufio.NewReaderSize(&timedReader{stream: st, limit: h.limits.Stall}, 4<<10), h.limits.Request)
	if err == nil {
		h.meter.classes[class].in.Add(uint64(1 + uvarintLen(len(req)) + len(req)))
		return class, req, nil
	}
	var broken *protocolError
	if errors.As(err, &broken) {
		h.cutOff(r, broken.Error())
	}
	return 0, nil, err
}

func parseRequest(in *bufio.Reader, limit int) (wire.Class, []byte, error) {
	b, err := in.ReadByte()
	if err != nil {
		return 0, nil, noEOF(err)
	}
	if b >= wire.Classes {
		return 0, nil, &protocolError{fmt.Sprintf("a request of class %d", b)}
	}
	size, err := readFrameSize(in, limit)
	if err != nil {
		return 0, nil, err
	}
	req, err := readExactly(in, size)
	if err != nil {
		return 0, nil, err
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			return 0, nil, &protocolError{"bytes after a request"}
		}
		return 0, nil, err
	}
	return wire.Class(b), req, nil
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
