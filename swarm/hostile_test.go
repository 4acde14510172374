package swarm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	p2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"dunlin/wire"
)

const (
	testControl = protocol.ID(testProtocol + "/control")
	testBulk    = protocol.ID(testProtocol + "/bulk")
)

// hostile is a pair of libp2p hosts that speak the run's protocols by hand, badly.
type hostile struct {
	p2phost.Host
	lane         p2phost.Host
	key, laneKey ed25519.PrivateKey
	t            *testing.T
}

func hostileHost(t *testing.T) (p2phost.Host, ed25519.PrivateKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := p2pcrypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	host, err := libp2p.New(libp2p.Identity(identity), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	return host, key
}

// newHostile connects a hostile host to h; its handlers are the attack's.
func newHostile(t *testing.T, h *Host, control, bulk network.StreamHandler) *hostile {
	t.Helper()
	e := &hostile{t: t}
	e.Host, e.key = hostileHost(t)
	e.lane, e.laneKey = hostileHost(t)
	ignore := func(st network.Stream) { io.Copy(io.Discard, st) }
	if control == nil {
		control = func(st network.Stream) {
			st.Write([]byte{helloTaken})
			ignore(st)
		}
	}
	if bulk == nil {
		bulk = ignore
	}
	e.SetStreamHandler(testControl, control)
	e.lane.SetStreamHandler(testBulk, bulk)
	if err := e.connect(h); err != nil {
		t.Fatal(err)
	}
	return e
}

// hello is a proper one.
func (e *hostile) hello(instance uint64) []byte {
	id := wire.PeerIDOf(e.laneKey)
	text := (&Config{Protocol: testProtocol}).laneText(wire.PeerIDOf(e.key), id)
	return appendHello(nil, hello{
		instance: instance, lane: id, addrs: e.lane.Addrs(),
		identity: wire.Sign(e.key, kindLane, text), proof: wire.Sign(e.laneKey, kindLane, text),
	})
}

// join says hello and connects for bulk.
func (e *hostile) join(h *Host) {
	e.t.Helper()
	st := e.open(h, testControl, e.hello(1))
	if _, err := st.Read(make([]byte, 1)); err != nil {
		e.t.Fatal(err)
	}
	if err := e.lane.Connect(e.t.Context(), p2ppeer.AddrInfo{ID: h.lane.p2p.ID(), Addrs: h.lane.p2p.Addrs()}); err != nil {
		e.t.Fatal(err)
	}
}

// ask starts a bulk stream to h, which knows e's lane, with the first bytes.
func (e *hostile) ask(h *Host, b []byte) network.Stream {
	e.t.Helper()
	st, err := e.lane.NewStream(e.t.Context(), h.lane.p2p.ID(), testBulk)
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err := st.Write(b); err != nil {
		e.t.Fatal(err)
	}
	return st
}

func (e *hostile) connect(h *Host) error {
	info, err := p2ppeer.AddrInfoFromString(h.Addrs()[0])
	if err != nil {
		e.t.Fatal(err)
	}
	return e.Connect(e.t.Context(), *info)
}

func (e *hostile) id() wire.PeerID {
	id, err := wireID(e.ID())
	if err != nil {
		e.t.Fatal(err)
	}
	return id
}

// open starts a stream to h and writes the first bytes.
func (e *hostile) open(h *Host, proto protocol.ID, b []byte) network.Stream {
	e.t.Helper()
	st, err := e.NewStream(e.t.Context(), h.p2p.ID(), proto)
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err := st.Write(b); err != nil {
		e.t.Fatal(err)
	}
	return st
}

func TestHostilePeersAreCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		attack func(e *hostile, h *Host)
		reason string
	}{
		"other version": {func(e *hostile, h *Host) { e.open(h, testControl, append([]byte{9}, e.hello(1)[1:]...)) }, "version 9"},
		"no instance":   {func(e *hostile, h *Host) { e.open(h, testControl, e.hello(0)) }, "no instance"},
		"garbage": {func(e *hostile, h *Host) {
			e.open(h, testControl, append(e.hello(1), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
		}, "garbage"},
		"padded length":  {func(e *hostile, h *Host) { e.open(h, testControl, append(e.hello(1), 0x81, 0x00)) }, "garbage"},
		"huge length":    {func(e *hostile, h *Host) { e.open(h, testControl, binary.AppendUvarint(e.hello(1), 1<<40)) }, "garbage"},
		"long message":   {func(e *hostile, h *Host) { e.open(h, testControl, binary.AppendUvarint(e.hello(1), 1<<21)) }, "a message of 2097152 bytes"},
		"many addresses": {func(e *hostile, h *Host) { e.open(h, testControl, append(e.hello(1)[:9+32+64+64], 17)) }, "17 addresses"},
		"no address":     {func(e *hostile, h *Host) { e.open(h, testControl, append(e.hello(1)[:9+32+64+64], 1, 1, 0xff)) }, "no address"},
		"other's lane":   {claim, "not its own"},
		"flood":          {flood, "floods"},
		"other's stream": {func(e *hostile, h *Host) { e.open(h, testControl, e.hello(1)) }, "not its own"},
		"stream churn":   {churn, "too often"},
		"class":          {func(e *hostile, h *Host) { e.join(h); e.ask(h, []byte{wire.Classes, 0, 1, 1, 'x'}) }, fmt.Sprintf("class %d", wire.Classes)},
		"long request":   {func(e *hostile, h *Host) { e.join(h); e.ask(h, []byte{1, 0, 1, 0xff, 0xff, 0xff, 0x7f}) }, "want 1 to 65536"},
		"no credit":      {func(e *hostile, h *Host) { e.join(h); e.ask(h, []byte{1, 0, 0, 1, 'x'}) }, "for no bytes"},
		"empty grant":    {func(e *hostile, h *Host) { e.join(h); e.ask(h, []byte{1, 0, 1, 1, 'x', 0}) }, "credit for no bytes"},
		"padded grant":   {func(e *hostile, h *Host) { e.join(h); e.ask(h, []byte{1, 0, 1, 1, 'x', 0x81, 0}) }, "garbage"},
		"padded offset":  {func(e *hostile, h *Host) { e.join(h); e.ask(h, []byte{1, 0x80, 0, 1, 1, 'x'}) }, "garbage"},
	} {
		t.Run(name, func(t *testing.T) {
			h, heard := startHost(t, 1, func(c *Config) { c.Limits.MessageBurst = 100 })
			var control network.StreamHandler
			if name == "other's stream" {
				control = func(st network.Stream) { st.Write([]byte("what?")) }
			}
			e := newHostile(t, h, control, nil)
			heard.expect(t, "up", e.id(), "")
			test.attack(e, h)
			heard.until(t, "down")
			eventually(t, "it is kept out", func() bool { return !h.gate.admits(e.ID()) })
			cuts := h.Stats().CutOffs
			if len(cuts) == 0 || cuts[0].Peer != e.id() || !strings.Contains(cuts[0].Reason, test.reason) {
				t.Errorf("cut-offs %v, want one for %q", cuts, test.reason)
			}
		})
	}
}

// Who speaks the protocol, whose name any stranger learns, and does not know the run, hears nothing.
func TestStrangersAreToldNothing(t *testing.T) {
	h, heard := startHost(t, 1, func(c *Config) { c.Secret = []byte("run") })
	told := make(chan struct{}, 1)
	e := newHostile(t, h, func(network.Stream) { told <- struct{}{} }, nil)
	heard.expect(t, "up", e.id(), "")
	if err := h.Send(e.id(), []byte("an entry of the ledger")); err != nil {
		t.Fatal(err)
	}
	e.open(h, testControl, e.hello(1))
	heard.until(t, "down")
	if cuts := h.Stats().CutOffs; len(cuts) != 1 || !strings.Contains(cuts[0].Reason, "does not know the run") {
		t.Errorf("cut-offs %v", cuts)
	}
	select {
	case <-told:
		t.Error("a stranger who dialled was spoken to")
	default:
	}
}

// claim names a lane that h knows as another's.
func claim(e *hostile, h *Host) {
	hi, err := readHello(bufio.NewReader(bytes.NewReader(e.hello(1))))
	if err != nil {
		e.t.Fatal(err)
	}
	hi.lane = wire.PeerIDOf(h.lane.key)
	hi.identity = wire.Sign(e.key, kindLane, (&Config{Protocol: testProtocol}).laneText(e.id(), hi.lane))
	e.open(h, testControl, appendHello(nil, hi))
}

func flood(e *hostile, h *Host) {
	st := e.open(h, testControl, e.hello(1))
	for range 100000 {
		if _, err := st.Write(appendFrame(nil, []byte("x"))); err != nil {
			return
		}
	}
}

func churn(e *hostile, h *Host) {
	for end := time.Now().Add(bound); h.gate.admits(e.ID()) && time.Now().Before(end); {
		st, err := e.NewStream(e.t.Context(), h.p2p.ID(), testControl)
		if err != nil {
			continue // it was thrown out and dials again
		}
		st.Write(appendFrame(e.hello(1), []byte("x")))
	}
}

func TestCutOffPeerReturnsAfterItsTime(t *testing.T) {
	h, heard := startHost(t, 1, func(c *Config) { c.Limits.Shun = 300 * time.Millisecond })
	e := newHostile(t, h, nil, nil)
	heard.expect(t, "up", e.id(), "")
	e.open(h, testControl, e.hello(0))
	heard.expect(t, "down", e.id(), "")
	until := h.Stats().CutOffs[0].Until
	for e.connect(h) != nil || h.p2p.Network().Connectedness(e.ID()) != network.Connected {
		if time.Since(until) > bound {
			t.Fatal("the peer is out for ever")
		}
	}
	if time.Now().Before(until) {
		t.Errorf("the peer was back %s early", time.Until(until))
	}
}

func TestPeerThatNeverReadsLosesItsSession(t *testing.T) {
	h, heard := startHost(t, 1, func(c *Config) { c.Limits.Write = 200 * time.Millisecond })
	release := make(chan struct{})
	defer close(release)
	e := newHostile(t, h, func(network.Stream) { <-release }, nil)
	heard.expect(t, "up", e.id(), "")
	msg := make([]byte, 256<<10)
	for h.Send(e.id(), msg) == nil {
	}
	heard.expect(t, "down", e.id(), "")
	eventually(t, "nothing counts as queued", func() bool { return h.queued.Load() == 0 })
}

func TestHelloOfANewProcessEndsTheSession(t *testing.T) {
	h, heard := startHost(t, 1, nil)
	e := newHostile(t, h, nil, nil)
	heard.expect(t, "up", e.id(), "")
	e.open(h, testControl, appendFrame(e.hello(1), []byte("old")))
	heard.expect(t, "message", e.id(), "old")
	e.open(h, testControl, appendFrame(e.hello(2), []byte("new")))
	heard.expect(t, "down", e.id(), "")
	heard.expect(t, "up", e.id(), "")
	heard.expect(t, "message", e.id(), "new")
}

func TestHalfARequestIsGivenUp(t *testing.T) {
	h, heard := startHost(t, 1, func(c *Config) { c.Limits.Stall = 500 * time.Millisecond; c.Limits.Serves = 1 })
	e := newHostile(t, h, nil, nil)
	heard.expect(t, "up", e.id(), "")
	e.join(h)
	st := e.ask(h, []byte{1, 0, 20, 10, 'x'})
	st.SetReadDeadline(time.Now().Add(bound))
	if _, err := st.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
		t.Errorf("half a request: %v, want a reset", err)
	}
	whole := e.ask(h, []byte{1, 0, 20, 1, 'x'})
	whole.CloseWrite()
	answer, err := io.ReadAll(whole)
	if err != nil || string(answer) != "\x00\x05re: x" {
		t.Errorf("a whole request after it: %q, %v", answer, err)
	}
}

