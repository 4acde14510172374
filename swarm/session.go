package swarm

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"

	"dunlin/wire"
)

// remote is what the host keeps about one peer while it is connected,
// remembered or in use by a goroutine.
type remote struct {
	id  wire.PeerID
	pid p2ppeer.ID

	// deliver serialises the handler's calls about this peer, and with them
	// the beginnings and ends of its sessions.
	deliver sync.Mutex
	session atomic.Pointer[session] // written under deliver

	messages *rate.Limiter // control messages it may send
	bytes    *rate.Limiter // the same in bytes
	restarts *rate.Limiter // sessions it may replace
	fetches  chan struct{} // a token for each own request to it
	serves   chan struct{} // a token for each of its requests being answered
	awaited  atomic.Bool   // Await named it
	away     atomic.Int64  // ns there and back, of the last sign of life; 0 before one

	// Guarded by Host.mu.
	listens []multiaddr.Multiaddr // where it says that it listens
	users   int                   // goroutines holding this record
	keeper  *keeper               // not nil while Connect's promise holds
}

// session is the time between Connected and Disconnected.
type session struct {
	ctx      context.Context //nolint:containedctx // ends with the session
	cancel   context.CancelFunc
	queue    *sendQueue
	began    time.Time
	instance uint64         // of the remote process, 0 until its hello; guarded by remote.deliver
	inbound  network.Stream // its control stream; guarded by remote.deliver

	told    chan struct{}    // closed when the remote's hello has come
	lane    p2ppeer.AddrInfo // of the remote; read after told
	heard   chan struct{}    // closed when the remote has taken ours, and with it this host's lane
	vigil   chan struct{}    // has a token when something may be awaited of the remote
	open    sync.Map         // of addresses over QUIC: whether the port was open when first knocked at
	passing *sendQueue       // what stages of a pipeline pass
	writing atomic.Bool      // a goroutine sends it
	reading atomic.Bool      // a goroutine takes in the remote's
	calling atomic.Bool      // a connection for bulk is being made because the remote asks for it

	idle chan network.Stream // for bulk, between two requests of this host
}

// A remote whose hello replaces the session may do so so often.
const (
	restartEvery = 6 * time.Second
	restartBurst = 10
)

// borrow finds or makes the record of pid; the caller owes a release.
func (h *Host) borrow(pid p2ppeer.ID) (*remote, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	r := h.peers[pid]
	if r == nil {
		id, err := wireID(pid)
		if err != nil {
			return nil, err
		}
		r = &remote{
			id: id, pid: pid,
			messages: rate.NewLimiter(rate.Limit(h.limits.MessageRate), h.limits.MessageBurst),
			bytes:    rate.NewLimiter(rate.Limit(h.limits.ByteRate), h.limits.ByteBurst),
			restarts: rate.NewLimiter(rate.Every(restartEvery), restartBurst),
			fetches:  make(chan struct{}, h.limits.Fetches),
			serves:   make(chan struct{}, h.limits.Serves),
		}
		r.awaited.Store(h.awaited[id])
		h.peers[pid] = r
	}
	r.users++
	return r, nil
}

// release forgets the record when nothing holds it any more.
func (h *Host) release(r *remote) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.users--
	if r.users == 0 && r.keeper == nil && r.session.Load() == nil {
		delete(h.peers, r.pid)
	}
}

// sessionWith returns the session with id and its record, which the caller must release.
func (h *Host) sessionWith(id wire.PeerID) (*remote, *session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, ErrClosed
	}
	r := h.peers[p2pID(id)]
	if r == nil {
		return nil, nil, ErrNotConnected
	}
	s := r.session.Load()
	if s == nil {
		return nil, nil, ErrNotConnected
	}
	r.users++
	return r, s, nil
}

// up returns the session with r and begins one where a connection stands but
// no session does. It returns nil without a connection. The caller holds r.deliver.
func (h *Host) up(r *remote) *session {
	if s := r.session.Load(); s != nil {
		return s
	}
	if h.ctx.Err() != nil || !h.alive(r.pid) {
		return nil
	}
	s := &session{
		queue: newSendQueue(h.limits, &h.queued), passing: newSendQueue(h.limits.passingLimits(), &h.passed), began: time.Now(),
		told: make(chan struct{}), heard: make(chan struct{}), vigil: make(chan struct{}, 1),
		idle: make(chan network.Stream, h.limits.Fetches),
	}
	s.ctx, s.cancel = context.WithCancel(h.ctx)
	r.session.Store(s)
	if !h.spawn(func() { h.writeControl(r, s) }) || !h.spawn(func() { h.keepVigil(r, s) }) {
		r.session.Store(nil)
		s.cancel()
		return nil
	}
	h.p2p.ConnManager().Protect(r.pid, "session")
	h.mu.Lock()
	if r.keeper != nil {
		r.keeper.nudge() // it may be pausing between attempts
	}
	h.mu.Unlock()
	h.log.Debug("session began", "peer", r.id.Short(), "at", h.ends(r.pid))
	h.cfg.Handler.Connected(r.id)
	return s
}

// down ends session s if it still stands.
func (h *Host) down(r *remote, s *session, reason string) {
	r.deliver.Lock()
	defer r.deliver.Unlock()
	h.downLocked(r, s, reason)
}

