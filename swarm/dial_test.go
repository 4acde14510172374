package swarm

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"dunlin/wire"
)

func TestBothSidesDialAtOnce(t *testing.T) {
	a, heardA := startHost(t, 1, nil)
	b, heardB := startHost(t, 2, nil)
	var both sync.WaitGroup
	for from, to := range map[*Host]*Host{a: b, b: a} {
		both.Go(func() {
			if err := from.Connect(t.Context(), to.ID(), to.Addrs()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	heardA.expect(t, "up", b.ID(), "")
	heardB.expect(t, "up", a.ID(), "")
	for i := range 50 {
		text := fmt.Sprint(i)
		if err := errors.Join(a.Send(b.ID(), []byte(text)), b.Send(a.ID(), []byte(text))); err != nil {
			t.Fatal(err)
		}
		heardA.expect(t, "message", b.ID(), text)
		heardB.expect(t, "message", a.ID(), text)
	}
}

func TestReconnectsToARestartedPeer(t *testing.T) {
	at := kept(t)[:1]
	there := func(c *Config) { c.Listen = at }
	a, heardA := startHost(t, 1, nil)
	b, _ := startHost(t, 2, there)
	id := b.ID()
	if err := a.Connect(t.Context(), id, b.Addrs()); err != nil {
		t.Fatal(err)
	}
	heardA.expect(t, "up", id, "")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	heardA.expect(t, "down", id, "")
	again, heardAgain := startHost(t, 2, there)
	heardA.expect(t, "up", id, "")
	heardAgain.expect(t, "up", a.ID(), "")
	if err := a.Send(again.ID(), []byte("hello again")); err != nil {
		t.Fatal(err)
	}
	heardAgain.expect(t, "message", a.ID(), "hello again")
}

func TestConnectKeepsTrying(t *testing.T) {
	at := kept(t)[:1]
	there := func(c *Config) { c.Listen = at }
	a, heardA := startHost(t, 1, nil)
	b, _ := startHost(t, 2, there)
	addr, id := b.Addrs()[0], b.ID()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	err := a.Connect(t.Context(), id, []string{addr})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("connect to a host that is gone: %v", err)
	}
	t.Log(err)
	startHost(t, 2, there)
	heardA.expect(t, "up", id, "")
}

// A process that was reached over TCP and is gone leaves a dial over QUIC without an answer: it is not waited for, and
// the next process is connected over TCP, which tells of its end at once.
func TestGoneProcessIsNotAwaitedOverQUIC(t *testing.T) {
	at := kept(t)
	there := func(c *Config) { c.Listen = at }
	a, heardA := startHost(t, 1, func(c *Config) { c.Listen = Loopback() })
	b, _ := startHost(t, 2, there)
	listen, id := b.Addrs(), b.ID()
	if err := a.Connect(t.Context(), id, listen); err != nil {
		t.Fatal(err)
	}
	heardA.expect(t, "up", id, "")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	heardA.expect(t, "down", id, "")
	began := time.Now()
	err := a.Connect(t.Context(), id, listen)
	if took := time.Since(began); err == nil || took > testLimits().Dial/2 {
		t.Fatalf("a dial to a process that is gone took %v: %v", took, err)
	}
	startHost(t, 2, there)
	heardA.expect(t, "up", id, "")
	if c := a.p2p.Network().ConnsToPeer(p2pID(id))[0]; !isTCP(c.RemoteMultiaddr()) {
		t.Errorf("the next process is connected at %s", c.RemoteMultiaddr())
	}
}

// A peer has addresses that answer nobody here, such as those of its home network. Once the one that led to it refuses, its process is
// gone, and a dial that waited for the others would miss that it is back: no address is tried twice in one dial.
func TestGoneProcessIsNotAwaitedElsewhere(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := kept(t)[:1]
	there := func(c *Config) { c.Listen = at }
	a, heardA := startHost(t, 1, nil)
	b, _ := startHost(t, 2, there)
	listen, id := b.Addrs()[0], b.ID()
	if err := a.Connect(t.Context(), id, []string{listen}); err != nil {
		t.Fatal(err)
	}
	heardA.expect(t, "up", id, "")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	heardA.expect(t, "down", id, "")
	dialled := make(chan error, 1)
	go func() {
		dialled <- a.Connect(t.Context(), id, []string{listen, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", mute.Addr().(*net.TCPAddr).Port)})
	}()
	silent, err := mute.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(silent.Close(), mute.Close()) }()
	eventually(t, "the dial is refused", func() bool { return a.refusals.gone(p2pID(id), multiaddr.StringCast(listen)) })
	startHost(t, 2, there)
	back := time.Now()
	heardA.expect(t, "up", id, "")
	if took := time.Since(back); took > testLimits().Dial/2 {
		t.Errorf("a process that is back was connected after %v", took)
	}
	if err := <-dialled; err != nil && !errors.Is(err, errGone) {
		t.Errorf("the dial ended with %v", err)
	}
}

func TestForget(t *testing.T) {
	a, b, heardA, heardB := pair(t, nil)
	heardA.expect(t, "up", b.ID(), "")
	heardB.expect(t, "up", a.ID(), "")
	a.Forget(b.ID())
	heardA.expect(t, "down", b.ID(), "")
	heardB.expect(t, "down", a.ID(), "")
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.peers[p2pID(b.ID())]; r != nil && r.keeper != nil {
		t.Error("a forgotten peer is still kept connected")
	}
}

func TestConnectRefuses(t *testing.T) {
	a, _ := startHost(t, 1, func(c *Config) { c.Limits.Remembered = 1 })
	b, _ := startHost(t, 2, nil)
	other, _ := startHost(t, 3, func(c *Config) { c.Protocol = "/dunlin/1/other" })
	third := wire.PeerIDOf(testKey(4))
	for name, test := range map[string]struct {
		id    wire.PeerID
		addrs []string
		want  string
	}{
		"itself":        {a.ID(), a.Addrs(), "own id"},
		"garbage":       {third, []string{"localhost:4001"}, `address "localhost:4001"`},
		"another's":     {third, b.Addrs(), "names another peer"},
		"too many":      {third, make([]string, maxAddrs+1), "at most 32"},
		"only identity": {b.ID(), []string{b.Addrs()[0][strings.Index(b.Addrs()[0], "/p2p/"):]}, "no host and port"},
	} {
		if err := a.Connect(t.Context(), test.id, test.addrs); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	eventually(t, "told that a peer is of another run", func() bool { // the keeper may have closed the connection on which this dial asks
		err := a.Connect(t.Context(), other.ID(), other.Addrs())
		if !errors.Is(err, ErrOtherRun) && !errors.Is(err, ErrNotConnected) {
			t.Errorf("peer of another run: %v", err)
		}
		return errors.Is(err, ErrOtherRun)
	})
	if err := a.Connect(t.Context(), b.ID(), b.Addrs()); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more than may be remembered: %v", err)
	}
	if _, err := New(t.Context(), Config{
		Key: testKey(5), Protocol: testProtocol, Handler: newRecorder(),
		Listen: []string{strings.Split(b.Addrs()[0], "/p2p/")[0]},
	}); err == nil || !strings.Contains(err.Error(), "port taken") {
		t.Errorf("a port in use: %v", err)
	}
}

// leftover connects to h with the key of a host and says nothing, as an attempt at
// another address does that came second.
func leftover(t *testing.T, h *Host, seed byte) interface{ Close() error } {
	t.Helper()
	identity, err := p2pcrypto.UnmarshalEd25519PrivateKey(testKey(seed))
	if err != nil {
		t.Fatal(err)
	}
	host, err := libp2p.New(libp2p.Identity(identity), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	host.SetStreamHandler(testControl, func(st network.Stream) { st.Write([]byte{helloTaken}) })
	if err := host.Connect(t.Context(), p2ppeer.AddrInfo{ID: h.p2p.ID(), Addrs: h.p2p.Addrs()}); err != nil {
		t.Fatal(err)
	}
	return host
}

// A peer that was dialled answers where the hello came from, whatever other
// connections it sees: they may be attempts that their maker gives up.
func TestHelloIsAnsweredWhereItCameFrom(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("leftover first %v", first), func(t *testing.T) {
			h, heardH := startHost(t, 1, nil)
			d, heardD := startHost(t, 2, nil)
			var left interface{ Close() error }
			if first {
				left = leftover(t, h, 2)
			}
			if err := d.Connect(t.Context(), h.ID(), h.Addrs()); err != nil {
				t.Fatal(err)
			}
			if !first {
				left = leftover(t, h, 2)
			}
			heardH.expect(t, "up", d.ID(), "")
			heardD.expect(t, "up", h.ID(), "")
			exchange := func(text string) {
				t.Helper()
				if err := errors.Join(h.Send(d.ID(), []byte(text)), d.Send(h.ID(), []byte(text))); err != nil {
					t.Fatal(err)
				}
				heardH.expect(t, "message", d.ID(), text)
				heardD.expect(t, "message", h.ID(), text)
			}
			exchange("beside the leftover")
			if err := left.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "h has noticed", func() bool { return len(h.p2p.Network().ConnsToPeer(p2pID(d.ID()))) == 1 })
			exchange("after it")
		})
	}
}

// A process that is started again may be connected before the end of the one
// before it is noticed: that end leaves the new connection alone.
func TestOldProcessEndsAfterTheNewOneConnects(t *testing.T) {
	h, heardH := startHost(t, 1, nil)
	old, _ := startHost(t, 2, nil)
	if err := old.Connect(t.Context(), h.ID(), h.Addrs()); err != nil {
		t.Fatal(err)
	}
	heardH.expect(t, "up", old.ID(), "")
	if _, err := h.Fetch(t.Context(), old.ID(), wire.ClassControl, []byte("?"), 64); err != nil { // hellos went both ways
		t.Fatal(err)
	}
	next := leftover(t, h, 2)
	defer next.Close()
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	heardH.expect(t, "down", old.ID(), "")
	if !h.alive(p2pID(old.ID())) {
		t.Error("the new process's connection was closed with the old one's")
	}
}
