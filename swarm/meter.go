package swarm

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	manet "github.com/multiformats/go-multiaddr/net"

	"dunlin/wire"
)

// Traffic counts bytes received and sent since the host started.
type Traffic struct{ In, Out uint64 }

// Stats tells what the host has carried. Classes count messages, requests and
// answers with their framing; Socket counts what went through the sockets
// (encryption, multiplexing and handshakes included; TCP and IP headers not).
type Stats struct {
	Socket   Traffic
	Classes  [wire.Classes]Traffic // index: wire.Class
	Sessions int                   // open now
	Dropped  uint64                // messages refused with ErrQueueFull
	CutOffs  []CutOff              // the last of them, oldest first
}

// Stats returns the counters as of now.
func (h *Host) Stats() Stats {
	s := Stats{
		Dropped:  h.meter.dropped.Load(),
		CutOffs:  h.gate.cutOffs(),
		Sessions: len(h.Peers()),
	}
	for i := range s.Classes {
		s.Classes[i] = h.meter.classes[i].read()
	}
	s.Socket = h.meter.socket.read() // after what is a part of it
	return s
}

type counter struct{ in, out atomic.Uint64 }

func (c *counter) read() Traffic { return Traffic{In: c.in.Load(), Out: c.out.Load()} }

// meter counts bytes at the two places through which all of them pass: by
// class where streams are read and written, in sum at the sockets.
type meter struct {
	socket  counter
	classes [wire.Classes]counter
	dropped atomic.Uint64
}

// meteredUpgrader hands libp2p's upgrader connections whose bytes are counted.
type meteredUpgrader struct {
	transport.Upgrader
	meter *meter
}

func (u *meteredUpgrader) Upgrade(ctx context.Context, t transport.Transport, c manet.Conn, dir network.Direction, p p2ppeer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	return u.Upgrader.Upgrade(ctx, t, &meteredConn{Conn: c, meter: u.meter}, dir, p, scope)
}

func (u *meteredUpgrader) UpgradeGatedMaListener(t transport.Transport, l transport.GatedMaListener) transport.Listener {
	return u.Upgrader.UpgradeGatedMaListener(t, &meteredListener{GatedMaListener: l, meter: u.meter})
}

type meteredListener struct {
	transport.GatedMaListener
	meter *meter
}

func (l *meteredListener) Accept() (manet.Conn, network.ConnManagementScope, error) {
	c, scope, err := l.GatedMaListener.Accept()
	if err != nil {
		return nil, nil, err
	}
	return &meteredConn{Conn: c, meter: l.meter}, scope, nil
}

// meteredConn is a TCP connection.
type meteredConn struct {
	manet.Conn
	meter *meter
}

func (c *meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.meter.socket.in.Add(uint64(n))
	return n, err
}

func (c *meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.meter.socket.out.Add(uint64(n))
	return n, err
}

// meteredPackets is a UDP socket. Hiding the socket's other methods costs QUIC
// its batched system calls, which links of some Mbit/s do not need.
type meteredPackets struct {
	net.PacketConn
	meter *meter
}

func (c *meteredPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := c.PacketConn.ReadFrom(b)
	c.meter.socket.in.Add(uint64(n))
	return n, addr, err
}

func (c *meteredPackets) WriteTo(b []byte, addr net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(b, addr)
	c.meter.socket.out.Add(uint64(n))
	return n, err
}

// SetReadBuffer lets QUIC ask for a larger socket buffer.
func (c *meteredPackets) SetReadBuffer(n int) error { return setBuffer(c.PacketConn, n, true) }

// SetWriteBuffer lets QUIC ask for a larger socket buffer.
func (c *meteredPackets) SetWriteBuffer(n int) error { return setBuffer(c.PacketConn, n, false) }

func setBuffer(c net.PacketConn, n int, read bool) error {
	b, ok := c.(interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	})
	switch {
	case !ok:
		return nil
	case read:
		return b.SetReadBuffer(n)
	default:
		return b.SetWriteBuffer(n)
	}
}
