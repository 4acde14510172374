package swarm

import (
	"slices"
	"strings"
	"testing"

	"github.com/multiformats/go-multiaddr"
)

func TestOutside(t *testing.T) {
	for _, test := range []struct {
		text string
		port int
		want string // of TCP
	}{
		{"203.0.113.7", 4001, "/ip4/203.0.113.7/tcp/4001"},
		{"2001:db8::7", 4001, "/ip6/2001:db8::7/tcp/4001"},
		{"dunlin.example.org:5001, [2001:db8::7]:4003", 0, "/dns/dunlin.example.org/tcp/5001 /ip6/2001:db8::7/tcp/4003"},
	} {
		addrs, err := Outside(test.text, test.port)
		var tcp []string
		for _, a := range addrs {
			if _, bad := multiaddr.NewMultiaddr(a); bad != nil {
				t.Errorf("%s: %v", a, bad)
			}
			if strings.Contains(a, "/tcp/") {
				tcp = append(tcp, a)
			}
		}
		if err != nil || strings.Join(tcp, " ") != test.want || len(addrs) != 2*len(tcp) {
			t.Errorf("%q: %q, %v", test.text, addrs, err)
		}
	}
	for _, bad := range []string{"", "a b", "203.0.113.7:0", "203.0.113.7:70000", ":4001", "under_score", "fe80::1%eth0", "203.0.113.7,", "[2001:db8::7]"} {
		if addrs, err := Outside(bad, 4001); err == nil {
			t.Errorf("%q is taken: %q", bad, addrs)
		}
	}
	if _, err := Outside("203.0.113.7", 0); err == nil {
		t.Error("an address without a port is taken")
	}
}

// TestOutsideIsTold: others hear of the addresses that lead here from outside, those of control and of the lane; a name will do.
func TestOutsideIsTold(t *testing.T) {
	inner, _ := startHost(t, 1, func(c *Config) {
		c.Outside = []string{"/ip4/203.0.113.7/tcp/4001", "/ip4/203.0.113.7/udp/4001/quic-v1"}
	})
	if !slices.ContainsFunc(inner.Addrs(), func(s string) bool { return strings.HasPrefix(s, "/ip4/203.0.113.7/tcp/4001/") }) {
		t.Errorf("it tells of %q", inner.Addrs())
	}
	if !multiaddr.Contains(inner.laneAddrs(), multiaddr.StringCast("/ip4/203.0.113.7/udp/4002/quic-v1")) {
		t.Errorf("bulk tells of %v", inner.laneAddrs())
	}
	port, err := inner.p2p.Network().ListenAddresses()[0].ValueForProtocol(multiaddr.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	outer, heard := startHost(t, 2, nil)
	if err := outer.Connect(t.Context(), inner.ID(), []string{"/dns/localhost/tcp/" + port}); err != nil {
		t.Fatal(err)
	}
	heard.expect(t, "up", inner.ID(), "")
	if err := (Config{Key: testKey(3), Protocol: testProtocol, Handler: heard, Outside: []string{"nowhere"}}).Validate(); err == nil {
		t.Error("what is no address is taken")
	}
}
