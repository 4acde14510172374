package swarm

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/event"
	p2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"dunlin/wire"
)

// Handler hears what the network brings. The host calls it from its own
// goroutines: about one peer one call at a time (Serve excepted), about
// different peers at once. Calls must return soon; while one lasts, nothing
// more is read from that peer. They may call Send and Forget, not Close.
type Handler interface {
	// Connected says that a session with id began. Messages sent before it are lost.
	Connected(id wire.PeerID)
	// Disconnected says that the session ended; messages not yet sent are gone.
	Disconnected(id wire.PeerID)
	// Message delivers one control message, in the sender's order. The bytes are the handler's.
	Message(from wire.PeerID, msg []byte)
	// Serve answers one bulk request, several at a time. The error's text is
	// told to the requester, so it must not hold secrets. The host only reads
	// the returned bytes, and only until the answer is sent.
	Serve(ctx context.Context, from wire.PeerID, req []byte) ([]byte, error)
}

// PacketNetwork replaces the system's UDP, for hosts on a simulated network.
type PacketNetwork interface {
	// ListenPacket opens a socket on addr.
	ListenPacket(addr *net.UDPAddr) (net.PacketConn, error)
	// SourceIP is the address that packets to remote hosts leave from.
	SourceIP() net.IP
}

// Config says who a host is and where it listens.
type Config struct {
	Key      ed25519.PrivateKey // identity
	Listen   []string           // multiaddresses; none means Loopback()
	Protocol string             // prefix of the run's protocols, such as "/dunlin/1/<name>"; any stranger that connects learns it
	Secret   []byte             // without it nobody has a session here; it does not travel
	MDNS     bool               // find peers of the same run on the local network
	Reach    Reach              // through routers; the zero value for networks without
	Outside  []string           // multiaddresses that lead here from outside, told to others beside this machine's own
	Up, Down int                // most bits a second to send and to receive, on the wire; 0: no limit
	Handler  Handler
	Limits   Limits        // zero value: DefaultLimits
	Logger   *slog.Logger  // nil: silent
	Packets  PacketNetwork // nil: the system's network; otherwise QUIC only, over it
}

// ProtocolOf is the prefix of a run's protocols. Every stranger that connects learns it, so that it has only a hash of the
// run id, which opens the run.
func ProtocolOf(run wire.Hash) string {
	return fmt.Sprintf("/dunlin/%d/%s", wire.Protocol, wire.HashLeaf(run[:]))
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if len(c.Key) != ed25519.PrivateKeySize {
		faults = append(faults, fmt.Errorf("identity key has %d bytes, want %d", len(c.Key), ed25519.PrivateKeySize))
	}
	if !strings.HasPrefix(c.Protocol, "/") || strings.HasSuffix(c.Protocol, "/") || len(c.Protocol) > 200 {
		faults = append(faults, fmt.Errorf(`protocol prefix %q: want a form like "/dunlin/1/<name>"`, clip(c.Protocol, 80)))
	}
	if c.Handler == nil {
		faults = append(faults, errors.New("no handler"))
	}
	if _, err := parseListen(c.Listen); err != nil {
		faults = append(faults, err)
	}
	for name, bits := range map[string]int{"upload": c.Up, "download": c.Down} {
		if bits != 0 && bits < MinRate {
			faults = append(faults, fmt.Errorf("%s limit of %d bits a second: want at least %d, or 0 for none", name, bits, MinRate))
		}
	}
	if _, err := c.Reach.parseRelays(); err != nil {
		faults = append(faults, err)
	}
	if _, err := c.outside(); err != nil {
		faults = append(faults, err)
	}
	if c.Limits != (Limits{}) {
		faults = append(faults, c.Limits.Validate())
	}
	return errors.Join(faults...)
}

// outside reads the addresses that lead here from outside.
func (c Config) outside() ([]multiaddr.Multiaddr, error) {
	addrs := make([]multiaddr.Multiaddr, len(c.Outside))
	for i, text := range c.Outside {
		a, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("address outside %q: want a form like /ip4/203.0.113.7/tcp/4001: %w", clip(text, 80), err)
		}
		addrs[i] = a
	}
	return addrs, nil
}

// MinRate is the lowest rate limit, bits a second: below it a heartbeat and a
// slab would not go within their deadlines.
const MinRate = 64_000

// Errors that callers branch on.
var (
	// ErrClosed: the host was closed.
	ErrClosed = errors.New("host is closed")
	// ErrNotConnected: there is no session with the peer.
	ErrNotConnected = errors.New("not connected")
	// ErrQueueFull: the peer takes messages more slowly than they come.
	ErrQueueFull = errors.New("send queue is full")
)

