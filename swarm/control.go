package swarm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"dunlin/wire"
)

const (
	serviceControl = "dunlin.control"
	helloVersion   = 2
	// helloTaken is the one byte that flows back on a control stream: the lane in its hello may connect.
	helloTaken = 1
	// controlBatch is up to which size messages that wait travel in one write, and
	// controlBuffer what a control stream keeps to read into, bytes: little, since a
	// coordinator has one for every peer.
	controlBatch, controlBuffer = 16 << 10, 2 << 10
)

// Send queues one control message for a peer and returns at once. The message
// must not be changed afterwards. Errors: ErrNotConnected, ErrQueueFull,
// ErrClosed, or one about the message's size. No error does not mean arrival:
// a session that ends takes its queue with it.
func (h *Host) Send(to wire.PeerID, msg []byte) error {
	if len(msg) == 0 || len(msg) > h.limits.Message {
		return fmt.Errorf("send to %s: message of %d bytes, want 1 to %d", to.Short(), len(msg), h.limits.Message)
	}
	r, s, err := h.sessionWith(to)
	if err != nil {
		return fmt.Errorf("send to %s: %w", to.Short(), err)
	}
	defer h.release(r)
	if err := s.queue.push(h.frames.of(msg)); err != nil {
		if errors.Is(err, ErrQueueFull) {
			h.meter.dropped.Add(1)
		}
		return fmt.Errorf("send to %s: %w", to.Short(), err)
	}
	return nil
}

// writeControl says hello, by which the remote knows this process from one before
// it, and sends what the session's queue holds until the session ends.
func (h *Host) writeControl(r *remote, s *session) {
	st, err := h.openControl(r, s)
	if err != nil {
		h.fail(r, s, fmt.Sprintf("open control stream: %v", err))
		return
	}
	stop := context.AfterFunc(s.ctx, func() { st.Reset() })
	defer stop()
	defer st.Reset()
	if !h.spawn(func() { h.watchControl(r, s, st) }) {
		return
	}
	var late time.Time
	for out := appendHello(nil, h.newHello()); ; {
		if now := time.Now(); late.Sub(now) < h.limits.Write { // not at each write: to set it costs as much
			late = now.Add(h.limits.Write * 3 / 2)
			st.SetWriteDeadline(late)
		}
		n, err := st.Write(out)
		h.meter.classes[wire.ClassControl].out.Add(uint64(n))
		h.sending.spend(n)
		if err != nil {
			if isTimeout(err) {
				err = fmt.Errorf("it took no bytes for %s", h.limits.Write)
			}
			h.fail(r, s, fmt.Sprintf("write to control stream: %v", err))
			return
		}
		if !h.awaitHello(r, s) {
			return
		}
		run := s.queue.take(s.ctx, controlBatch)
		if run == nil {
			return
		}
		out = run[0]
		if out == nil || len(run) > 1 {
			out = h.joined(run)
		}
	}
}

// joined makes one write of several frames; nil stands for a call.
func (h *Host) joined(run [][]byte) []byte {
	var out []byte
	for _, frame := range run {
		if frame == nil {
			frame = appendAddrs(appendFrame(nil, nil), h.laneAddrs())
		}
		out = append(out, frame...)
	}
	return out
}

// frames makes a frame of each message once, though the message goes to many
// peers in a row: a coordinator's are large.
type frames struct {
	mu         sync.Mutex
	msg, frame []byte // the last
}

// of returns the frame of a message, which does not change any more.
func (f *frames) of(msg []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.msg) != len(msg) || &f.msg[0] != &msg[0] {
		f.msg, f.frame = msg, appendFrame(make([]byte, 0, uvarintLen(len(msg))+len(msg)), msg)
	}
	return f.frame
}

// awaitHello waits until who is there has proved to know the run: before that, nothing is told. It reports false when the
// session is over.
func (h *Host) awaitHello(r *remote, s *session) bool {
	select {
	case <-s.told:
		return true
	default:
	}
	late := time.NewTimer(h.limits.Write)
	defer late.Stop()
	select {
	case <-s.told:
		return true
	case <-late.C:
		h.fail(r, s, fmt.Sprintf("it said no hello within %s", h.limits.Write))
	case <-s.ctx.Done():
	}
	return false
}