// downLocked is down for a caller that holds r.deliver.
func (h *Host) downLocked(r *remote, s *session, reason string) {
	if s == nil || r.session.Load() != s {
		return
	}
	r.session.Store(nil)
	s.cancel()
	s.queue.close()
	s.passing.close()
	if s.inbound != nil {
		s.inbound.Reset()
		left := h.lane.forget(s.lane.ID)
		h.spawn(func() {
			for _, c := range left {
				_ = c.Close() // it may be closed already
			}
		})
	}
	h.p2p.ConnManager().Unprotect(r.pid, "session")
	h.log.Debug("session ended", "peer", r.id.Short(), "reason", reason)
	h.cfg.Handler.Disconnected(r.id)
	h.mu.Lock()
	if r.users == 0 && r.keeper == nil {
		delete(h.peers, r.pid)
	}
	h.mu.Unlock()
}

// fail ends the session and closes every connection to the peer, so that both
// ends begin afresh and no message is lost unnoticed.
func (h *Host) fail(r *remote, s *session, reason string) {
	r.deliver.Lock()
	defer r.deliver.Unlock()
	if r.session.Load() != s {
		return // the connections belong to a later session
	}
	h.closeConnections(r.pid, nil, network.ConnNoError)
	h.downLocked(r, s, reason)
}

// ended is fail where a control stream came to its end. It spares a connection of
// the peer's that is younger than the session: where the process was started
// again, it is the new one's, which says hello in a moment.
func (h *Host) ended(r *remote, s *session, reason string) {
	r.deliver.Lock()
	defer r.deliver.Unlock()
	if r.session.Load() != s {
		return
	}
	for _, c := range h.p2p.Network().ConnsToPeer(r.pid) {
		if stat := c.Stat(); stat.Direction != network.DirInbound || stat.Opened.Before(s.began) {
			c.CloseWithError(network.ConnNoError)
		}
	}
	h.downLocked(r, s, reason)
}

// cutOff keeps a misbehaving peer out for a while.
func (h *Host) cutOff(r *remote, reason string) {
	h.gate.shun(r.pid, CutOff{Peer: r.id, Reason: reason, Until: time.Now().Add(h.limits.Shun)})
	h.log.Warn("peer cut off", "peer", r.id.Short(), "reason", reason, "for", h.limits.Shun)
	h.closeConnections(r.pid, nil, network.ConnProtocolViolation)
	h.down(r, r.session.Load(), "cut off: "+reason)
}

// closeConnections closes all connections to pid but keep.
func (h *Host) closeConnections(pid p2ppeer.ID, keep network.Conn, code network.ConnErrorCode) {
	for _, c := range h.p2p.Network().ConnsToPeer(pid) {
		if keep == nil || c.ID() != keep.ID() {
			c.CloseWithError(code)
		}
	}
}

// connectionClosed ends the session whose last connection is gone.
func (h *Host) connectionClosed(c network.Conn) {
	if h.alive(c.RemotePeer()) {
		return
	}
	r, err := h.borrow(c.RemotePeer())
	if err != nil {
		return
	}
	defer h.release(r)
	r.deliver.Lock()
	defer r.deliver.Unlock()
	if !h.alive(r.pid) {
		h.downLocked(r, r.session.Load(), "connection closed")
	}
}

// ends lists where the connections to pid lead.
func (h *Host) ends(pid p2ppeer.ID) []string {
	var ends []string
	for _, c := range h.p2p.Network().ConnsToPeer(pid) {
		ends = append(ends, c.RemoteMultiaddr().String())
	}
	return ends
}

// alive reports whether a connection to pid is open, if only through a relay.
func (h *Host) alive(pid p2ppeer.ID) bool {
	c := h.p2p.Network().Connectedness(pid)
	return c == network.Connected || c == network.Limited
}

// sendQueue holds the frames, or the messages between stages, waiting for one peer, within three
// bounds: count and bytes of the peer, bytes of the whole host.
type sendQueue struct {
	limits Limits
	total  *atomic.Int64
	wake   chan struct{} // has a token when messages may be waiting

	mu       sync.Mutex
	messages [][]byte
	bytes    int
	closed   bool
}

func newSendQueue(limits Limits, total *atomic.Int64) *sendQueue {
	return &sendQueue{limits: limits, total: total, wake: make(chan struct{}, 1)}
}

// push appends msg or says why not.
func (q *sendQueue) push(msg []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrNotConnected
	case len(q.messages) >= q.limits.Queue || q.bytes+len(msg) > q.limits.QueueBytes:
		return fmt.Errorf("%w: %d messages, %d bytes wait", ErrQueueFull, len(q.messages), q.bytes)
	case q.total.Add(int64(len(msg))) > int64(q.limits.QueueTotal):
		q.total.Add(-int64(len(msg)))
		return fmt.Errorf("%w: %d bytes wait for all peers", ErrQueueFull, q.limits.QueueTotal)
	}
	q.messages = append(q.messages, msg)
	q.bytes += len(msg)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// take waits for messages and returns a run of them, at least one and beyond
// one no more than limit bytes; nil when ctx ends.
func (q *sendQueue) take(ctx context.Context, limit int) [][]byte {
	for {
		q.mu.Lock()
		n, size := 0, 0
		for n < len(q.messages) && (n == 0 || size+len(q.messages[n]) <= limit) {
			size += len(q.messages[n])
			n++
		}
		run := q.messages[:n:n]
		q.messages = q.messages[n:]
		if len(q.messages) == 0 {
			q.messages = nil // let go of the array
		}
		q.bytes -= size
		q.total.Add(-int64(size))
		q.mu.Unlock()
		if n > 0 {
			return run
		}
		select {
		case <-ctx.Done():
			return nil
		case <-q.wake:
		}
	}
}

// close drops what waits and refuses the rest.
func (q *sendQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total.Add(-int64(q.bytes))
	q.closed, q.messages, q.bytes = true, nil, 0
}
