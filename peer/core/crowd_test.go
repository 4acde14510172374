package core

import (
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/wire"
)

// crowd is a coordinator's core among many simulated peers, of whom the first trains
// make the rounds. It answers every decision at once, in virtual time, and adds up
// what the decisions take of real time and of bytes.
type crowd struct {
	t      testing.TB
	c      *Core
	now    time.Time
	rng    *rand.Rand
	trains int           // of the peers
	ids    []wire.PeerID // of slots 1, 2, …
	keys   []ed25519.PrivateKey
	height uint64
	queue  []Event

	due     []time.Time // by peer: its next heartbeat
	windows [][]uint64  // by trainer: positions leased to it
	read    [][]int     // by trainer and fragment: how many of those are committed

	change func(i int, r *wire.Ready) // what a bad peer makes of its Ready
	sign   func(i int) int            // whose key signs it
	notes  []string
	said   []wire.Message    // to single peers
	table  wire.AttemptTable // of the newest attempt
	newest wire.AttemptID

	commits, attempts, events int
	spent                     time.Duration
	in, out, spread           int // bytes heard; sent, a message to all counted once; the same counted for each
}

const (
	crowdTrains   = 64              // make rounds
	crowdRound    = 5 * time.Second // between two of them
	crowdInterval = 8               // windows of a contribution
)

func newCrowd(t testing.TB, peers, trains int) *crowd {
	t.Helper()
	w := &crowd{
		t: t, c: testCore(t, 1, false), trains: trains, change: func(int, *wire.Ready) {}, sign: func(i int) int { return i }, now: time.Unix(1000, 0), rng: rand.New(rand.NewPCG(uint64(peers), 5)),
	}
	w.c.cfg.Spec.TokenBudget = 1 << 40
	for i := range peers {
		var seed [ed25519.SeedSize]byte
		binary.BigEndian.PutUint64(seed[:], uint64(i)+1000)
		if i < trains { // the others sign nothing
			w.keys = append(w.keys, ed25519.NewKeyFromSeed(seed[:]))
			w.ids = append(w.ids, wire.PeerIDOf(w.keys[i]))
		} else {
			w.ids = append(w.ids, wire.PeerID(seed))
		}
	}
	w.windows, w.read = make([][]uint64, trains), make([][]int, trains)
	for i := range w.read {
		w.read[i] = make([]int, 2)
	}
	for i, peer := range w.ids { // they were in the run before
		w.log(&wire.Member{Op: wire.MemberAdmit, Slot: wire.Slot(i + 1), Peer: peer, Reason: "it asked to join", Addrs: []string{addressOf(i)}}, nil)
	}
	for i, peer := range w.ids {
		w.queue = append(w.queue, PeerUp{Peer: peer}, coordinator.HelloFrom{Peer: peer, Hello: wire.Hello{
			Protocol: wire.Protocol, Run: w.c.cfg.Run, Role: wire.RoleWorker, Slot: wire.Slot(i + 1), Addrs: []string{addressOf(i)}, Head: w.height,
		}})
	}
	w.queue = append(w.queue, coordinator.Started{Term: 1, Current: true})
	w.settle()
	for i := range w.ids {
		w.beat(i)
		w.due = append(w.due, w.now.Add(time.Duration(w.rng.Int64N(int64(w.every(i))))))
	}
	for i := range trains {
		w.hear(i, &wire.LeaseRequest{Slot: wire.Slot(i + 1), Windows: 4 * crowdInterval})
	}
	return w
}

func addressOf(i int) string { return fmt.Sprintf("/ip4/10.%d.%d.%d/tcp/4001", i>>16, i>>8&255, i&255) }

// log puts an entry into the ledger.
func (w *crowd) log(body wire.Body, table []byte) {
	w.height++
	entry := wire.NewEntry(w.c.cfg.Run, w.height, wire.Hash{1}, 1, body)
	item := wire.Item{Certified: wire.Certified{Entry: entry, Certs: []wire.Attestation{{Sig: wire.Signature{1}}}}, Table: table}
	w.send(len(w.ids), &wire.Entries{Items: []wire.Item{item}, Head: w.height})
	w.queue = append(w.queue, Logged{Height: w.height, Term: 1, Body: body, Table: table})
	switch b := body.(type) {
	case *wire.Lease:
		for _, r := range b.Ranges {
			for p := r.From; p < r.To; p++ {
				w.windows[b.Slot-1] = append(w.windows[b.Slot-1], p)
			}
		}
	case *wire.Attempt:
		w.attempts++
		w.sum(b, table)
	case *wire.Commit:
		w.commits++
	case *wire.Member, *wire.Settings, *wire.Checkpoint:
	}
	w.settle()
}

func (w *crowd) send(to int, m wire.Message) {
	n := len(wire.EncodeMessage(m))
	w.out += n
	w.spread += n * to
}

