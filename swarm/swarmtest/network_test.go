package swarmtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/swarm"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// home is the link of the virtual-time world.
var home = swarmtest.Link{RTT: 50 * time.Millisecond, Up: 10e6, Down: 10e6}

// handler counts what it hears and serves one blob.
type handler struct {
	blob []byte

	mu       sync.Mutex
	up       map[wire.PeerID]bool
	messages map[wire.PeerID][]string
	downAt   map[wire.PeerID]time.Time
}

func newHandler(blob []byte) *handler {
	return &handler{
		blob: blob, up: make(map[wire.PeerID]bool),
		messages: make(map[wire.PeerID][]string), downAt: make(map[wire.PeerID]time.Time),
	}
}

func (h *handler) Connected(id wire.PeerID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up[id] = true
}

func (h *handler) Disconnected(id wire.PeerID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up[id], h.downAt[id] = false, time.Now()
}

func (h *handler) Message(from wire.PeerID, msg []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages[from] = append(h.messages[from], string(msg))
}

func (h *handler) Serve(context.Context, wire.PeerID, []byte) ([]byte, error) { return h.blob, nil }

// count returns how many messages came from a peer.
func (h *handler) count(from wire.PeerID) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.messages[from])
}

// peers counts the sessions that are open.
func (h *handler) peers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, up := range h.up {
		if up {
			n++
		}
	}
	return n
}

// mesh connects count hosts, each to all.
func mesh(t *testing.T, network *swarmtest.Network, count int, blob []byte) ([]*swarm.Host, []*handler) {
	t.Helper()
	var hosts []*swarm.Host
	var handlers []*handler
	for range count {
		handlers = append(handlers, newHandler(blob))
		hosts = append(hosts, network.Host(handlers[len(handlers)-1], nil))
	}
	for i, a := range hosts {
		for _, b := range hosts[i+1:] {
			if err := a.Connect(t.Context(), b.ID(), b.Addrs()); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(time.Second) // virtual: identification both ways
	for i, h := range handlers {
		if h.peers() != count-1 {
			t.Fatalf("host %d has %d peers", i, h.peers())
		}
	}
	return hosts, handlers
}

func TestEightHostsOnHomeLinks(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		blob := bytes.Repeat([]byte("dunlin "), 1<<15) // 229 kB
		hosts, handlers := mesh(t, network, 8, blob)

		for _, a := range hosts {
			for _, b := range hosts {
				for i := range 5 {
					if a == b {
						continue
					}
					if err := a.Send(b.ID(), fmt.Appendf(nil, "message %d", i)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		time.Sleep(time.Second)
		for i, h := range handlers {
			h.mu.Lock()
			for j, from := range hosts {
				if got := len(h.messages[from.ID()]); i != j && got != 5 {
					t.Errorf("host %d has %d messages of host %d", i, got, j)
				}
				for k, text := range h.messages[from.ID()] {
					if text != fmt.Sprintf("message %d", k) {
						t.Errorf("host %d heard %q as number %d", i, text, k)
					}
				}
			}
			h.mu.Unlock()
		}

		// One after the other, so that the link's speed can be told: 229 kB at 10 Mbit/s.
		start := time.Now()
		got, err := hosts[0].Fetch(t.Context(), hosts[1].ID(), wire.ClassResult, []byte("blob"), len(blob))
		if err != nil || !bytes.Equal(got, blob) {
			t.Fatalf("fetched %d bytes, %v", len(got), err)
		}
		fastest := time.Duration(float64(len(blob)) * 8 / 10e6 * 1e9)
		if took := time.Since(start); took < fastest || took > 4*fastest {
			t.Errorf("%d bytes took %s at 10 Mbit/s", len(blob), took)
		}
		var all sync.WaitGroup
		for i := range hosts {
			all.Go(func() {
				from := hosts[(i+3)%len(hosts)].ID()
				if got, err := hosts[i].Fetch(t.Context(), from, wire.ClassJoin, []byte("blob"), len(blob)); err != nil || len(got) != len(blob) {
					t.Errorf("host %d fetched %d bytes, %v", i, len(got), err)
				}
			})
		}
		all.Wait()
	})
}

func TestSuddenDeathIsSeen(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		hosts, handlers := mesh(t, network, 8, nil)
		dead := hosts[7]
		killed := time.Now()
		network.Kill(dead)
		time.Sleep(15 * time.Second)
		for i, h := range handlers[:7] {
			h.mu.Lock()
			at, seen := h.downAt[dead.ID()]
			h.mu.Unlock()
			if !seen || at.Sub(killed) > 10*time.Second {
				t.Errorf("host %d: death seen %v after %s", i, seen, at.Sub(killed))
			}
			if h.peers() != 6 {
				t.Errorf("host %d has %d peers", i, h.peers())
			}
		}
	})
}

func TestCutLinkHeals(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		hosts, handlers := mesh(t, network, 3, nil)
		network.Cut(hosts[2])
		time.Sleep(time.Minute)
		if handlers[0].peers() != 1 || handlers[2].peers() != 0 {
			t.Errorf("behind a cut: %d and %d peers", handlers[0].peers(), handlers[2].peers())
		}
		if err := hosts[0].Send(hosts[2].ID(), []byte("x")); !errors.Is(err, swarm.ErrNotConnected) {
			t.Errorf("send across a cut: %v", err)
		}
		network.Heal(hosts[2])
		time.Sleep(time.Minute)
		if handlers[0].peers() != 2 || handlers[2].peers() != 2 {
			t.Errorf("after healing: %d and %d peers", handlers[0].peers(), handlers[2].peers())
		}
	})
}

