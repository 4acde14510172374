package swarm

import (
	"bufio"
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"dunlin/wire"
)

// TestLaneListensBeside: above the highest port there is none.
func TestLaneListensBeside(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/127.0.0.1/tcp/0": "/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/4001": "/ip4/0.0.0.0/tcp/4002",
		"/ip6/::/udp/4001/quic-v1": "/ip6/::/udp/4002/quic-v1", "/ip4/0.0.0.0/tcp/65535": "/ip4/0.0.0.0/tcp/65534",
	} {
		if got := laneAddr(multiaddr.StringCast(addr)).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// TestBulkHasItsOwnConnection fetches in both directions: the connection for
// bulk is made by whoever made the one for control, and only when it is needed.
func TestBulkHasItsOwnConnection(t *testing.T) {
	for name, first := range map[string]int{"dialler asks": 0, "dialled asks": 1} {
		t.Run(name, func(t *testing.T) {
			a, b, heardA, heardB := pair(t, nil)
			heardA.expect(t, "up", b.ID(), "")
			heardB.expect(t, "up", a.ID(), "")
			hosts := []*Host{a, b}
			for _, h := range hosts {
				if n := len(h.lane.p2p.Network().Conns()); n != 0 {
					t.Errorf("%d connections for bulk before any", n)
				}
			}
			for i := range 2 {
				from, to := hosts[(first+i)%2], hosts[(first+i+1)%2]
				if got, err := from.Fetch(t.Context(), to.ID(), wire.ClassData, []byte("x"), 10); err != nil || string(got) != "re: x" {
					t.Fatalf("%q, %v", got, err)
				}
			}
			if n := len(a.lane.p2p.Network().Conns()); n != 1 {
				t.Errorf("%d connections for bulk", n)
			}
			for _, c := range b.lane.p2p.Network().Conns() {
				if c.Stat().Direction.String() != "Inbound" {
					t.Error("who was dialled for control has dialled for bulk")
				}
			}
			a.Forget(b.ID())
			heardA.until(t, "down")
			heardB.until(t, "down")
			if _, err := b.Fetch(t.Context(), a.ID(), wire.ClassData, []byte("x"), 10); err == nil {
				t.Error("bulk outlives the session")
			}
		})
	}
}

// TestLaneOfNobodyIsRefused: whoever has no session gets no bulk.
func TestLaneOfNobodyIsRefused(t *testing.T) {
	h, heard := startHost(t, 1, nil)
	e := newHostile(t, h, nil, nil)
	heard.expect(t, "up", e.id(), "")
	e.join(h)
	e.ask(h, []byte{1, 0, 20, 1, 'x'}).Close()
	other := newHostile(t, h, nil, nil)
	heard.expect(t, "up", other.id(), "")
	other.lane.Peerstore().AddAddrs(h.lane.p2p.ID(), h.lane.p2p.Addrs(), 1<<40)
	st, err := other.lane.NewStream(context.Background(), h.lane.p2p.ID(), testBulk)
	if err != nil {
		return
	}
	st.Write([]byte{1, 0, 20, 1, 'x'})
	if n, err := st.Read(make([]byte, 1)); err == nil {
		t.Errorf("a stranger's lane was served %d bytes", n)
	}
}

func FuzzHello(f *testing.F) {
	key, lane := testKey(1), testKey(2)
	text := (&Config{Protocol: testProtocol}).laneText(wire.PeerIDOf(key), wire.PeerIDOf(lane))
	f.Add(appendHello(nil, hello{
		instance: 7, lane: wire.PeerIDOf(lane), identity: wire.Sign(key, kindLane, text), proof: wire.Sign(lane, kindLane, text),
		addrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/4002")},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		hi, err := readHello(bufio.NewReader(bytes.NewReader(b)))
		if err == nil && !bytes.HasPrefix(b, appendHello(nil, hi)) {
			t.Fatalf("hello %x reads back otherwise", b)
		}
	})
}

// TestRequestsShareStreams: requests that follow each other need one stream, and
// one that the remote gave up meanwhile costs nothing.
func TestRequestsShareStreams(t *testing.T) {
	a, b, heardA, heardB := pair(t, nil)
	heardA.expect(t, "up", b.ID(), "")
	heardB.expect(t, "up", a.ID(), "")
	fetch := func() {
		t.Helper()
		if got, err := a.Fetch(t.Context(), b.ID(), wire.ClassData, []byte("x"), 10); err != nil || string(got) != "re: x" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	streams := func() (ids []string) {
		for _, c := range a.lane.p2p.Network().Conns() {
			for _, st := range c.GetStreams() {
				if st.Protocol() == a.bulk {
					ids = append(ids, st.ID())
				}
			}
		}
		return ids
	}
	fetch()
	first := streams()
	fetch()
	if again := streams(); len(first) != 1 || !slices.Equal(first, again) {
		t.Errorf("streams %v after the first request, %v after the second", first, again)
	}
	for _, c := range b.lane.p2p.Network().Conns() {
		for _, st := range c.GetStreams() {
			if st.Protocol() == b.bulk {
				st.Reset()
			}
		}
	}
	fetch()
	if now := streams(); len(now) != 1 || slices.Equal(first, now) {
		t.Errorf("streams %v where %v was reset", now, first)
	}
}