// hear gives a peer's message to the core.
func (w *crowd) hear(i int, m wire.Message) {
	w.in += len(wire.EncodeMessage(m))
	w.queue = append(w.queue, Message{From: w.ids[i], Message: m})
	w.settle()
}

// settle steps the core as its driver does, until it has nothing more to do.
func (w *crowd) settle() {
	for len(w.queue) > 0 {
		ev := w.queue[0]
		w.queue = w.queue[1:]
		start := time.Now()
		effects := w.c.Step(w.now, ev)
		_, _ = w.c.Deadline(), w.c.Owing()
		w.spent += time.Since(start)
		w.events++
		for _, e := range effects {
			w.do(e)
		}
	}
}

func (w *crowd) do(e Effect) {
	next := func(ev Event) { w.queue = append(w.queue, ev) }
	switch e := e.(type) {
	case Append:
		w.log(e.Body, e.Table)
	case Send:
		w.send(len(e.To), e.Message)
		if len(e.To) == 1 {
			w.said = append(w.said, e.Message)
		}
		if r, ok := e.Message.(*wire.Results); ok {
			for i := range w.trains {
				w.hear(i, &wire.Have{Fragment: r.Fragment, Base: r.Base, Attempt: r.Attempt, Result: r.Table.ResultRoot(), State: stateAfter(r.Table.ResultRoot())})
			}
		}
	case coordinator.RaiseTerm:
		next(coordinator.TermRaised(e))
	case catchup.Fetch:
		next(catchup.Fetched{Ref: e.Ref})
	case catchup.Prepare:
		root := e.Table.ResultRoot()
		next(catchup.Prepared{Fragment: e.Fragment, Base: e.Base, Attempt: e.Attempt, Result: root, State: stateAfter(root)})
	case catchup.Promote:
		next(catchup.Applied{Height: e.Height, State: e.Commit.State})
	case catchup.SaveCheckpoint:
		next(catchup.CheckpointSaved(e))
	case Note:
		w.notes = append(w.notes, e.Text)
	default:
	}
}

func stateAfter(root wire.Hash) wire.Hash { return wire.HashLeaf(root[:]) }

// sum answers an attempt for its owners.
func (w *crowd) sum(b *wire.Attempt, encoded []byte) {
	var t wire.AttemptTable
	if err := wire.Decode(encoded, &t); err != nil {
		w.t.Fatal(err)
	}
	w.table, w.newest = t, b.ID
	var weight uint64
	for _, m := range t.Members {
		weight += m.Weight
	}
	for _, s := range t.Owners {
		done := &wire.SlabDone{Fragment: b.Fragment, Attempt: b.ID}
		for i := s.From; i < s.To; i++ {
			done.Slabs = append(done.Slabs, wire.SlabResult{
				Slab: i, Owner: t.Members[s.Owner].Peer, Hash: wire.HashLeaf(fmt.Append(nil, b.ID, i)), Length: 64, Weight: weight, Members: 1<<len(t.Members) - 1,
			})
		}
		w.in += len(wire.EncodeMessage(done))
		w.queue = append(w.queue, Message{From: t.Members[s.Owner].Peer, Message: done})
	}
}

// beat is a peer's sign of life, of the size that a worker's has.
func (w *crowd) beat(i int) {
	h := &wire.Heartbeat{
		Slot: wire.Slot(i + 1), State: wire.StateSleeping, Reason: "outside of its hours", Height: w.height, Step: w.steps(), Tokens: w.steps() * 16,
		Loss: wire.FloatOf(2.5), TokensPerSecond: wire.FloatOf(900), Utilisation: wire.FloatOf(0.95), Sent: 1 << 30, Received: 1 << 31, StepTime: 500_000,
		StateHash: wire.Hash{31: 1}, RoundBytes: 1 << 30, OuterSteps: 100, ContributionBytes: 1 << 29, Clock: 1 << 25, Device: "cpu, avx512, 8 threads",
	}
	if i < w.trains {
		h.State, h.Reason = wire.StateTraining, ""
	}
	w.hear(i, h)
}

func (w *crowd) every(i int) time.Duration {
	return coordinator.BeatEvery(i < w.trains, len(w.ids), 45*time.Second)
}

func (w *crowd) steps() uint64 {
	return uint64(w.now.Sub(time.Unix(1000, 0)) / (500 * time.Millisecond))
}

