package swarm

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"dunlin/wire"
)

// taker is a recorder that takes what stages pass, as fast as gate lets it.
type taker struct {
	*recorder
	passed chan []byte
	gate   chan struct{} // nil: at once
}

func (k *taker) Passed(_ wire.PeerID, msg []byte) error {
	if k.gate != nil {
		<-k.gate
	}
	if string(msg) == "nonsense" {
		return errors.New("nobody can read it")
	}
	k.passed <- msg
	return nil
}

// takers are two connected hosts; b takes.
func takers(t *testing.T, gate chan struct{}, change func(*Config)) (a, b *Host, took *taker) {
	t.Helper()
	took = &taker{passed: make(chan []byte, 1<<12), gate: gate}
	b, heard := startHost(t, 2, func(c *Config) {
		took.recorder = c.Handler.(*recorder)
		c.Handler = took
		change(c)
	})
	a, _ = startHost(t, 1, change)
	if err := a.Connect(t.Context(), b.ID(), b.Addrs()); err != nil {
		t.Fatal(err)
	}
	heard.until(t, "up")
	return a, b, took
}

func TestPassKeepsOrderAndBytes(t *testing.T) {
	a, b, took := takers(t, nil, func(*Config) {})
	var want [][]byte
	for i := range 40 {
		msg := bytes.Repeat([]byte{byte(i)}, 1+i*i*97)
		want = append(want, msg)
		if err := a.Pass(b.ID(), msg); err != nil {
			t.Fatal(err)
		}
	}
	for i, msg := range want {
		select {
		case got := <-took.passed:
			if !bytes.Equal(got, msg) {
				t.Fatalf("message %d of %d bytes came as %d bytes", i, len(msg), len(got))
			}
		case <-time.After(bound):
			t.Fatalf("message %d does not come", i)
		}
	}
	if n := b.Stats().Classes[wire.ClassActivation].In; n < uint64(len(want[39])) {
		t.Errorf("%d bytes are counted", n)
	}
	if err := a.Pass(b.ID(), nil); err == nil {
		t.Error("an empty message is passed")
	}
	if err := a.Pass(wire.PeerID{9}, []byte("x")); !errors.Is(err, ErrNotConnected) {
		t.Errorf("to nobody: %v", err)
	}
}

// TestPassWaitsAtItsSender has a receiver that takes nothing: what is passed on waits in
// a bounded queue, which then refuses more, and goes on when it takes again.
func TestPassWaitsAtItsSender(t *testing.T) {
	gate := make(chan struct{})
	a, b, took := takers(t, gate, func(c *Config) { c.Limits.Passing = 64 << 10 })
	msg := make([]byte, 64<<10)
	sent := 0
	var err error
	for range 2000 { // far beyond what windows and queues hold
		if err = a.Pass(b.ID(), msg); err != nil {
			break
		}
		sent++
		time.Sleep(100 * time.Microsecond)
	}
	if !errors.Is(err, ErrQueueFull) {
		t.Fatalf("%d messages were queued for a receiver that takes none: %v", sent, err)
	}
	close(gate)
	for i := range sent {
		select {
		case <-took.passed:
		case <-time.After(bound):
			t.Fatalf("message %d of %d does not come", i, sent)
		}
	}
}

// TestBrokenPassingEndsTheSession: no message is lost unnoticed.
func TestBrokenPassingEndsTheSession(t *testing.T) {
	a, b, took := takers(t, nil, func(*Config) {})
	if err := a.Pass(b.ID(), []byte("first")); err != nil {
		t.Fatal(err)
	}
	<-took.passed
	for _, c := range b.lane.p2p.Network().Conns() {
		for _, st := range c.GetStreams() {
			if st.Protocol() == b.passing {
				st.ResetWithError(network.StreamProtocolViolation)
			}
		}
	}
	took.until(t, "down")
	took.until(t, "up")
	eventually(t, "the next session takes something", func() bool { return a.Pass(b.ID(), []byte("again")) == nil })
	select {
	case got := <-took.passed:
		if string(got) != "again" {
			t.Errorf("took %q", got)
		}
	case <-time.After(bound):
		t.Fatal("nothing is passed in the next session")
	}
}

// TestNonsenseEndsTheSession: who passes what nobody can read does not do so twice.
func TestNonsenseEndsTheSession(t *testing.T) {
	a, b, took := takers(t, nil, func(*Config) {})
	for range 5 {
		if err := a.Pass(b.ID(), []byte("nonsense")); err != nil {
			t.Fatal(err)
		}
	}
	took.until(t, "down")
	if off := b.Stats().CutOffs; len(off) != 1 || off[0].Peer != a.ID() || off[0].Reason != "nobody can read it" {
		t.Errorf("cut off are %v", off)
	}
}
