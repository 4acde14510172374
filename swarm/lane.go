package swarm

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	p2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"

	"dunlin/wire"
)

// A hello tells where a process's lane is.
const (
	maxLaneAddrs = 16
	maxAddrBytes = 256
	kindLane     = "lane" // of the two signatures in a hello
)

// laneGrace is how long a host that was dialled waits for a connection that it
// has called for before it dials itself: whoever dialled can, the other may not.
const laneGrace = time.Second

// lane is the second libp2p host of a process. It carries bulk, so that control
// has connections of its own. Its key is made anew by each process; the hello
// of a session holds the identity's signature of it and, since nobody may claim
// another's, its own signature of the identity. It is connected when bulk is
// first asked for, and only to lanes of open sessions.
type lane struct {
	p2p p2phost.Host
	key ed25519.PrivateKey

	relays []p2ppeer.ID // hosts for control that may pass on how to meet

	mu       sync.Mutex
	sessions map[p2ppeer.ID]*remote // by the lane of the remote
	changed  chan struct{}          // closed, and made anew, when a connection stands
}

func newLane(relays []p2ppeer.ID) (*lane, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for bulk: %w", err)
	}
	return &lane{key: key, relays: relays, sessions: make(map[p2ppeer.ID]*remote), changed: make(chan struct{})}, nil
}

// laneAddr is where the lane of a host listens: on the port above the host's, below
// the highest, or on any when that is any.
func laneAddr(a multiaddr.Multiaddr) multiaddr.Multiaddr {
	var out multiaddr.Multiaddr
	for _, c := range a {
		if code := c.Protocol().Code; code == multiaddr.P_TCP || code == multiaddr.P_UDP {
			if port, err := strconv.Atoi(c.Value()); err == nil && port > 0 {
				beside := port + 1
				if beside > math.MaxUint16 {
					beside = port - 1
				}
				if next, err := multiaddr.NewComponent(c.Protocol().Name, strconv.Itoa(beside)); err == nil {
					c = *next
				}
			}
		}
		out = append(out, c)
	}
	return out
}

func besideAll(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	lanes := make([]multiaddr.Multiaddr, len(addrs))
	for i, a := range addrs {
		lanes[i] = laneAddr(a)
	}
	return lanes
}

// startLane starts the host for bulk.
func (h *Host) startLane(listen, outside []multiaddr.Multiaddr) error {
	resources, err := h.limits.bulkResources(h.bulk)
	if err != nil {
		return fmt.Errorf("resource manager: %w", err)
	}
	options, err := h.options(h.lane.key, h.lane, h.limits.muxer(), resources, besideAll(outside))
	if err != nil {
		return err
	}
	if h.lane.p2p, err = newLibp2p(options); err != nil {
		return err
	}
	h.lane.p2p.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { h.lane.news() }})
	h.lane.p2p.SetStreamHandler(h.bulk, h.tracked(h.handleBulk))
	h.lane.p2p.SetStreamHandler(h.passing, h.tracked(h.handlePassing))
	if err := h.listen(h.lane.p2p, besideAll(listen)); err != nil {
		return fmt.Errorf("for bulk, on the port beside: %w", err)
	}
	return nil
}

// news wakes whoever waits for a connection.
func (l *lane) news() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// expect lets the lane of a session in.
func (l *lane) expect(pid p2ppeer.ID, addrs []multiaddr.Multiaddr, r *remote) {
	l.mu.Lock()
	l.sessions[pid] = r
	l.mu.Unlock()
	l.p2p.Peerstore().AddAddrs(pid, addrs, peerstore.PermanentAddrTTL)
}

// forget ends what expect began. It returns the connections that are left for
// the caller to close, which takes time on a link that is dead.
func (l *lane) forget(pid p2ppeer.ID) []network.Conn {
	l.mu.Lock()
	delete(l.sessions, pid)
	l.mu.Unlock()
	l.p2p.Peerstore().ClearAddrs(pid)
	l.p2p.Peerstore().RemovePeer(pid)
	return l.p2p.Network().ConnsToPeer(pid)
}

// remote returns whose lane pid is, nil when it belongs to no open session.
func (l *lane) remote(pid p2ppeer.ID) *remote {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions[pid]
}

func (l *lane) connected(pid p2ppeer.ID) bool {
	return l.p2p.Network().Connectedness(pid) == network.Connected
}