// ready is a trainer's contribution to the round of a fragment.
func (w *crowd) ready(i, fragment int) {
	from := w.read[i][fragment]
	positions := slices.Sorted(slices.Values(w.windows[i][from : from+crowdInterval]))
	r := wire.Ready{
		Slot: wire.Slot(i + 1), Fragment: uint64(fragment), Base: w.c.log.heads[fragment].Version, Root: wire.HashLeaf(fmt.Append(nil, i, fragment, from)),
		From: uint64(from / 2), To: uint64(from+crowdInterval) / 2, Tokens: 8 * crowdInterval, Norm: wire.FloatOf(1), StepTime: 500_000,
	}
	for _, p := range positions {
		if n := len(r.Windows); n > 0 && r.Windows[n-1].To == p {
			r.Windows[n-1].To++
		} else {
			r.Windows = append(r.Windows, wire.Range{From: p, To: p + 1})
		}
	}
	w.read[i][fragment] += crowdInterval
	w.change(i, &r)
	w.hear(i, &wire.SignedReady{Ready: r, Sig: wire.Sign(w.keys[w.sign(i)], wire.ReadyKind(w.c.cfg.Run), wire.Encode(&r))})
	if slices.Min(w.read[i])+2*crowdInterval > len(w.windows[i]) {
		w.beat(i)
		w.hear(i, &wire.LeaseRequest{Slot: wire.Slot(i + 1), Windows: 2 * crowdInterval})
	}
}

// live lets time pass: heartbeats, ticks, and a round every crowdRound of one
// fragment after the other.
func (w *crowd) live(d time.Duration) {
	type beat struct {
		at   time.Time
		peer int
	}
	var beats []beat
	for i := range w.ids {
		for every := w.every(i); w.due[i].Before(w.now.Add(d)); w.due[i] = w.due[i].Add(every*9/10 + time.Duration(w.rng.Int64N(int64(every)/5))) {
			beats = append(beats, beat{w.due[i], i})
		}
	}
	slices.SortFunc(beats, func(a, b beat) int { return cmp.Or(a.at.Compare(b.at), a.peer-b.peer) })
	end, round, n := w.now.Add(d), w.now.Add(time.Second), w.attempts
	for {
		next := end
		if len(beats) > 0 {
			next = beats[0].at
		}
		due := w.c.Deadline()
		switch {
		case !due.IsZero() && due.Before(next) && due.Before(round):
			w.now = later(w.now, due)
			w.queue = append(w.queue, Tick{})
			w.settle()
		case round.Before(next):
			w.now = round
			for i := range w.trains {
				w.ready(i, n%2)
			}
			n, round = n+1, round.Add(crowdRound)
		case len(beats) > 0:
			w.now = next
			w.beat(beats[0].peer)
			beats = beats[1:]
		default:
			w.now = end
			return
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// TestHeartbeatsCostLittle: what a heartbeat costs a coordinator does not grow with
// the number of its peers, and a round is committed each time.
func TestHeartbeatsCostLittle(t *testing.T) {
	w := newCrowd(t, 600, crowdTrains)
	w.live(30 * time.Second)
	if i := slices.IndexFunc(w.notes, func(text string) bool { return strings.Contains(text, "refused") }); i >= 0 {
		t.Error(w.notes[i])
	}
	if w.commits != 6 || w.attempts != 6 {
		t.Errorf("%d attempts, %d commits in 30 s, want 6", w.attempts, w.commits)
	}
	i := 0
	h := Message{From: w.ids[500], Message: &wire.Heartbeat{Slot: 501, State: wire.StateSleeping, Height: 1}}
	w.c.Step(w.now, h)
	if allocs := testing.AllocsPerRun(100, func() {
		i++
		w.c.Step(w.now.Add(time.Duration(i)), h)
		w.c.Deadline()
		w.c.Owing()
	}); allocs > 2 {
		t.Errorf("a heartbeat that is no news makes %v allocations", allocs)
	}
}

// TestCoordinatorSteps is the second half of `make bench-coordinator`: what the
// decisions of a coordinator take with ten thousand simulated peers.
func TestCoordinatorSteps(t *testing.T) {
	if os.Getenv("BENCH_COORDINATOR") == "" {
		t.Skip("make bench-coordinator runs this measurement")
	}
	peers, life := 10_000, 120*time.Second
	start := time.Now()
	w := newCrowd(t, peers, crowdTrains)
	t.Logf("%d peers have come back to a coordinator that started anew: its steps took %.1f s of %.1f s", peers, w.spent.Seconds(), time.Since(start).Seconds())
	w.live(30 * time.Second) // of settling
	w.spent, w.in, w.out, w.spread, w.events, w.commits = 0, 0, 0, 0, 0, 0
	w.live(life)
	s := life.Seconds()
	t.Logf("%d peers, %d of them in a round every %s: %d events and %d commits in %.0f s", peers, crowdTrains, crowdRound, w.events, w.commits, s)
	t.Logf("steps take %.2f %% of a core (bound: 5 %%)", 100*w.spent.Seconds()/s)
	t.Logf("heard %.1f kB/s (bound: 50 kB/s); said %.1f kB/s, %.0f kB/s when each peer's copy counts", float64(w.in)/s/1e3, float64(w.out)/s/1e3, float64(w.spread)/s/1e3)
}
