package swarm

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	connmgrcore "github.com/libp2p/go-libp2p/core/connmgr"
	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	p2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	p2pswarm "github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"
)

func newLibp2p(options []libp2p.Option) (p2phost.Host, error) {
	host, err := libp2p.New(options...)
	if err != nil {
		return nil, fmt.Errorf("start libp2p: %w", err)
	}
	return host, nil
}

// options names every part of libp2p that a host uses; nothing is left to its defaults. outside are the addresses that lead
// to it from outside.
func (h *Host) options(identity ed25519.PrivateKey, gate connmgrcore.ConnectionGater, muxer *yamux.Transport, resources network.ResourceManager, outside []multiaddr.Multiaddr) ([]libp2p.Option, error) {
	key, err := p2pcrypto.UnmarshalEd25519PrivateKey(identity)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("identity key: %w", err), resources.Close())
	}
	high := h.limits.Conns * 7 / 8
	connections, err := connmgr.NewConnManager(high*7/8, high, connmgr.WithGracePeriod(30*time.Second))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connection manager: %w", err), resources.Close())
	}
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.NoListenAddrs, // start listens itself, address by address
		libp2p.DisableMetrics(),
		libp2p.Ping(false),
		libp2p.UserAgent("dunlin"),
		libp2p.ProtocolVersion("dunlin/1"),
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, muxer),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(connections),
		libp2p.ConnectionGater(gate),
		libp2p.WithDialTimeout(h.limits.Dial),
		// Many peers behind routers do not answer a call over UDP; that says nothing of the next.
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.SwarmOpts(p2pswarm.WithDialRanker(rankDials)),
		libp2p.QUICReuse(h.quicManager),
		libp2p.Transport(h.quicTransport),
	}
	if h.cfg.Packets == nil {
		options = append(options, libp2p.Transport(h.tcpTransport))
	}
	if len(outside) > 0 {
		options = append(options, libp2p.AddrsFactory(func(own []multiaddr.Multiaddr) []multiaddr.Multiaddr { return slices.Concat(own, outside) }))
	}
	reach, err := h.cfg.Reach.options(h.cfg.Packets != nil)
	if err != nil {
		return nil, errors.Join(err, resources.Close())
	}
	options = append(options, reach...)
	return options, nil
}

// muxer is yamux with a window for home links and quick notice of a link that died silently.
func (l Limits) muxer() *yamux.Transport {
	config := *yamux.DefaultTransport
	config.MaxStreamWindowSize = 4 << 20
	config.KeepAliveInterval = l.Idle
	return &config
}

// controlMuxer is the muxer for control. It measures the round trip once, for windows that control does not fill: a
// coordinator would measure a thousand of them again and again.
func (l Limits) controlMuxer() *yamux.Transport {
	config := l.muxer()
	config.MeasureRTTInterval = time.Hour
	return config
}

// tcpTransport counts bytes at the socket. It does not share ports between
// sockets: with SO_REUSEPORT two hosts on one port would both seem to listen.
func (h *Host) tcpTransport(upgrader transport.Upgrader, resources network.ResourceManager) (*tcpDialler, error) {
	t, err := tcp.NewTCPTransport(&meteredUpgrader{Upgrader: upgrader, meter: h.meter}, resources, nil,
		tcp.DisableReuseport(), tcp.WithConnectionTimeout(h.limits.Dial))
	return &tcpDialler{t, &h.refusals}, err
}

// quicManager is libp2p's QUIC with our sockets and idle time.
func (h *Host) quicManager(reset quic.StatelessResetKey, token quic.TokenGeneratorKey, resources network.ResourceManager, life fx.Lifecycle) (*quicreuse.ConnManager, error) {
	options := []quicreuse.Option{
		quicreuse.OverrideListenUDP(h.listenUDP),
		quicreuse.VerifySourceAddress(resources.VerifySourceAddress),
		// The resource manager must count a connection before the handshake costs anything.
		quicreuse.ConnContext(func(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
			addr, err := quicreuse.ToQuicMultiaddr(client.RemoteAddr, quic.Version1)
			if err != nil {
				addr = nil
			}
			scope, err := resources.OpenConnection(network.DirInbound, false, addr)
			if err != nil {
				return ctx, err
			}
			ctx = network.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
	}
	if h.cfg.Packets != nil {
		options = append(options, quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) {
			return sourceIP{h.cfg.Packets}, nil
		}))
	}
	manager, err := quicreuse.NewConnManager(reset, token, options...)
	if err != nil {
		return nil, err
	}
	// The dialler's idle time holds for both ends: QUIC takes the smaller of the two.
	manager.ClientConfig().MaxIdleTimeout = h.limits.QUICIdle
	manager.ClientConfig().KeepAlivePeriod = h.limits.QUICIdle / 3
	life.Append(fx.StopHook(manager.Close))
	return manager, nil
}

func (h *Host) listenUDP(netw string, addr *net.UDPAddr) (net.PacketConn, error) {
	var socket net.PacketConn
	var err error
	if h.cfg.Packets != nil {
		socket, err = h.cfg.Packets.ListenPacket(addr)
	} else {
		socket, err = net.ListenUDP(netw, addr)
	}
	if err != nil {
		return nil, err
	}
	return &meteredPackets{PacketConn: socket, meter: h.meter}, nil
}

type sourceIP struct{ network PacketNetwork }

func (s sourceIP) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return s.network.SourceIP(), nil
}
