package swarm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"dunlin/wire"
)

const (
	serviceBulk = "dunlin.bulk"
	bulkChunk   = 32 << 10    // most bytes written at a time; the watchdogs count chunks
	bulkIdle    = time.Minute // without a request, after which a stream is closed
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
// long. Equal requests have equal answers, whoever gives them: a transfer that
// broke goes on where it stopped when it is asked for again, also of another
// peer. The class is counted, here and at the remote. Errors: ErrNotConnected,
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
		s.watch()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ctx.Done():
		return nil, ErrNotConnected
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(ErrNotConnected) })()
	answer, err := h.transfer(ctx, r, s, class, req, maxBytes, h.partials.take(req, maxBytes))
	if err != nil {
		if resumable(err) {
			h.partials.keep(req, answer)
		}
		return nil, err
	}
	return answer, nil
}

// transfer returns have, bytes of the answer that came before, and those behind
// them. On an error it returns what has come by then.
func (h *Host) transfer(ctx context.Context, r *remote, s *session, class wire.Class, body []byte, maxBytes int, have []byte) ([]byte, error) {
	credit := &credit{pace: h.receiving, turn: h.receiving.turn(class), within: h.limits.Write, wake: make(chan struct{}, 1)}
	defer credit.settle()
	// The wait for a turn comes before the stream: the remote would not wait for the request.
	if err := credit.begin(ctx, max(maxBytes-len(have), 1)); err != nil {
		return have, err
	}
	req := request{class: class, offset: len(have), credit: credit.given, body: body}
	for {
		st, used, err := h.bulkStream(ctx, s, r)
		if err != nil {
			return have, err
		}
		credit.stream = st
		answer, err := h.tryStream(ctx, s, credit, req, maxBytes, have)
		if used && errors.Is(err, ErrUnreachable) && len(answer) == len(have) && ctx.Err() == nil {
			continue // it ended while nobody used it
		}
		return answer, err
	}
}

// tryStream asks on one stream and keeps it for the next request when all went well.
func (h *Host) tryStream(ctx context.Context, s *session, credit *credit, req request, maxBytes int, have []byte) ([]byte, error) {
	st := credit.stream
	// Whatever ends the wait resets the stream, which ends reads and writes.
	stop := context.AfterFunc(ctx, func() { st.Reset() })
	answer, err := h.ask(ctx, credit, req, maxBytes, have)
	if !stop() || err != nil {
		st.Reset()
		return answer, err
	}
	select {
	case s.idle <- st:
	default:
		st.Close()
	}
	return answer, nil
}

// bulkStream returns a stream that an earlier request has used, or opens one.
func (h *Host) bulkStream(ctx context.Context, s *session, r *remote) (st network.Stream, used bool, err error) {
	select {
	case st = <-s.idle:
		return st, true, nil
	default:
		st, err = h.openBulk(ctx, s, r)
		return st, false, err
	}
}

func (h *Host) openBulk(ctx context.Context, s *session, r *remote) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, h.limits.Answer)
	defer cancel()
	lane, err := h.reachLane(ctx, r, s)
	if err != nil {
		return nil, fmt.Errorf("%w: no connection for bulk: %w", ErrUnreachable, err)
	}
	st, err := h.lane.p2p.NewStream(network.WithNoDial(ctx, "it was dialled"), lane, h.bulk)
	if err != nil {
		return nil, fmt.Errorf("%w: open stream: %w", ErrUnreachable, err)
	}
	if err := st.Scope().SetService(serviceBulk); err != nil {
		st.Reset()
		return nil, fmt.Errorf("stream: %w", err)
	}
	return st, nil
}

// ask sends a request and takes in its answer behind have.
func (h *Host) ask(ctx context.Context, credit *credit, req request, maxBytes int, have []byte) ([]byte, error) {
	st, class := credit.stream, req.class
	if err := h.sendSmall(st, class, appendRequest(nil, req)); err != nil {
		return have, transferError(err)
	}
	timed := &timedReader{stream: st, limit: h.limits.Answer}
	in := bufio.NewReaderSize(timed, 4<<10)
	kind, size, err := readAnswerHead(in)
	if err != nil {
		return have, transferError(err)
	}
	timed.limit = h.limits.Stall
	limit := maxBytes - len(have)
	if kind != answerBytes {
		limit = h.limits.RefusalBytes
	}
	if size > uint64(max(limit, 0)) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are wanted", ErrTooLarge, size, limit)
	}
	if err := st.Scope().ReserveMemory(int(size), network.ReservationPriorityMedium); err != nil {
		return have, fmt.Errorf("memory for %d bytes: %w", size, err)
	}
	defer st.Scope().ReleaseMemory(int(size))
	if kind != answerBytes {
		text, err := readExactly(in, int(size))
		h.count(class, 1+uvarintLen(int(size))+len(text))
		return have, refusal(kind, text, err)
	}
	h.count(class, 1+uvarintLen(int(size)))
	answer, err := credit.read(ctx, in, have, int(size))
	h.meter.classes[class].in.Add(uint64(len(answer) - len(have)))
	if err != nil {
		return answer, transferError(err)
	}
	if in.Buffered() > 0 {
		return answer, fmt.Errorf("%w: bytes behind the answer", ErrUnreachable)
	}
	return answer, nil
}

// count takes in bytes that no transfer asked for: heads and refusals.
func (h *Host) count(class wire.Class, n int) {
	h.meter.classes[class].in.Add(uint64(n))
	h.receiving.spend(n)
}

// refusal is the error of an answer that holds no bytes.
func refusal(kind byte, text []byte, err error) error {
	switch {
	case err != nil:
		return transferError(err)
	case kind == answerBusy:
		return ErrBusy
	case kind == answerRefused:
		return &RefusedError{Text: printable(string(text))}
	default:
		return fmt.Errorf("%w: answer of kind %d", ErrUnreachable, kind)
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

// sendSmall writes what waits for no turn: requests, and the word that this host is busy.
func (h *Host) sendSmall(st network.Stream, class wire.Class, b []byte) error {
	if err := st.SetWriteDeadline(time.Now().Add(h.limits.Write)); err != nil {
		return err
	}
	n, err := st.Write(b)
	h.meter.classes[class].out.Add(uint64(n))
	h.sending.spend(n)
	return err
}
