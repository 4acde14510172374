package swarm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	p2pswarm "github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/multiformats/go-multiaddr"

	"dunlin/wire"
)

// ErrOtherRun: the peer answers but does not speak this run's protocol.
var ErrOtherRun = errors.New("the peer does not serve this run")

// ErrTooMany: Limits.Remembered peers are remembered already.
var ErrTooMany = errors.New("too many peers are remembered")

// keeper keeps one remembered peer connected.
type keeper struct {
	stop context.CancelFunc
	wake chan struct{} // has a token when a session began or addresses changed

	mu    sync.Mutex
	addrs []multiaddr.Multiaddr
}

// nudge makes the keeper look again.
func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Connect dials a peer, remembers its addresses and from then on keeps trying
// to stay connected until Forget. It returns when there is a session or the
// first attempt has failed; the error is that attempt's and changes nothing
// about later ones. Only faulty addresses and ErrTooMany remember nothing.
func (h *Host) Connect(ctx context.Context, id wire.PeerID, addrs []string) error {
	r, k, err := h.remember(id, addrs)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", id.Short(), err)
	}
	defer h.release(r)
	if !h.enter() {
		return fmt.Errorf("connect to %s: %w", id.Short(), ErrClosed)
	}
	defer h.wg.Done()
	if err := h.dial(ctx, r, k); err != nil {
		return fmt.Errorf("connect to %s: %w", id.Short(), err)
	}
	return nil
}

// remember finds or starts the keeper of id and gives it the addresses.
func (h *Host) remember(id wire.PeerID, list []string) (*remote, *keeper, error) {
	if id == h.id {
		return nil, nil, errors.New("this is the host's own id")
	}
	pid := p2pID(id)
	addrs, err := parseAddrs(pid, list)
	if err != nil {
		return nil, nil, err
	}
	r, err := h.borrow(pid)
	if err != nil {
		return nil, nil, err
	}
	h.mu.Lock()
	k := r.keeper
	var keeping context.Context // of a new keeper
	var stop context.CancelFunc
	if k == nil {
		kept := 0
		for _, other := range h.peers {
			if other.keeper != nil {
				kept++
			}
		}
		if kept >= h.limits.Remembered {
			h.mu.Unlock()
			h.release(r)
			return nil, nil, fmt.Errorf("%w: %d", ErrTooMany, kept)
		}
		keeping, stop = context.WithCancel(h.ctx)
		k = &keeper{stop: stop, wake: make(chan struct{}, 1)}
		r.keeper = k
	}
	h.mu.Unlock()
	k.mu.Lock()
	if len(addrs) > 0 {
		k.addrs = addrs
	}
	k.mu.Unlock()
	if keeping != nil {
		h.p2p.ConnManager().Protect(pid, "remembered")
		h.spawn(func() { h.keep(keeping, r, k) })
	} else {
		k.nudge()
	}
	return r, k, nil
}

// AddrsOf returns where a connected peer can be reached: first where it was
// dialled, then where it says that it listens, each ending in /p2p/<id>. None
// for a stranger.
func (h *Host) AddrsOf(id wire.PeerID) []string {
	pid := p2pID(id)
	var found []multiaddr.Multiaddr
	for _, c := range h.p2p.Network().ConnsToPeer(pid) {
		if c.Stat().Direction == network.DirOutbound {
			found = append(found, c.RemoteMultiaddr())
		}
	}
	h.mu.Lock()
	if r := h.peers[pid]; r != nil {
		found = append(found, r.listens...)
	}
	h.mu.Unlock()
	var addrs []string
	suffix := "/p2p/" + pid.String()
	for _, a := range found {
		if text := a.String() + suffix; !slices.Contains(addrs, text) && len(addrs) < maxAddrs {
			addrs = append(addrs, text)
		}
	}
	return addrs
}

// Forget stops keeping id connected, drops its addresses and closes its connections.
func (h *Host) Forget(id wire.PeerID) {
	r, err := h.borrow(p2pID(id))
	if err != nil {
		return
	}
	h.mu.Lock()
	k := r.keeper
	r.keeper = nil
	h.mu.Unlock()
	if k != nil {
		k.stop()
		h.p2p.ConnManager().Unprotect(r.pid, "remembered")
	}
	h.p2p.Peerstore().ClearAddrs(r.pid)
	// The handler may be our caller, and down would call it.
	started := h.spawn(func() {
		defer h.release(r)
		h.closeConnections(r.pid, nil, network.ConnNoError)
		h.down(r, r.session.Load(), "forgotten")
	})
	if !started {
		h.release(r)
	}
}

