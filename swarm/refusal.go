package swarm

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Nothing answers a dial over QUIC to a process that is gone, so that it goes on until
// its deadline, and should the process come back meanwhile, control runs over QUIC,
// where its next death shows late. TCP is refused at once. A router may refuse TCP, too,
// and let QUIC through: only where TCP has led to the peer does a refusal mean that the
// process is gone.

// errGone is the end of such a dial.
var errGone = errors.New("TCP, by which it was reached, is refused: its process is gone")

const (
	refusalLasts = 2 * time.Second // longer than QUIC starts behind TCP
	maxReached   = 4096            // beyond them all are forgotten: dials run to their deadlines once
	// goneGrace is how long a dial still tries a peer's other addresses once TCP has said that its process is gone. One of them may be
	// of another network and answer nobody here; meanwhile the address that was refused is not tried again.
	goneGrace = time.Second
)

// refusals remembers where peers were reached over TCP and where it is refused now.
type refusals struct {
	mu      sync.Mutex
	reached map[spot]contact
	dials   map[*outbound]bool // under way
}

// outbound is a dial to a peer, which ends soon where the peer's process turns out to be gone.
type outbound struct {
	pid p2ppeer.ID
	end context.CancelCauseFunc
}

// giveUp ends the dial with errGone at a time. A dial that is over by then does not mind.
func (o *outbound) giveUp(at time.Time) { time.AfterFunc(time.Until(at), func() { o.end(errGone) }) }

// begin has a dial end goneGrace after a refusal, one that was just now included: libp2p makes one dial of those that overlap, and
// it goes on for as long as one of them waits. The result is to be called when the dial is over.
func (r *refusals) begin(pid p2ppeer.ID, addrs []multiaddr.Multiaddr, end context.CancelCauseFunc) (over func()) {
	o := &outbound{pid, end}
	refused := r.refused(pid, addrs...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dials == nil {
		r.dials = make(map[*outbound]bool)
	}
	r.dials[o] = true
	if late := refused.Add(goneGrace); time.Now().Before(late) {
		o.giveUp(late)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.dials, o)
	}
}

type spot struct {
	pid p2ppeer.ID
	ip  string
}

// contact is the address that led to a peer and when it last refused; zero: it has not since.
type contact struct {
	addr    string
	refused time.Time
}

func spotOf(pid p2ppeer.ID, addr multiaddr.Multiaddr) (spot, bool) {
	ip, err := manet.ToIP(addr)
	if err != nil {
		return spot{}, false
	}
	return spot{pid, ip.String()}, true
}

// dialled notes how a dial over TCP ended.
func (r *refusals) dialled(pid p2ppeer.ID, addr multiaddr.Multiaddr, err error) {
	at, ok := spotOf(pid, addr)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c, known := r.reached[at]; {
	case err == nil:
		if !known && len(r.reached) >= maxReached {
			clear(r.reached)
		}
		r.reached[at] = contact{addr: addr.String()}
	case c.addr != addr.String(): // another may have led there
	case errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET): // the latter from one that is ending
		now := time.Now()
		r.reached[at] = contact{c.addr, now}
		for o := range r.dials {
			if o.pid == pid {
				o.giveUp(now.Add(goneGrace))
			}
		}
	}
}

// refused returns when TCP last was at the addresses by which a peer was reached; zero: it was not since.
func (r *refusals) refused(pid p2ppeer.ID, addrs ...multiaddr.Multiaddr) (last time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range addrs {
		if at, ok := spotOf(pid, a); ok {
			if c := r.reached[at]; c.refused.After(last) {
				last = c.refused
			}
		}
	}
	return last
}

// gone reports whether the process at one of the addresses has just refused TCP.
func (r *refusals) gone(pid p2ppeer.ID, addrs ...multiaddr.Multiaddr) bool {
	return time.Since(r.refused(pid, addrs...)) < refusalLasts
}

// tcpDialler is libp2p's TCP that notes how dials end.
type tcpDialler struct {
	*tcp.TcpTransport
	refusals *refusals
}

// Dial implements transport.Transport.
func (t *tcpDialler) Dial(ctx context.Context, addr multiaddr.Multiaddr, pid p2ppeer.ID) (transport.CapableConn, error) {
	return t.DialWithUpdates(ctx, addr, pid, nil)
}

// DialWithUpdates implements transport.DialUpdater.
func (t *tcpDialler) DialWithUpdates(ctx context.Context, addr multiaddr.Multiaddr, pid p2ppeer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	c, err := t.TcpTransport.DialWithUpdates(ctx, addr, pid, updates)
	t.refusals.dialled(pid, addr, err)
	return c, err
}

// quicDialler is libp2p's QUIC that dials no process that is gone.
type quicDialler struct {
	transport.Transport
	refusals *refusals
}

// Dial implements transport.Transport.
func (t *quicDialler) Dial(ctx context.Context, addr multiaddr.Multiaddr, pid p2ppeer.ID) (transport.CapableConn, error) {
	if t.refusals.gone(pid, addr) {
		return nil, errGone
	}
	return t.Transport.Dial(ctx, addr, pid)
}

// Close ends what libp2p closes of a transport.
func (t *quicDialler) Close() error {
	if c, ok := t.Transport.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (h *Host) quicTransport(key p2pcrypto.PrivKey, manager *quicreuse.ConnManager, psk pnet.PSK, gate connmgr.ConnectionGater, resources network.ResourceManager) (*quicDialler, error) {
	t, err := libp2pquic.NewTransport(key, manager, psk, gate, resources)
	if err != nil {
		return nil, err
	}
	return &quicDialler{t, &h.refusals}, nil
}