// Host is one peer's presence on the network.
type Host struct {
	cfg      Config
	limits   Limits
	log      *slog.Logger
	id       wire.PeerID
	instance uint64 // of this process, told in every hello
	control  protocol.ID
	bulk     protocol.ID
	life     protocol.ID
	raft     protocol.ID
	passing  protocol.ID

	p2p       p2phost.Host // control
	lane      *lane        // bulk
	meter     *meter
	gate      *gate
	sending   *pacer
	receiving *pacer
	frames    frames
	partials  partials
	refusals  refusals
	mdns      io.Closer
	events    event.Subscription
	serves    chan struct{} // a token for each request being answered
	queued    atomic.Int64  // bytes in all send queues
	passed    atomic.Int64  // bytes in all queues between stages

	ctx    context.Context //nolint:containedctx // ends every goroutine of the host
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	closed  bool
	peers   map[p2ppeer.ID]*remote
	awaited map[wire.PeerID]bool // those that Await named
}

// New starts a host: it listens when New returns. An address that cannot be
// listened on is an error that names it.
func New(ctx context.Context, cfg Config) (*Host, error) {
	if cfg.Limits == (Limits{}) {
		cfg.Limits = DefaultLimits()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = Loopback()
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	var instance [8]byte
	rand.Read(instance[:])
	h := &Host{
		cfg: cfg, limits: cfg.Limits, log: cfg.Logger, id: wire.PeerIDOf(cfg.Key),
		instance:  binary.BigEndian.Uint64(instance[:]) | 1,
		control:   protocol.ID(cfg.Protocol + "/control"),
		bulk:      protocol.ID(cfg.Protocol + "/bulk"),
		life:      protocol.ID(cfg.Protocol + "/life"),
		raft:      protocol.ID(cfg.Protocol + "/raft"),
		passing:   protocol.ID(cfg.Protocol + "/passing"),
		meter:     &meter{},
		gate:      newGate(),
		sending:   newPacer(cfg.Up),
		receiving: newPacer(cfg.Down),
		partials:  partials{limit: cfg.Limits.Partials},
		refusals:  refusals{reached: make(map[spot]contact)},
		serves:    make(chan struct{}, cfg.Limits.ServesTotal),
		peers:     make(map[p2ppeer.ID]*remote),
	}
	var err error
	if h.lane, err = newLane(cfg.Reach.relayIDs()); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	h.ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := h.start(); err != nil {
		_ = h.Close() // the first error is the one to tell
		return nil, fmt.Errorf("network: %w", err)
	}
	return h, nil
}

func (h *Host) start() error {
	resources, err := h.limits.controlResources(h.control)
	if err != nil {
		return fmt.Errorf("resource manager: %w", err)
	}
	outside, err := h.cfg.outside()
	if err != nil {
		return errors.Join(err, resources.Close())
	}
	options, err := h.options(h.cfg.Key, h.gate, h.limits.controlMuxer(), resources, outside)
	if err != nil {
		return err
	}
	if h.cfg.Reach.Relay {
		options = append(options, relayOptions())
	}
	if h.p2p, err = newLibp2p(options); err != nil {
		return err
	}
	if h.cfg.Reach.NAT {
		if err := h.watchReach(); err != nil {
			return err
		}
	}
	h.events, err = h.p2p.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated),
	}, eventbus.BufSize(256))
	if err != nil {
		return fmt.Errorf("subscribe to libp2p events: %w", err)
	}
	h.spawn(h.watchIdentified)
	h.p2p.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		h.spawn(func() { h.connectionClosed(c) })
	}})
	h.p2p.SetStreamHandler(h.control, h.tracked(h.handleControl))
	h.p2p.SetStreamHandler(h.life, h.tracked(h.answerVigil))
	addrs, err := parseListen(h.cfg.Listen)
	if err != nil {
		return err
	}
	// A session needs the lane, and sessions begin as soon as one can be dialled.
	if err := h.startLane(addrs, outside); err != nil {
		return err
	}
	if err := h.listen(h.p2p, addrs); err != nil {
		return err
	}
	if h.cfg.MDNS {
		if h.mdns, err = h.startMDNS(); err != nil {
			// Multicast is often missing (containers, some Wi-Fi); bootstrap addresses still work.
			h.log.Warn("looking for peers on the local network is not possible here", "err", err)
		}
	}
	return nil
}