func TestStalledTransferFailsInTime(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		blob := make([]byte, 8<<20)
		hosts, _ := mesh(t, network, 2, blob)
		failed := make(chan error, 1)
		go func() {
			_, err := hosts[0].Fetch(t.Context(), hosts[1].ID(), wire.ClassResult, []byte("blob"), len(blob))
			failed <- err
		}()
		time.Sleep(2 * time.Second) // some 2 MB have come
		synctest.Wait()
		network.CutOneWay(hosts[1], hosts[0])
		cut := time.Now()
		err := <-failed
		if took := time.Since(cut); !errors.Is(err, swarm.ErrStalled) || took < 2*time.Second || took > 4*time.Second {
			t.Errorf("failed after %s: %v", took, err)
		}
	})
}

func TestLossyLinkDelivers(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		link := home
		link.Loss, link.Seed = 0.02, 1
		blob := make([]byte, 1<<18)
		hosts, _ := mesh(t, swarmtest.New(t, link), 2, blob)
		got, err := hosts[0].Fetch(t.Context(), hosts[1].ID(), wire.ClassData, []byte("blob"), len(blob))
		if err != nil || len(got) != len(blob) {
			t.Errorf("fetched %d bytes, %v (seed %d)", len(got), err, link.Seed)
		}
	})
}

func TestReturnUnderTheSameIdentity(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		network := swarmtest.New(t, home)
		hosts, handlers := mesh(t, network, 2, nil)
		network.Kill(hosts[1])
		time.Sleep(time.Second) // host 0 still believes in the dead process
		if !hosts[0].Connected(hosts[1].ID()) {
			t.Fatal("the death was noticed too early for this test")
		}
		heard := newHandler(nil)
		again := network.Host(heard, func(c *swarm.Config) { c.Key = swarmtest.Key(1) })
		if err := again.Connect(t.Context(), hosts[0].ID(), hosts[0].Addrs()); err != nil {
			t.Fatal(err)
		}
		if err := again.Send(hosts[0].ID(), []byte("back")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		handlers[0].mu.Lock()
		_, sawEnd := handlers[0].downAt[again.ID()]
		got := handlers[0].messages[again.ID()]
		handlers[0].mu.Unlock()
		if !sawEnd || len(got) != 1 || got[0] != "back" {
			t.Fatalf("end of the old process seen: %v, messages: %q", sawEnd, got)
		}
		if err := hosts[0].Send(again.ID(), []byte("welcome")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		heard.mu.Lock()
		defer heard.mu.Unlock()
		if got := heard.messages[hosts[0].ID()]; len(got) != 1 || got[0] != "welcome" {
			t.Errorf("the new process heard %q", got)
		}
	})
}
