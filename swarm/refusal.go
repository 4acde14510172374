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
)

// refusals remembers where peers were reached over TCP and where it is refused now.
type refusals struct {
	mu      sync.Mutex
	reached map[spot]contact
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
		r.reached[at] = contact{c.addr, time.Now()}
	}
}

// gone reports whether the process at an address has just refused TCP.
func (r *refusals) gone(pid p2ppeer.ID, addr multiaddr.Multiaddr) bool {
	at, ok := spotOf(pid, addr)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.reached[at]
	return !c.refused.IsZero() && time.Since(c.refused) < refusalLasts
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
