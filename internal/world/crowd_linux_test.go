package world

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/coordinator"
	"dunlin/invite"
	"dunlin/peer"
	"dunlin/peer/contact"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/wire"
)

// What `make bench-coordinator` asks of a coordinator, and of how many.
const (
	crowdMembers = 64              // in every round
	crowdRound   = 5 * time.Second // between two of them
	crowdCPU     = 0.05            // of one core
	crowdMemory  = 200 << 20
)

// guest is a member of a run that never trains: it says hello, takes a slot and
// gives signs of life.
type guest struct {
	contact.Deaf
	host *swarm.Host
	slot atomic.Uint64
	in   chan struct{} // closed when it has a slot
	once sync.Once
}

func (g *guest) Message(_ wire.PeerID, message []byte) {
	if m, err := wire.DecodeMessage(message); err == nil {
		if w, ok := m.(*wire.Welcome); ok && w.Slot != 0 {
			g.slot.Store(uint64(w.Slot))
			g.once.Do(func() { close(g.in) })
		}
	}
}

func (g *guest) tell(lead wire.PeerID, m wire.Message) error {
	return g.host.Send(lead, wire.EncodeMessage(m))
}

// join connects and waits for a slot.
func (g *guest) join(ctx context.Context, key ed25519.PrivateKey, token *invite.Token) error {
	var err error
	g.host, err = swarm.New(ctx, swarm.Config{Key: key, Protocol: swarm.ProtocolOf(token.Run), Secret: token.Run[:], Handler: g, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		return err
	}
	if err := g.host.Connect(ctx, token.Coordinator, token.Addrs); err != nil {
		return err
	}
	hello := &wire.Hello{Protocol: wire.Protocol, Version: "test", Run: token.Run, Role: wire.RoleWorker, Addrs: g.host.Addrs()}
	if err := g.tell(token.Coordinator, hello); err != nil {
		return err
	}
	select {
	case <-g.in:
		return nil
	case <-ctx.Done():
		return errors.New("it is given no slot")
	}
}

// stay sends heartbeats as often as a worker of such a run does.
func (g *guest) stay(ctx context.Context, lead wire.PeerID, members int) {
	every := coordinator.BeatEvery(false, members, 45*time.Second)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every*3/4 + rand.N(every/2)): // real processes: there is no other clock
		}
		_ = g.tell(lead, &wire.Heartbeat{ // a session that broke shows in the number of members
			Slot: wire.Slot(g.slot.Load()), State: wire.StateSleeping, Reason: "outside of its hours", Device: "cpu, avx512, 8 threads",
		})
	}
}

func crowdKey(i int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, fmt.Append(nil, "host ", i))
	return ed25519.NewKeyFromSeed(seed)
}

// TestCoordinatorAmongMany is the first half of `make bench-coordinator`: the real
// program coordinates a thousand peers over real libp2p, all in another process, 64 of
// which make a round every five seconds. HOSTS and WINDOW (seconds) change it.
func TestCoordinatorAmongMany(t *testing.T) {
	if os.Getenv("BENCH_COORDINATOR") == "" {
		t.Skip("make bench-coordinator runs this measurement")
	}
	hosts, window := count("HOSTS", 1000), time.Duration(count("WINDOW", 60))*time.Second
	const steps = 20
	lead, text, page := coordinate(t, binary(t, ""), "--data-dir", scratch(t), "--listen", "127.0.0.1:0", "--preset", "pico", "--data", corpusFile(t),
		"--tokens", "1000000000000", "--eval-windows", "1", "--h", fmt.Sprint(steps), "--fragments", "1")
	token, err := invite.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	guests := make([]*guest, max(0, hosts-crowdMembers))
	start, gate, joined := time.Now(), make(chan struct{}, 8), make(chan struct{}, len(guests))
	for i := range guests {
		guests[i] = &guest{in: make(chan struct{})}
		gate <- struct{}{}
		all.Go(func() {
			joining, stop := context.WithTimeout(ctx, 2*time.Minute)
			err := guests[i].join(joining, crowdKey(1000+i), token)
			stop()
			<-gate
			joined <- struct{}{}
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("guest %d: %v", i, err)
				}
				return
			}
			guests[i].stay(ctx, token.Coordinator, hosts)
			_ = guests[i].host.Close()
		})
	}
	for range guests {
		<-joined
	}
	t.Logf("%d hosts have joined within %.0f s", len(guests), time.Since(start).Seconds())

	signed := firstContact(t, token)
	for i := range crowdMembers {
		m := &member{token: token, signed: signed, key: crowdKey(i), dir: scratch(t)}
		all.Go(func() {
			if err := m.train(ctx, crowdRound/time.Duration(steps)); err != nil && ctx.Err() == nil {
				t.Errorf("member %d: %v", i, err)
			}
		})
	}
	follow(t, page, func(s *status.Snapshot) bool { return s.Health.Training >= crowdMembers })
	first := follow(t, page, func(s *status.Snapshot) bool { return s.Health.Commits >= 4 })
	before, began := processTime(t, lead.cmd.Process.Pid), time.Now()
	<-time.After(window)
	share := (processTime(t, lead.cmd.Process.Pid) - before).Seconds() / time.Since(began).Seconds()
	seconds := time.Since(began).Seconds()
	last := follow(t, page, func(*status.Snapshot) bool { return true })
	resident := processMemory(t, lead.cmd.Process.Pid)
	alive := 0
	for _, p := range last.Peers {
		if p.Alive {
			alive++
		}
	}
	t.Logf("%d members are alive, %d of them train; %d commits and %d failed attempts in %.0f s", alive, last.Health.Training,
		last.Health.Commits-first.Health.Commits, last.Health.FailedAttempts-first.Health.FailedAttempts, seconds)
	t.Logf("the coordinator took %.2f %% of one core (bound: %.0f %%) and %d MB of memory (bound: %d MB)", 100*share, 100*crowdCPU, resident>>20, crowdMemory>>20)
	cancel()
}

// member is one that trains, as a whole peer whose compute is a sleep.
type member struct {
	token  *invite.Token
	signed *wire.SignedSpec
	key    ed25519.PrivateKey
	dir    string
}

func (m *member) train(ctx context.Context, step time.Duration) error {
	p, err := peer.New(peer.Config{
		Key: m.key, Signed: m.signed, Run: m.token.Run, Dir: m.dir, Version: "test", Logger: slog.New(slog.DiscardHandler), NewEngine: sleepingEngine(step),
		Coordinators: map[wire.PeerID][]string{m.token.Coordinator: m.token.Addrs},
	})
	if err != nil {
		return err
	}
	host, err := swarm.New(ctx, swarm.Config{Key: m.key, Protocol: swarm.ProtocolOf(m.token.Run), Secret: m.token.Run[:], Handler: p, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		return err
	}
	return errors.Join(p.Run(ctx, transport{host, hooks{}}), host.Close())
}

// firstContact fetches the run's spec.
func firstContact(t *testing.T, token *invite.Token) *wire.SignedSpec {
	t.Helper()
	host, err := swarm.New(t.Context(), swarm.Config{Key: crowdKey(1 << 20), Protocol: swarm.ProtocolOf(token.Run), Secret: token.Run[:], Handler: contact.Deaf{}})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	signed, err := contact.FetchSpec(t.Context(), transport{Host: host}, token.Coordinators(), token.Run)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// processTime is the processor time that a process has taken.
func processTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		t.Fatalf("stat of process %d: %q", pid, text)
	}
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// processMemory is what a process has resident, bytes.
func processMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatalf("process %d does not say what memory it has", pid)
	return 0
}
