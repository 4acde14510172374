package figures

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"dunlin/coordinator"
	"dunlin/peer/core"
	"dunlin/status"
	"dunlin/wire"
)

// Figures counts what the page, the demo and the benchmarks show.
type Figures struct {
	of              Subject
	Started         time.Time
	Merges          uint64 // commits merged into live weights, over all fragments
	Contributed     uint64 // bytes of contributions encoded here
	Diverged        uint64
	OwnerRestarts   uint64 // slabs whose sum began with empty error feedback, but for first versions
	Commits         uint64
	CommitHeight    uint64 // of the newest
	unigram, bigram *float64
	judgedLast      bool   // the last held-out loss is of the run's end
	Tokens          uint64 // committed in the run
	members         map[wire.PeerID]*memberFigures
	Slots           map[wire.Slot]wire.PeerID // that hold
	names           map[wire.PeerID]string    // that peers give themselves
	lost            []lost
	curve           []status.Point
	pace            []status.Point // tokens of the commits of the last minute, of two at least; without their losses
	heldOut         []status.Point
	prompt          string          // that samples continue
	samples         []status.Sample // newest last
	transfers       []*transfer
	moves           []status.Move // newest last
	rates           []status.Rate
	classes         []string           // of devices, in the order of the rates
	Own             OwnRounds          // of a worker
	stageMoves      []status.StageMove // of peers between stages, newest last
	ledger          []status.Entry     // newest last
	Notes           []status.Note      // newest last
}

// Subject is whose figures they are.
type Subject struct {
	Self          wire.PeerID
	Run           wire.Hash
	Spec          *wire.RunSpec
	Name, Version string // of the peer, for people; of the program
	Works         bool   // it is there to train
}

// memberFigures is what the coordinator has heard of one worker.
type memberFigures struct {
	heartbeat wire.Heartbeat
	seen      time.Time
	alive     bool
	reason    string // why it is gone
	stage     int
}

type lost struct {
	at   time.Time
	text string
}

// Bounds on what the page keeps; older points are thinned.
const (
	maxCurve  = 600
	maxNotes  = 100
	maxLedger = 50
	maxGone   = 200

	maxSamples = 8

	// A worker reckons the swarm's speed from commits of so many seconds, so far apart at least.
	paceOver, paceStep = 60.0, 0.5
)

// New begins to count.
func New(of Subject, now time.Time) *Figures {
	return &Figures{of: of, Started: now, members: map[wire.PeerID]*memberFigures{}, Slots: map[wire.Slot]wire.PeerID{}, names: map[wire.PeerID]string{}, Own: newOwnRounds()}
}

// coordinates tells whether the peer is one of the run's coordinators.
func (f *Figures) coordinates() bool { return slices.Contains(f.of.Spec.Coordinators, f.of.Self) }

// since is in seconds, to the millisecond: snapshots hold hundreds of these as text.
func (f *Figures) since(now time.Time) float64 {
	return float64(now.Sub(f.Started).Milliseconds()) / 1000
}

// Member follows the membership log.
func (f *Figures) Member(m *wire.Member) {
	if f.moves = append(f.moves, status.Move{Tokens: f.Tokens, Joined: m.Op == wire.MemberAdmit, Text: status.DescribeEntry(m)}); len(f.moves) > maxNotes {
		f.moves = f.moves[1:]
	}
	if m.Op == wire.MemberAdmit {
		f.Slots[m.Slot] = m.Peer
		f.members[m.Peer] = &memberFigures{seen: time.Now(), alive: true, stage: int(m.Stage), heartbeat: wire.Heartbeat{Slot: m.Slot, State: wire.StateSyncing}}
		f.forgetGone()
		return
	}
	if g := f.members[m.Peer]; g != nil && g.heartbeat.Slot == m.Slot {
		g.alive, g.reason = false, m.Reason
		g.heartbeat.State = wire.StateGone
		if !strings.HasPrefix(m.Reason, coordinator.LeftByItself) {
			f.lost = append(f.lost, lost{time.Now(), cmp.Or(f.NameOf(m.Peer), m.Peer.Short()) + ": " + m.Reason})
		}
		if len(f.lost) > maxNotes {
			f.lost = f.lost[1:]
		}
	}
	delete(f.Slots, m.Slot)
}

// Workers counts who has a slot in a stage.
func (f *Figures) Workers(stage int) int {
	n := 0
	for _, id := range f.Slots {
		if m := f.members[id]; m != nil && m.stage == stage {
			n++
		}
	}
	return n
}