// openControl opens the stream that this host writes on. Who dialled does so at
// once; who was dialled waits for the hello and answers on its connection: a peer
// that tries several addresses leaves others behind, which look as good from here
// until it closes them.
func (h *Host) openControl(r *remote, s *session) (network.Stream, error) {
	var c network.Conn
	for _, open := range h.p2p.Network().ConnsToPeer(r.pid) {
		direct := c == nil || c.Stat().Limited && !open.Stat().Limited
		if open.Stat().Direction == network.DirOutbound && !open.IsClosed() && direct {
			c = open
		}
	}
	if c == nil {
		if !h.awaitHello(r, s) {
			return nil, errors.New("it said no hello")
		}
		c = s.inbound.Conn()
	}
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(s.ctx, "control is small"), h.limits.Dial)
	defer cancel()
	st, err := c.NewStream(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.speakControl(ctx, st); err != nil {
		st.Reset()
		return nil, err
	}
	return st, nil
}

// speakControl agrees with the remote on what a stream is for.
func (h *Host) speakControl(ctx context.Context, st network.Stream) error {
	defer context.AfterFunc(ctx, func() { st.Reset() })()
	if err := st.SetProtocol(h.control); err != nil {
		return err
	}
	if err := st.Scope().SetService(serviceControl); err != nil {
		return err
	}
	return multistream.SelectProtoOrFail(h.control, st)
}

// watchControl reads the other side of our own control stream: one byte when
// the remote has taken the hello, and then the end when it gives the stream up,
// which an idle writer would not notice.
func (h *Host) watchControl(r *remote, s *session, st network.Stream) {
	var b [1]byte
	n, err := st.Read(b[:])
	if n > 0 && b[0] == helloTaken {
		close(s.heard)
		n, err = st.Read(b[:])
	}
	if n > 0 {
		h.cutOff(r, "it wrote on a control stream that is not its own")
		return
	}
	h.ended(r, s, fmt.Sprintf("the remote closed our control stream: %v", err))
}

// handleControl serves a control stream that a remote opened.
func (h *Host) handleControl(st network.Stream) {
	defer st.Reset()
	r, err := h.borrow(st.Conn().RemotePeer())
	if err != nil {
		return
	}
	defer h.release(r)
	if err := h.admitControl(st); err != nil {
		h.log.Debug("control stream refused", "peer", r.id.Short(), "err", err)
		return
	}
	timed := &timedReader{stream: st, limit: h.limits.Write}
	in := bufio.NewReaderSize(timed, controlBuffer)
	hi, err := readHello(in)
	if err != nil {
		h.endControl(r, nil, err)
		return
	}
	lane, err := h.laneOf(r.id, hi)
	if err != nil {
		h.endControl(r, nil, err)
		return
	}
	s := h.adopt(r, st, hi.instance, lane)
	if s == nil {
		return
	}
	st.SetWriteDeadline(time.Now().Add(h.limits.Write))
	if _, err := st.Write([]byte{helloTaken}); err != nil {
		h.endControl(r, s, err)
		return
	}
	h.endControl(r, s, h.readMessages(r, s, timed, in))
}

func (h *Host) admitControl(st network.Stream) error {
	if err := st.Scope().SetService(serviceControl); err != nil {
		return err
	}
	return st.Scope().ReserveMemory(controlBuffer, network.ReservationPriorityMedium)
}

// adopt makes st the inbound control stream of the peer's session. A second
// stream in one session means that the remote began a new one, perhaps as a
// new process: ours ends too, and the next begins.
func (h *Host) adopt(r *remote, st network.Stream, instance uint64, lane p2ppeer.AddrInfo) *session {
	r.deliver.Lock()
	s := r.session.Load()
	if s != nil && (s.inbound != nil || s.instance != 0 && s.instance != instance) {
		if !r.restarts.Allow() {
			r.deliver.Unlock()
			h.cutOff(r, "it replaces its control stream too often")
			return nil
		}
		h.downLocked(r, s, "the remote began a new session")
		h.closeConnections(r.pid, st.Conn(), network.ConnSupplanted)
	}
	s = h.up(r)
	if s != nil {
		s.inbound, s.instance, s.lane = st, instance, lane
		h.lane.expect(lane.ID, lane.Addrs, r)
		close(s.told)
	}
	r.deliver.Unlock()
	return s
}

// endControl deals with the end of an inbound control stream.
func (h *Host) endControl(r *remote, s *session, err error) {
	var broken *protocolError
	switch {
	case errors.As(err, &broken):
		h.cutOff(r, broken.Error())
	case s != nil:
		h.ended(r, s, fmt.Sprintf("its control stream ended: %v", err))
	}
}