// keep dials whenever there is no session, with growing pauses.
func (h *Host) keep(ctx context.Context, r *remote, k *keeper) {
	backoff := h.limits.BackoffMin
	mayDial := false // Connect makes the first attempt itself
	for ctx.Err() == nil {
		if s := r.session.Load(); s != nil {
			select {
			case <-s.ctx.Done():
			case <-ctx.Done():
				return
			}
			select {
			case <-k.wake: // the news of the session that has just ended
			default:
			}
			if time.Since(s.began) > h.limits.BackoffMax {
				backoff = h.limits.BackoffMin // it held for long, so this is news
			}
		} else if mayDial && h.dial(ctx, r, k) == nil {
			continue
		}
		mayDial = true
		wait := backoff
		if h.justGone(r, k) {
			wait = min(wait, returnPause) // such a dial costs little, and a process that ends is as a rule started again
		}
		if !pause(ctx, k, jitter(wait)) {
			return
		}
		backoff = min(2*backoff, h.limits.BackoffMax)
	}
}

// returnPause is the longest mean wait between two attempts while the remote's machine says that its process is gone.
const returnPause = time.Second

// justGone reports whether the last dial found the machine of a peer without its process.
func (h *Host) justGone(r *remote, k *keeper) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return h.refusals.gone(r.pid, k.addrs...)
}

// pause waits for d or news; false when ctx ends.
func pause(ctx context.Context, k *keeper, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-k.wake:
	case <-timer.C:
	}
	return true
}

// jitter spreads d over [d/2, 3d/2), so that peers of a dead coordinator do not return in step.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // spreads load, guards nothing
}

// dial makes one attempt to have a session with r.
func (h *Host) dial(ctx context.Context, r *remote, k *keeper) error {
	if r.session.Load() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.limits.Dial)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	k.mu.Lock()
	addrs := k.addrs
	k.mu.Unlock()
	defer h.refusals.begin(r.pid, addrs, end)()
	err := h.dialOnce(ctx, p2ppeer.AddrInfo{ID: r.pid, Addrs: addrs})
	if err != nil && errors.Is(context.Cause(ctx), errGone) {
		return fmt.Errorf("%w: %w", ErrUnreachable, errGone)
	}
	return err
}

// dialError tells in one line what became of each address.
func dialError(err error) error {
	var dial *p2pswarm.DialError
	if !errors.As(err, &dial) || len(dial.DialErrors) == 0 {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	var tried []string
	for _, e := range dial.DialErrors {
		cause := e.Cause
		var system syscall.Errno
		if errors.As(cause, &system) {
			cause = system // the rest of the text repeats the address
		}
		tried = append(tried, fmt.Sprintf("%s: %v", e.Address, cause))
	}
	return fmt.Errorf("%w at %s", ErrUnreachable, strings.Join(tried, ", "))
}

// negotiates asks the remote itself whether it speaks the run's protocol: a host
// that has just started may not have told in its identification.
func (h *Host) negotiates(ctx context.Context, pid p2ppeer.ID) bool {
	st, err := h.p2p.NewStream(network.WithAllowLimitedConn(network.WithNoDial(ctx, "just dialled"), "control is small"), pid, h.control)
	if err != nil {
		return false
	}
	st.Reset()
	return true
}

// dialOnce connects, waits for identification and begins the session.
func (h *Host) dialOnce(ctx context.Context, to p2ppeer.AddrInfo) error {
	if dialler, ok := h.p2p.Network().(*p2pswarm.Swarm); ok {
		dialler.Backoff().Clear(to.ID) // the pauses are ours
	}
	h.p2p.Peerstore().AddAddrs(to.ID, to.Addrs, peerstore.TempAddrTTL)
	if err := h.p2p.Connect(network.WithAllowLimitedConn(ctx, "control is small"), to); err != nil {
		return dialError(err)
	}
	if service, ok := h.p2p.(interface{ IDService() identify.IDService }); ok {
		for _, c := range h.p2p.Network().ConnsToPeer(to.ID) {
			select {
			case <-service.IDService().IdentifyWait(c):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	spoken, err := h.p2p.Peerstore().SupportsProtocols(to.ID, h.control)
	if err != nil {
		return err
	}
	if len(spoken) == 0 && !h.negotiates(ctx, to.ID) {
		if !h.alive(to.ID) {
			return ErrNotConnected
		}
		h.closeConnections(to.ID, nil, network.ConnProtocolNegotiationFailed)
		return ErrOtherRun
	}
	r, err := h.borrow(to.ID)
	if err != nil {
		return err
	}
	defer h.release(r)
	r.deliver.Lock()
	defer r.deliver.Unlock()
	if h.up(r) == nil {
		return ErrNotConnected
	}
	return nil
}
