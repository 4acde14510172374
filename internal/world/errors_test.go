package world

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/peer"
	"dunlin/peer/contact"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// stranger speaks to a coordinator without being a peer.
type stranger struct {
	contact.Deaf
	mu       sync.Mutex
	messages []wire.Message
	heard    chan struct{} // holds a token after a message
}

func (s *stranger) Message(_ wire.PeerID, message []byte) {
	if m, err := wire.DecodeMessage(message); err == nil {
		s.mu.Lock()
		s.messages = append(s.messages, m)
		s.mu.Unlock()
		select {
		case s.heard <- struct{}{}:
		default:
		}
	}
}

// refusal says hello and returns what the coordinator answers.
func (w *world) refusal(key byte, hello wire.Hello) *wire.Refuse {
	w.t.Helper()
	s := &stranger{heard: make(chan struct{}, 1)}
	host := w.host(peer.Config{Key: testKey(key), Run: w.id}, place{}, s)
	defer host.Close()
	if err := host.Connect(w.t.Context(), w.lead.host.ID(), w.lead.host.Addrs()); err != nil {
		w.t.Fatal(err)
	}
	if err := host.Send(w.lead.host.ID(), wire.EncodeMessage(&hello)); err != nil {
		w.t.Fatal(err)
	}
	for range s.heard {
		s.mu.Lock()
		for _, m := range s.messages {
			if r, ok := m.(*wire.Refuse); ok {
				s.mu.Unlock()
				return r
			}
		}
		s.mu.Unlock()
	}
	return nil
}

// says checks that a text names all of these, on one line, for a person.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
	if strings.Contains(text, "\n") || strings.Contains(text, "goroutine") {
		t.Errorf("%q is not one line for a person", text)
	}
}

// TestWhatRefusedPeersAreTold: every way in which a peer does not belong has
// its own message, which says what to do.
func TestWhatRefusedPeersAreTold(t *testing.T) {
	w := newWorld(t, nil, func(r *recipe.Run) { r.Secret = []byte("only for friends") })
	w.start(place{})
	hello := wire.Hello{Protocol: wire.Protocol, Version: "test", Run: w.id, Role: wire.RoleWorker, Secret: w.run.Secret}

	t.Run("another release", func(t *testing.T) {
		h := hello
		h.Protocol = wire.Protocol + 1
		r := w.refusal(20, h)
		if r.Code != wire.RefuseVersion {
			t.Errorf("refused with %d", r.Code)
		}
		says(t, r.Reason, "speaks protocol 1, you speak 2", "install the release")
	})
	t.Run("another run", func(t *testing.T) {
		h := hello
		h.Run = wire.HashLeaf([]byte("elsewhere"))
		r := w.refusal(21, h)
		if r.Code != wire.RefuseRun {
			t.Errorf("refused with %d", r.Code)
		}
		says(t, r.Reason, w.id.Short(), h.Run.Short(), "ask for a new invite")
	})
	t.Run("without the secret", func(t *testing.T) {
		for _, secret := range []string{"", "guessed"} {
			n := w.start(place{key: 22, dir: scratch(t), engine: cpuEngine(t), change: func(c *peer.Config) { c.Secret = []byte(secret) }})
			err := n.finish()
			var refused *peer.RefusedError
			if !errors.As(err, &refused) || refused.Code != wire.RefuseSecret {
				t.Fatalf("ended with %v", err)
			}
			says(t, err.Error(), "coordinator refused this peer", "private", "ask the organiser for an invite")
		}
	})
	t.Run("with the secret", func(t *testing.T) {
		n := w.start(place{key: 23, dir: scratch(t), engine: cpuEngine(t), change: func(c *peer.Config) { c.Secret = w.run.Secret }})
		n.await("training", func(s *status.Snapshot) bool { return s.Run.Phase == "training" })
		n.halt()
	})
	w.lead.halt()
}