// TestRequestsCountAcrossSessions: who comes back while a request of the session before is answered has a place less.
func TestRequestsCountAcrossSessions(t *testing.T) {
	h, heard := startHost(t, 1, func(c *Config) { c.Limits.Serves = 1 })
	started, release := make(chan struct{}, 2), make(chan struct{})
	defer close(release)
	heard.serve = func(context.Context, wire.PeerID, []byte) ([]byte, error) {
		started <- struct{}{}
		<-release
		return nil, nil
	}
	e := newHostile(t, h, nil, nil)
	heard.expect(t, "up", e.id(), "")
	e.join(h)
	e.ask(h, []byte{1, 0, 20, 1, 'x'})
	<-started
	e.lane.Network().ClosePeer(h.lane.p2p.ID())
	e.Network().ClosePeer(h.p2p.ID())
	heard.until(t, "down")
	if err := e.connect(h); err != nil {
		t.Fatal(err)
	}
	heard.until(t, "up")
	e.join(h)
	st := e.ask(h, []byte{1, 0, 20, 1, 'x'})
	st.SetReadDeadline(time.Now().Add(bound))
	answer := make([]byte, 1)
	if _, err := st.Read(answer); err != nil || answer[0] != answerBusy {
		t.Errorf("a second request at a time: answer %d, %v; want busy", answer[0], err)
	}
}

