package swarmtest_test

import (
	"testing"
	"time"

	"dunlin/swarm"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// TestSilenceOfAnAwaitedPeerEndsItsSession cuts a host off: it is gone within 4 s for whoever awaits something of it, and
// stays connected for the others until the transport notices.
func TestSilenceOfAnAwaitedPeerEndsItsSession(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		hosts, handlers := mesh(t, network, 3, nil)
		lead, other, victim := hosts[0], hosts[1], hosts[2]
		lead.Await([]wire.PeerID{other.ID(), victim.ID()})
		time.Sleep(time.Minute)
		if handlers[0].peers() != 2 {
			t.Fatal("the awaited peers, which are alive, are not connected")
		}
		network.Cut(victim)
		start := time.Now()
		time.Sleep(4 * time.Second)
		if lead.Connected(victim.ID()) || !lead.Connected(other.ID()) {
			t.Errorf("after 4 s connected to the victim: %v, to the other: %v", lead.Connected(victim.ID()), lead.Connected(other.ID()))
		}
		if !other.Connected(victim.ID()) {
			t.Error("who awaits nothing has no reason to end the session yet")
		}
		handlers[0].mu.Lock()
		took := handlers[0].downAt[victim.ID()].Sub(start)
		handlers[0].mu.Unlock()
		if took < swarm.DefaultLimits().Silence {
			t.Errorf("gone after %v: a peer may be silent for %v", took, swarm.DefaultLimits().Silence)
		}
	})
}

// TestSilenceEndsASessionThatBeganLater has a host awaited before it is there, and again as a new process.
func TestSilenceEndsASessionThatBeganLater(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		lead := network.Host(newHandler(nil), nil)
		key := swarmtest.Key(100)
		lead.Await([]wire.PeerID{wire.PeerIDOf(key)})
		join := func() *swarm.Host {
			h := network.Host(newHandler(nil), func(c *swarm.Config) { c.Key = key })
			if err := h.Connect(t.Context(), lead.ID(), lead.Addrs()); err != nil {
				t.Fatal(err)
			}
			return h
		}
		network.Kill(join())
		victim := join()
		time.Sleep(time.Minute)
		if !lead.Connected(victim.ID()) {
			t.Fatal("the awaited peer, which is alive, is not connected")
		}
		network.Cut(victim)
		time.Sleep(4 * time.Second)
		if lead.Connected(victim.ID()) {
			t.Error("silent for 4 s, and still connected")
		}
	})
}

// TestSilenceDuringAFetchEndsIt cuts a host off that owes an answer.
func TestSilenceDuringAFetchEndsIt(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		hosts, _ := mesh(t, network, 2, make([]byte, 1<<20))
		time.AfterFunc(100*time.Millisecond, func() { network.Cut(hosts[1]) })
		start := time.Now()
		if _, err := hosts[0].Fetch(t.Context(), hosts[1].ID(), wire.ClassResult, []byte("blob"), 1<<20); err == nil {
			t.Fatal("an answer came")
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// TestNobodyIsAskedWithoutReason counts what two hosts say that await nothing.
func TestNobodyIsAskedWithoutReason(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		hosts, _ := mesh(t, network, 2, nil)
		spent := func() uint64 {
			before := hosts[0].Stats().Classes[wire.ClassControl].Out
			time.Sleep(10 * time.Minute)
			return hosts[0].Stats().Classes[wire.ClassControl].Out - before
		}
		if n := spent(); n > 0 {
			t.Errorf("%d bytes although nothing is awaited", n)
		}
		hosts[0].Await([]wire.PeerID{hosts[1].ID()})
		if n := spent(); n < 400 || n > 600 {
			t.Errorf("%d bytes in ten minutes, want one each 1.25 s", n)
		}
		hosts[0].Await(nil)
		if n := spent(); n > 1 {
			t.Errorf("%d bytes although nothing is awaited any more", n)
		}
	})
}