// TestFirstContact: who asks the wrong peer for a run, or nobody, learns which.
func TestFirstContact(t *testing.T) {
	w := newWorld(t, nil, func(*recipe.Run) {})
	lead := w.start(place{change: func(c *peer.Config) {
		publish := c.Publish
		c.Publish = func(s *status.Snapshot) {
			if s.Invite = "dunlin1:secret"; publish != nil {
				publish(s)
			}
		}
	}})
	first := lead.await("a snapshot", func(*status.Snapshot) bool { return true })
	lead.await("another", func(s *status.Snapshot) bool { return s.At.After(first.At) })
	ask := func(run wire.Hash, addrs []string) error {
		t.Helper()
		host, err := swarm.New(t.Context(), swarm.Config{Key: testKey(30), Protocol: "/dunlin/1/" + run.String(), Handler: contact.Deaf{}})
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close()
		_, err = contact.FetchSpec(t.Context(), transport{Host: host}, []wire.Known{{Peer: w.lead.host.ID(), Addrs: addrs}}, run)
		return err
	}
	var addrs []string
	for _, a := range w.lead.host.Addrs() {
		if strings.Contains(a, "/tcp/") { // where nobody listens is known at once
			addrs = append(addrs, a)
		}
	}
	if err := ask(w.id, addrs); err != nil {
		t.Errorf("the run's own spec: %v", err)
	}
	other := wire.HashLeaf([]byte("elsewhere"))
	says(t, ask(other, addrs).Error(), other.Short(), "does not serve this run", "invite is its newest")

	// Whoever knows the run may ask how it goes, and is not told its invite.
	look := func() (*status.Snapshot, error) {
		host, err := swarm.New(t.Context(), swarm.Config{Key: testKey(31), Protocol: "/dunlin/1/" + w.id.String(), Handler: contact.Deaf{}})
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close()
		b, err := contact.FetchStatus(t.Context(), transport{Host: host}, []wire.Known{{Peer: w.lead.host.ID(), Addrs: addrs}})
		if err != nil {
			return nil, err
		}
		return status.Decode(b)
	}
	if s, err := look(); err != nil || s.Run.ID != w.id || s.Role != "coordinator" || s.Invite != "" {
		t.Errorf("%+v, %v", s, err)
	}
	w.lead.halt()
	_, err := look()
	says(t, err.Error(), "the coordinator cannot be reached at", "check that it runs")
	says(t, ask(w.id, addrs).Error(), w.id.Short(), "cannot be reached at", "check that it runs")
}

// TestDiskFull: a worker whose folder has no room says so and ends, at once and with a goodbye that names the reason; what it
// has stays good. So does a coordinator, without which its worker ends, too.
func TestDiskFull(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(r *recipe.Run) { r.H, r.Checkpoint = 8, 1<<20 })
		w.start(place{})
		var shards int64
		for _, s := range w.spec.Data.Train {
			shards += int64(s.Tokens) + 64
		}
		worker := func(key byte, quota int64) *node {
			return w.start(place{key: key, dir: scratch(t), engine: sleepingEngine(50 * time.Millisecond), change: func(c *peer.Config) { c.Quota = quota }})
		}
		for key, quota := range map[byte]int64{40: 1000, 41: shards + 300_000} { // the text does not fit, nor do results
			n := worker(key, quota)
			err := n.finish()
			if err == nil {
				t.Fatal("it ended without an error")
			}
			says(t, err.Error(), "allow more with --disk", "nothing committed is lost")
			w.lead.await("its goodbye", func(s *status.Snapshot) bool {
				return slices.ContainsFunc(s.Peers, func(p status.Peer) bool {
					return p.ID == n.host.ID().String() && !p.Alive && strings.Contains(p.Reason, "its disk takes no more")
				})
			})
		}
		w.lead.halt()

		w.start(place{change: func(c *peer.Config) { c.Quota = shards + 60_000 }})
		n := worker(42, 0)
		err := w.lead.finish()
		if err == nil {
			t.Fatal("it ended without an error")
		}
		says(t, err.Error(), "allow more with --disk", "nothing committed is lost", "the same command goes on")
		n.stop()
		_ = n.finish() // without a coordinator nobody takes its goodbye
	})
}