func TestFetchFromHostileServer(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	say := func(b ...byte) network.StreamHandler {
		return func(st network.Stream) {
			st.Write(b)
			<-release
		}
	}
	for name, test := range map[string]struct {
		serve network.StreamHandler
		want  error
	}{
		"silence":       {say(), ErrStalled},
		"stall":         {say(answerBytes, 10, 'x'), ErrStalled},
		"huge":          {say(answerBytes, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), ErrTooLarge},
		"long refusal":  {say(answerRefused, 0xff, 0xff, 0x7f), ErrTooLarge},
		"unknown kind":  {say(77, 0), ErrUnreachable},
		"endless size":  {say(0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), ErrUnreachable},
		"reset":         {func(st network.Stream) { st.Reset() }, ErrUnreachable},
		"early end":     {func(st network.Stream) { st.Write([]byte{answerBytes, 10, 'x'}); st.Close() }, ErrUnreachable},
		"busy":          {say(answerBusy, 0), ErrBusy},
		"drops network": {func(st network.Stream) { st.Conn().Close() }, ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			h, heard := startHost(t, 1, func(c *Config) {
				if c.Limits.Stall, c.Limits.Answer = bound, bound; errors.Is(test.want, ErrStalled) {
					c.Limits.Stall, c.Limits.Answer = 200*time.Millisecond, 300*time.Millisecond
				}
			})
			e := newHostile(t, h, nil, test.serve)
			heard.expect(t, "up", e.id(), "")
			e.join(h)
			got, err := h.Fetch(t.Context(), e.id(), wire.ClassData, []byte("x"), 1<<20)
			if !errors.Is(err, test.want) {
				t.Errorf("got %q, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestOtherKindsOfIdentityAreRefused(t *testing.T) {
	h, _ := startHost(t, 1, nil)
	key, _, err := p2pcrypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := libp2p.New(libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	e := &hostile{Host: host, t: t}
	if e.connect(h) == nil {
		// The dialler may believe in a connection that the other side has refused.
		if st, err := host.NewStream(t.Context(), h.p2p.ID(), testControl); err == nil {
			st.Write(e.hello(1))
			if _, err := st.Read(make([]byte, 1)); err == nil {
				t.Error("a secp256k1 identity was served")
			}
		}
	}
	if len(h.Peers()) != 0 {
		t.Errorf("sessions: %v", h.Peers())
	}
}

func TestGateForgetsTheOldest(t *testing.T) {
	g := newGate()
	for i := range maxShunned + 10 {
		var id wire.PeerID
		binary.BigEndian.PutUint32(id[:], uint32(i))
		g.shun(p2ppeer.ID(id[:]), CutOff{Until: time.Now().Add(time.Hour + time.Duration(i))})
	}
	if len(g.shunned) != maxShunned || len(g.recent) != maxCutOffs {
		t.Errorf("%d shunned, %d remembered", len(g.shunned), len(g.recent))
	}
}