// readMessages delivers messages until the stream fails or the session ends.
func (h *Host) readMessages(r *remote, s *session, timed *timedReader, in *bufio.Reader) error {
	scope := timed.stream.Scope()
	for {
		timed.idle = true // between messages a peer may be silent for as long as it likes
		if _, err := in.Peek(1); err != nil {
			return err
		}
		timed.idle = false
		size, err := readMessageSize(in, h.limits.Message)
		if err != nil {
			return err
		}
		msg, err := readMessage(in, scope, size)
		if err != nil {
			return err
		}
		var addrs []multiaddr.Multiaddr // of a call
		if size == 0 {
			if addrs, err = readAddrs(in); err != nil {
				return err
			}
		}
		h.count(wire.ClassControl, size+uvarintLen(size))
		if !r.messages.Allow() || !r.bytes.AllowN(time.Now(), size) {
			return &protocolError{"it floods: more control messages than any peer needs"}
		}
		r.deliver.Lock()
		if r.session.Load() != s {
			r.deliver.Unlock()
			return ErrNotConnected
		}
		if size == 0 {
			h.called(s, addrs)
		} else {
			h.cfg.Handler.Message(r.id, msg)
		}
		r.deliver.Unlock()
	}
}

// readMessage reads a frame whose memory the stream's scope pays for meanwhile.
func readMessage(in io.Reader, scope network.StreamScope, size int) ([]byte, error) {
	if err := scope.ReserveMemory(size, network.ReservationPriorityMedium); err != nil {
		return nil, fmt.Errorf("memory for a message of %d bytes: %w", size, err)
	}
	defer scope.ReleaseMemory(size)
	return readExactly(in, size)
}

// protocolError is a fault that only a broken or hostile peer commits.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

func appendFrame(b, msg []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(msg))), msg...)
}

// readFrameSize reads a length in 1..limit, in its shortest form.
func readFrameSize(in io.ByteReader, limit int) (int, error) {
	size, err := readMessageSize(in, limit)
	if err == nil && size == 0 {
		return 0, &protocolError{fmt.Sprintf("a frame of 0 bytes, want 1 to %d", limit)}
	}
	return size, err
}

// readMessageSize reads a length in 0..limit; 0 calls for a connection for bulk.
func readMessageSize(in io.ByteReader, limit int) (int, error) {
	size, err := readUvarint(in)
	if err != nil {
		return 0, err
	}
	if size > uint64(limit) {
		return 0, &protocolError{fmt.Sprintf("a message of %d bytes, want 1 to %d", size, limit)}
	}
	return int(size), nil
}

// readUvarint reads a number below 2³⁵ in its shortest form.
func readUvarint(in io.ByteReader) (uint64, error) {
	var n uint64
	for shift := uint(0); ; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, noEOF(err)
		}
		if shift > 28 || b == 0 && shift > 0 {
			return 0, &protocolError{"garbage where a length should be"}
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
}

// readExactly reads size bytes. Memory grows with what arrives, not with what was announced.
func readExactly(in io.Reader, size int) ([]byte, error) {
	b, err := readBehind(nil, in, size)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// readBehind appends size bytes to have, or as many as come before an error.
func readBehind(have []byte, in io.Reader, size int) ([]byte, error) {
	const step = 64 << 10
	end := len(have) + size
	buf := slices.Grow(have, min(size, step))
	for len(buf) < end {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(end, 2*cap(buf)))
			copy(grown, buf)
			buf = grown
		}
		n, err := in.Read(buf[len(buf):min(end, cap(buf))])
		buf = buf[:len(buf)+n]
		if err != nil && len(buf) < end {
			return buf, noEOF(err)
		}
	}
	return buf, nil
}

// noEOF says that an end in mid-frame is no regular end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func uvarintLen(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(n))
}

// timedReader is the watchdog of a transfer: unless idle is set, each read must
// bring bytes within limit.
type timedReader struct {
	stream network.Stream
	limit  time.Duration
	idle   bool
}

func (t *timedReader) Read(b []byte) (int, error) {
	var deadline time.Time
	if !t.idle {
		deadline = time.Now().Add(t.limit)
	}
	if err := t.stream.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return t.stream.Read(b)
}

// isTimeout reports whether err says that a deadline passed.
func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
