package swarm

import (
	"os"
	"testing"

	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
)

// TestMDNS sends multicast beyond loopback, so it runs only when asked for.
func TestMDNS(t *testing.T) {
	if os.Getenv("DUNLIN_TEST_MDNS") == "" {
		t.Skip("set DUNLIN_TEST_MDNS=1 to let it send multicast on this machine's networks")
	}
	everywhere := func(c *Config) {
		c.Listen, c.MDNS, c.Protocol = []string{"/ip4/0.0.0.0/tcp/0"}, true, "/dunlin/1/mdns-test"
	}
	a, heardA := startHost(t, 1, everywhere)
	b, heardB := startHost(t, 2, everywhere)
	heardA.expect(t, "up", b.ID(), "")
	heardB.expect(t, "up", a.ID(), "")
}

func TestPeerFoundOnTheLocalNetwork(t *testing.T) {
	a, heardA := startHost(t, 1, nil)
	b, heardB := startHost(t, 2, nil)
	finder := &mdnsFinder{host: a, slots: make(chan struct{}, 1)}
	finder.HandlePeerFound(p2ppeer.AddrInfo{ID: a.p2p.ID(), Addrs: a.p2p.Addrs()}) // hears itself
	finder.HandlePeerFound(p2ppeer.AddrInfo{ID: b.p2p.ID(), Addrs: b.p2p.Addrs()})
	heardA.expect(t, "up", b.ID(), "")
	heardB.expect(t, "up", a.ID(), "")
}

func TestMDNSServiceIsScopedByRun(t *testing.T) {
	a, b := mdnsService("/dunlin/1/aa"), mdnsService("/dunlin/1/bb")
	if a == b || len(a) > len("_dunlin-123456._udp") {
		t.Errorf("%q and %q", a, b)
	}
}