// listen opens addresses one at a time: libp2p is content when any of several succeeds.
func (h *Host) listen(host p2phost.Host, addrs []multiaddr.Multiaddr) error {
	for i, addr := range addrs {
		err := host.Network().Listen(addr)
		if err != nil && i > 0 && manet.IsIPUnspecified(addr) && isIP6(addr) {
			h.log.Info("this machine has no IPv6 to listen on", "addr", addr.String(), "err", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("listen on %s (is the port taken? choose another address): %w", addr, err)
		}
	}
	return nil
}

// Close ends all sessions and waits until every goroutine of the host is gone.
// The handler hears Disconnected for each session. Close may be called again.
func (h *Host) Close() error {
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	peers := make([]*remote, 0, len(h.peers))
	for _, r := range h.peers {
		peers = append(peers, r)
	}
	h.mu.Unlock()
	if !first {
		h.wg.Wait()
		return nil
	}
	h.cancel()
	var faults []error
	if h.mdns != nil {
		faults = append(faults, h.mdns.Close())
	}
	for _, r := range peers {
		if s := r.session.Load(); s != nil {
			h.down(r, s, "this host is closing")
		}
	}
	if h.events != nil {
		faults = append(faults, h.events.Close())
	}
	for _, host := range []p2phost.Host{h.p2p, h.lane.p2p} {
		if host != nil {
			faults = append(faults, host.Close())
		}
	}
	h.wg.Wait()
	h.sending.close()
	h.receiving.close()
	h.partials.close()
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("network: close: %w", err)
	}
	return nil
}

// ID returns the peer id that belongs to the configured key.
func (h *Host) ID() wire.PeerID { return h.id }

// Addrs returns the addresses others can dial, each ending in /p2p/<id>.
func (h *Host) Addrs() []string {
	suffix := "/p2p/" + h.p2p.ID().String()
	var addrs []string
	for _, a := range h.p2p.Addrs() {
		addrs = append(addrs, a.String()+suffix)
	}
	slices.SortFunc(addrs, compareAddrs)
	return addrs
}

// Peers returns the peers with whom there is a session, in the order of their ids.
func (h *Host) Peers() []wire.PeerID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []wire.PeerID
	for _, r := range h.peers {
		if r.session.Load() != nil {
			ids = append(ids, r.id)
		}
	}
	slices.SortFunc(ids, func(a, b wire.PeerID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// Connected reports whether there is a session with id.
func (h *Host) Connected(id wire.PeerID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.peers[p2pID(id)]
	return r != nil && r.session.Load() != nil
}

// enter registers the calling goroutine for Close to wait for. It reports
// false when the host is closing; otherwise the caller owes h.wg.Done().
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Add(1)
	return true
}

// spawn runs f on a goroutine that Close waits for, or not at all once the host closes.
func (h *Host) spawn(f func()) bool {
	if !h.enter() {
		return false
	}
	go func() {
		defer h.wg.Done()
		f()
	}()
	return true
}

// tracked makes a stream handler one that Close waits for.
func (h *Host) tracked(handle func(network.Stream)) network.StreamHandler {
	return func(st network.Stream) {
		if !h.enter() {
			st.ResetWithError(network.StreamShutdown)
			return
		}
		defer h.wg.Done()
		handle(st)
	}
}

// watchIdentified begins a session with every peer that turns out to speak this run's protocol.
func (h *Host) watchIdentified() {
	for {
		select {
		case <-h.ctx.Done():
			return
		case e, ok := <-h.events.Out():
			if !ok {
				return
			}
			if pid, ok := h.speaks(e); ok {
				// The bus must not wait for the handler.
				h.spawn(func() { h.greet(pid, e) })
			}
		}
	}
}

// speaks tells who, by this event, is known to speak the run's protocol.
func (h *Host) speaks(e any) (p2ppeer.ID, bool) {
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		return e.Peer, slices.Contains(e.Protocols, h.control)
	case event.EvtPeerProtocolsUpdated:
		return e.Peer, slices.Contains(e.Added, h.control)
	default:
		return "", false
	}
}

// greet begins a session with pid unless there is one, and notes what it said of itself.
func (h *Host) greet(pid p2ppeer.ID, said any) {
	r, err := h.borrow(pid)
	if err != nil {
		return
	}
	defer h.release(r)
	if e, ok := said.(event.EvtPeerIdentificationCompleted); ok {
		h.mu.Lock()
		r.listens = e.ListenAddrs[:min(len(e.ListenAddrs), maxAddrs)]
		h.mu.Unlock()
	}
	r.deliver.Lock()
	defer r.deliver.Unlock()
	h.up(r)
}

// parseListen reads listen addresses.
func parseListen(list []string) ([]multiaddr.Multiaddr, error) {
	var addrs []multiaddr.Multiaddr
	for _, s := range list {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("listen address %q: want a form like /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1: %w", clip(s, 80), err)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// clip shortens text from outside for an error message.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
