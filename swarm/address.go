package swarm

import (
	"crypto/ed25519"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"dunlin/wire"
)

// maxAddrs bounds the addresses kept for one peer.
const maxAddrs = 32

// Loopback listens on this machine only, on free ports.
func Loopback() []string {
	return []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
}

// Everywhere listens on all interfaces on one port for TCP and QUIC; port 0
// means free ones. Machines without IPv6 do without it.
func Everywhere(port int) []string {
	return []string{
		fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", port), fmt.Sprintf("/ip4/0.0.0.0/udp/%d/quic-v1", port),
		fmt.Sprintf("/ip6/::/tcp/%d", port), fmt.Sprintf("/ip6/::/udp/%d/quic-v1", port),
	}
}

// Outside turns what people call a machine from outside ("203.0.113.7", "dunlin.example.org:4001", "[2001:db8::7]:4001";
// several with commas between) into the addresses of its host. A port that is not named is the given one, unless that is 0.
func Outside(text string, port int) ([]string, error) {
	var addrs []string
	for one := range strings.SplitSeq(text, ",") {
		one = strings.TrimSpace(one)
		name, at := one, port
		if host, number, err := net.SplitHostPort(one); err == nil {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("%q has no port that can be dialled", clip(one, 80))
			}
			name, at = host, int(n)
		}
		kind := "dns"
		if ip, err := netip.ParseAddr(name); err == nil && ip.Zone() == "" {
			kind = "ip6"
			if ip.Is4() {
				kind = "ip4"
			}
		} else if name == "" || len(name) > 253 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
			return nil, fmt.Errorf("%q is neither an IP address nor a name", clip(one, 80))
		}
		if at == 0 {
			return nil, fmt.Errorf("%q names no port, and none is fixed", clip(one, 80))
		}
		addrs = append(addrs, fmt.Sprintf("/%s/%s/tcp/%d", kind, name, at), fmt.Sprintf("/%s/%s/udp/%d/quic-v1", kind, name, at))
	}
	return addrs, nil
}

// WithPeer adds a peer's id to its addresses.
func WithPeer(addrs []string, id wire.PeerID) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a + "/p2p/" + p2pID(id).String()
	}
	return out
}

// ed25519ID is what stands before an Ed25519 key in a libp2p peer id: a multihash that is no hash (0x00) of 36 bytes, in
// which protobuf names the kind of key (1) and its 32 bytes follow.
const ed25519ID = "\x00\x24\x08\x01\x12\x20"

// p2pID is libp2p's name for a peer: the multihash of its public key. The zero
// id and others that are no Ed25519 key name nobody, which dialling will find.
func p2pID(id wire.PeerID) p2ppeer.ID { return p2ppeer.ID(ed25519ID + string(id[:])) }

// wireID is the inverse of p2pID; libp2p ids of other key types are refused.
func wireID(pid p2ppeer.ID) (wire.PeerID, error) {
	key, err := pid.ExtractPublicKey()
	if err != nil {
		return wire.PeerID{}, fmt.Errorf("peer %s: %w", pid, err)
	}
	raw, err := key.Raw()
	if err != nil {
		return wire.PeerID{}, fmt.Errorf("peer %s: %w", pid, err)
	}
	if key.Type() != p2pcrypto.Ed25519 || len(raw) != ed25519.PublicKeySize {
		return wire.PeerID{}, fmt.Errorf("peer %s: its key is not Ed25519", pid)
	}
	return wire.PeerID(raw), nil
}

// parseAddrs reads addresses of pid with or without their /p2p part.
func parseAddrs(pid p2ppeer.ID, list []string) ([]multiaddr.Multiaddr, error) {
	if len(list) > maxAddrs {
		return nil, fmt.Errorf("%d addresses for one peer, at most %d are kept", len(list), maxAddrs)
	}
	var addrs []multiaddr.Multiaddr
	for _, s := range list {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("address %q: %w", clip(s, 80), err)
		}
		transport, id := p2ppeer.SplitAddr(a)
		if id != "" && id != pid {
			return nil, fmt.Errorf("address %q names another peer than %s", clip(s, 80), pid)
		}
		if transport == nil {
			return nil, fmt.Errorf("address %q has no host and port", clip(s, 80))
		}
		addrs = append(addrs, transport)
	}
	return addrs, nil
}

// dialDelay is the head start of TCP, over which bulk runs better here and a
// process that dies is noticed at once, and that of a direct way over a relay.
const dialDelay = 500 * time.Millisecond

// rankDials dials TCP at once, QUIC when TCP has not answered, and through a
// relay when neither has; what is there without a better one goes at once.
func rankDials(addrs []multiaddr.Multiaddr) []network.AddrDelay {
	grade := func(a multiaddr.Multiaddr) int {
		switch {
		case relayed(a):
			return 2
		case !isTCP(a):
			return 1
		}
		return 0
	}
	var there [3]bool
	for _, a := range addrs {
		there[grade(a)] = true
	}
	var delays [3]time.Duration
	for i := 1; i < len(there); i++ {
		delays[i] = delays[i-1]
		if there[i-1] {
			delays[i] += dialDelay
		}
	}
	ranked := make([]network.AddrDelay, 0, len(addrs))
	for _, a := range addrs {
		ranked = append(ranked, network.AddrDelay{Addr: a, Delay: delays[grade(a)]})
	}
	return ranked
}

func isTCP(a multiaddr.Multiaddr) bool {
	_, err := a.ValueForProtocol(multiaddr.P_TCP)
	return err == nil
}

func isIP6(a multiaddr.Multiaddr) bool {
	_, err := a.ValueForProtocol(multiaddr.P_IP6)
	return err == nil
}

// compareAddrs puts TCP first and is stable otherwise by text.
func compareAddrs(a, b string) int {
	at, bt := strings.Contains(a, "/tcp/"), strings.Contains(b, "/tcp/")
	switch {
	case at && !bt:
		return -1
	case bt && !at:
		return 1
	default:
		return strings.Compare(a, b)
	}
}
