package swarmtest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dunlin/swarm"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// behindWalls starts a relay and two hosts that nobody can dial, and connects
// the first of them to the second through the relay.
func behindWalls(t *testing.T, network *swarmtest.Network, blob []byte) (a, b *swarm.Host, heard *handler) {
	t.Helper()
	relay := network.Host(newHandler(nil), func(c *swarm.Config) { c.Reach.Relay = true })
	reach := func(c *swarm.Config) { c.Reach = swarm.Reach{NAT: true, Relays: relay.Addrs()} }
	heard = newHandler(blob)
	a, b = network.Host(newHandler(nil), reach), network.Host(heard, reach)
	network.Wall(a)
	network.Wall(b)
	for _, h := range []*swarm.Host{a, b} {
		if err := h.Connect(t.Context(), relay.ID(), relay.Addrs()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(30 * time.Second) // virtual: reservations
	var through []string
	for _, addr := range b.Addrs() {
		if strings.Contains(addr, "p2p-circuit") {
			through = append(through, addr)
		}
	}
	if len(through) == 0 {
		t.Fatalf("no address through the relay among %v", b.Addrs())
	}
	return a, b, heard
}

// TestHolePunching: two hosts behind routers meet through a relay, which carries
// control only, and then directly, where bulk goes.
func TestHolePunching(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		a, b, heard := behindWalls(t, network, make([]byte, 1<<20))
		if err := a.Connect(t.Context(), b.ID(), b.Addrs()); err != nil {
			t.Fatal(err)
		}
		if err := a.Send(b.ID(), []byte("hello")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if heard.count(a.ID()) != 1 {
			t.Error("the message did not come")
		}
		for i, h := range []*swarm.Host{a, b} {
			other := []*swarm.Host{b, a}[i]
			if got, err := h.Fetch(t.Context(), other.ID(), wire.ClassResult, []byte("x"), 1<<20); err != nil || i == 0 && len(got) != 1<<20 {
				t.Errorf("host %d: %d bytes, %v", i, len(got), err)
			}
		}
	})
}

// TestRelayCarriesNoBulk: where no hole can be punched, control still flows and
// bulk says that there is no way.
func TestRelayCarriesNoBulk(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		a, b, heard := behindWalls(t, network, make([]byte, 1<<20))
		network.CutOneWay(a, b)
		network.CutOneWay(b, a)
		if err := a.Connect(t.Context(), b.ID(), b.Addrs()); err != nil {
			t.Fatal(err)
		}
		if err := a.Send(b.ID(), []byte("hello")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if heard.count(a.ID()) != 1 {
			t.Error("the message did not come")
		}
		if _, err := a.Fetch(t.Context(), b.ID(), wire.ClassResult, []byte("x"), 1<<20); !errors.Is(err, swarm.ErrUnreachable) {
			t.Errorf("bulk without a direct way: %v", err)
		}
	})
}