// await waits at most d for a connection to pid.
func (l *lane) await(ctx context.Context, pid p2ppeer.ID, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if l.connected(pid) {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// reachLane sees to a connection for bulk with the session's peer and returns its lane.
func (h *Host) reachLane(ctx context.Context, r *remote, s *session) (p2ppeer.ID, error) {
	for _, known := range []chan struct{}{s.told, s.heard} {
		select {
		case <-known:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	pid := s.lane.ID
	if h.lane.connected(pid) {
		return pid, nil
	}
	if h.dialled(r.pid) && h.lane.p2p.Connect(ctx, p2ppeer.AddrInfo{ID: pid}) == nil {
		return pid, nil
	}
	if s.queue.push(nil) == nil { // a call
		h.lane.await(ctx, pid, laneGrace)
	}
	if err := h.lane.p2p.Connect(ctx, p2ppeer.AddrInfo{ID: pid}); err != nil {
		return "", dialError(err)
	}
	return pid, nil
}

// called connects for bulk because the remote asks for it, and says where it is now.
func (h *Host) called(s *session, addrs []multiaddr.Multiaddr) {
	pid := s.lane.ID
	h.lane.p2p.Peerstore().ClearAddrs(pid)
	h.lane.p2p.Peerstore().AddAddrs(pid, addrs, peerstore.PermanentAddrTTL)
	if h.lane.connected(pid) || !s.calling.CompareAndSwap(false, true) {
		return
	}
	started := h.spawn(func() {
		defer s.calling.Store(false)
		ctx, cancel := context.WithTimeout(s.ctx, h.limits.Dial)
		defer cancel()
		if err := h.lane.p2p.Connect(ctx, p2ppeer.AddrInfo{ID: pid}); err != nil {
			h.log.Debug("no connection for bulk", "lane", pid.String(), "err", err)
		}
	})
	if !started {
		s.calling.Store(false)
	}
}

// dialled reports whether this host made a connection to pid.
func (h *Host) dialled(pid p2ppeer.ID) bool {
	for _, c := range h.p2p.Network().ConnsToPeer(pid) {
		if c.Stat().Direction == network.DirOutbound {
			return true
		}
	}
	return false
}

// hello opens a control stream: who this process is and where its lane is.
type hello struct {
	instance uint64
	lane     wire.PeerID
	identity wire.Signature // the identity's, of the lane
	proof    wire.Signature // the lane's, of the identity
	addrs    []multiaddr.Multiaddr
}

// laneText is what both signatures of a hello cover: who does not know the secret can neither make nor check one.
func (c *Config) laneText(identity, lane wire.PeerID) []byte {
	return slices.Concat([]byte(c.Protocol+"\x00"), identity[:], lane[:], c.Secret)
}

// newHello tells of this process.
func (h *Host) newHello() hello {
	id := wire.PeerIDOf(h.lane.key)
	text := h.cfg.laneText(h.id, id)
	return hello{
		instance: h.instance, lane: id, addrs: h.laneAddrs(),
		identity: wire.Sign(h.cfg.Key, kindLane, text), proof: wire.Sign(h.lane.key, kindLane, text),
	}
}

// laneOf checks a hello of the peer and returns its lane.
func (h *Host) laneOf(peer wire.PeerID, hi hello) (p2ppeer.AddrInfo, error) {
	text := h.cfg.laneText(peer, hi.lane)
	if !wire.Verify(peer, kindLane, text, hi.identity) || !wire.Verify(hi.lane, kindLane, text, hi.proof) {
		return p2ppeer.AddrInfo{}, &protocolError{"its hello claims a key for bulk that is not its own, or it does not know the run"}
	}
	return p2ppeer.AddrInfo{ID: p2pID(hi.lane), Addrs: hi.addrs}, nil
}

func appendHello(b []byte, hi hello) []byte {
	b = binary.BigEndian.AppendUint64(append(b, helloVersion), hi.instance)
	b = append(append(append(b, hi.lane[:]...), hi.identity[:]...), hi.proof[:]...)
	return appendAddrs(b, hi.addrs)
}

// laneAddrs is where this host's lane is now.
func (h *Host) laneAddrs() []multiaddr.Multiaddr {
	addrs := h.lane.p2p.Addrs()
	return addrs[:min(len(addrs), maxLaneAddrs)]
}

func appendAddrs(b []byte, addrs []multiaddr.Multiaddr) []byte {
	b = binary.AppendUvarint(b, uint64(len(addrs)))
	for _, a := range addrs {
		b = appendFrame(b, a.Bytes())
	}
	return b
}

func readAddrs(in *bufio.Reader) (addrs []multiaddr.Multiaddr, err error) {
	count, err := readCount(in)
	if err != nil {
		return nil, err
	}
	if count > maxLaneAddrs {
		return nil, &protocolError{fmt.Sprintf("it names %d addresses for bulk, at most %d are taken", count, maxLaneAddrs)}
	}
	for range count {
		size, err := readFrameSize(in, maxAddrBytes)
		if err != nil {
			return nil, err
		}
		b, err := readExactly(in, size)
		if err != nil {
			return nil, err
		}
		a, err := multiaddr.NewMultiaddrBytes(b)
		if err != nil {
			return nil, &protocolError{"it names something for bulk that is no address"}
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

func readHello(in *bufio.Reader) (hi hello, err error) {
	fixed := make([]byte, 0, 9+32+64+64)
	if fixed, err = readBehind(fixed, in, 1); err != nil {
		return hi, err
	}
	if fixed[0] != helloVersion {
		return hi, &protocolError{fmt.Sprintf("its hello has version %d, this host speaks %d", fixed[0], helloVersion)}
	}
	if fixed, err = readBehind(fixed, in, cap(fixed)-1); err != nil {
		return hi, err
	}
	if hi.instance = binary.BigEndian.Uint64(fixed[1:]); hi.instance == 0 {
		return hi, &protocolError{"its hello names no instance"}
	}
	copy(hi.lane[:], fixed[9:])
	copy(hi.identity[:], fixed[9+32:])
	copy(hi.proof[:], fixed[9+32+64:])
	hi.addrs, err = readAddrs(in)
	return hi, err
}

// A lane is its own gate: libp2p connects it to the lanes of open sessions, and
// to relays, which carry no bulk.
func (l *lane) admits(pid p2ppeer.ID) bool {
	return l.remote(pid) != nil || slices.Contains(l.relays, pid)
}

// InterceptPeerDial implements libp2p's ConnectionGater.
func (l *lane) InterceptPeerDial(pid p2ppeer.ID) bool { return l.admits(pid) }

// InterceptAddrDial implements libp2p's ConnectionGater.
func (l *lane) InterceptAddrDial(p2ppeer.ID, multiaddr.Multiaddr) bool { return true }

// InterceptAccept implements libp2p's ConnectionGater; before the handshake nobody is known.
func (l *lane) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured implements libp2p's ConnectionGater.
func (l *lane) InterceptSecured(_ network.Direction, pid p2ppeer.ID, _ network.ConnMultiaddrs) bool {
	return l.admits(pid)
}

// InterceptUpgraded implements libp2p's ConnectionGater.
func (l *lane) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
