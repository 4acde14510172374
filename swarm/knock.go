package swarm

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
)

// Over QUIC a process that was killed is merely silent. The kernel of its machine refuses what comes to its port, but says
// so (ICMP) only to a socket that is connected to it, which QUIC's are not. Many a router refuses for whom it shields: a
// refusal counts only where there was none at first.

// knock ends the session when a port at which QUIC reaches its peer is closed now and was not before. It asks once, and
// again every Silence / 4 until the peer is known to be alive.
func (h *Host) knock(alive context.Context, r *remote, s *session) {
	if h.cfg.Packets != nil {
		return
	}
	again := time.NewTicker(h.limits.Silence / 4)
	defer again.Stop()
	for {
		for _, c := range h.p2p.Network().ConnsToPeer(r.pid) {
			addr, _, err := quicreuse.FromQuicMultiaddr(c.RemoteMultiaddr())
			if err != nil {
				continue // TCP, which tells by itself, or a relay
			}
			closed := portClosed(s.ctx, addr, time.Now().Add(h.limits.Silence/4))
			if open, _ := s.open.LoadOrStore(addr.String(), !closed); closed && open == true {
				h.fail(r, s, "its port is closed: the process is gone")
				return
			}
		}
		select {
		case <-alive.Done():
			return
		case <-again.C:
		}
	}
}

// portClosed reports whether the kernel behind an address refuses what comes to the port.
func portClosed(ctx context.Context, addr net.Addr, until time.Time) bool {
	socket, err := new(net.Dialer).DialContext(ctx, "udp", addr.String())
	if err != nil {
		return false
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { _ = socket.Close() })() // it may be closed already
	if socket.SetDeadline(until) != nil {
		return false
	}
	b := []byte{0} // nothing that QUIC takes in
	if _, err = socket.Write(b); err == nil {
		_, err = socket.Read(b)
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