// forgetGone bounds the memory of workers that left.
func (f *Figures) forgetGone() {
	if len(f.members) < len(f.Slots)+maxGone {
		return
	}
	var oldest wire.PeerID
	var at time.Time
	for id, g := range f.members {
		if !g.alive && (at.IsZero() || g.seen.Before(at)) {
			oldest, at = id, g.seen
		}
	}
	delete(f.members, oldest)
	delete(f.names, oldest)
}

// Named notes what a peer calls itself. Names beyond a bound are not kept, so that
// a crowd of strangers costs nothing.
func (f *Figures) Named(peer wire.PeerID, name string) {
	if name == "" {
		delete(f.names, peer)
		return
	}
	if _, known := f.names[peer]; known || len(f.names) < len(f.Slots)+2*maxGone {
		f.names[peer] = name
	}
}

// Heard takes in a worker's heartbeat.
func (f *Figures) Heard(from wire.PeerID, h *wire.Heartbeat) {
	if g := f.members[from]; g != nil && g.alive && (h.Slot == g.heartbeat.Slot || h.Slot == 0) {
		slot := g.heartbeat.Slot
		g.heartbeat, g.seen = *h, time.Now()
		g.heartbeat.Slot = slot
	}
}

// Commit adds a point to the loss curve.
func (f *Figures) Commit(height uint64, c *wire.Commit) {
	f.Commits++
	f.CommitHeight = height
	f.Tokens = c.Tokens
	now := f.since(time.Now())
	if n := len(f.pace); n == 0 || now-f.pace[n-1].At > paceStep {
		f.pace = append(f.pace, status.Point{Tokens: c.Tokens, At: now})
	}
	for len(f.pace) > 2 && f.pace[0].At < now-paceOver {
		f.pace = f.pace[1:]
	}
	sum, n := 0.0, 0
	for _, g := range f.members {
		if l := g.heartbeat.Loss.Value(); g.alive && l > 0 {
			sum += float64(l)
			n++
		}
	}
	if n > 0 {
		f.curve = thin(append(f.curve, status.Point{Tokens: c.Tokens, Loss: math.Round(sum/float64(n)*1e5) / 1e5, At: now}))
	}
}

// CaughtUp says that commits up to now came from the past, so that their pace is not the swarm's.
func (f *Figures) CaughtUp() { f.pace = nil }

func thin[T any](points []T) []T {
	if len(points) <= maxCurve {
		return points
	}
	kept := points[:0]
	for i, p := range points {
		if i%2 == 0 || i == len(points)-1 {
			kept = append(kept, p)
		}
	}
	return kept
}

// Moved keeps a move between stages and its reason.
func (f *Figures) Moved(m core.Moved) {
	f.stageMoves = append(f.stageMoves, status.StageMove{At: time.Now(), From: m.From, To: m.To, Text: fmt.Sprintf("%s moves: %s", m.Peer.Short(), m.Reason)})
	f.stageMoves = f.stageMoves[max(0, len(f.stageMoves)-maxNotes):]
}

// Entry keeps an entry of the ledger for the page.
func (f *Figures) Entry(height uint64, body wire.Body) {
	f.ledger = append(f.ledger, status.Entry{Height: height, Kind: body.Kind().String(), Text: status.DescribeEntry(body)})
	if len(f.ledger) > maxLedger {
		f.ledger = f.ledger[1:]
	}
}

// Judged takes in a held-out loss, what it is of and what the model wrote then; last says that it is of the run's end.
func (f *Figures) Judged(sample status.Sample, last bool) {
	f.heldOut = thin(append(f.heldOut, status.Point{Tokens: sample.Tokens, Loss: sample.Loss, At: f.since(time.Now())}))
	f.judgedLast = last
	sample.Prompt = f.prompt
	if f.samples = append(f.samples, sample); len(f.samples) > maxSamples {
		f.samples = slices.Delete(f.samples, 1, 2) // the first text stays
	}
}

// Baselines takes in the losses of what only counts tokens and pairs of them, and what samples continue.
func (f *Figures) Baselines(unigram, bigram float64, prompt string) {
	f.unigram, f.bigram, f.prompt = &unigram, &bigram, prompt
}

// Note keeps a decision and its reason for the page.
func (f *Figures) Note(text string) {
	f.Notes = append(f.Notes, status.Note{At: time.Now(), Text: text})
	if len(f.Notes) > maxNotes {
		f.Notes = f.Notes[1:]
	}
}
