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
	"dunlin/round"
	"dunlin/status"
	"dunlin/wire"
)

// Look takes down what is sampled: the rates, once a second.
func (f *Figures) Look(v View) {
	if n := len(f.rates); n == 0 || f.since(v.Now)-f.rates[n-1].At >= 1 {
		total, training := f.total(v.Now)
		f.rates = thin(append(f.rates, status.Rate{At: f.since(v.Now), Rate: math.Round(total), Peers: training, Own: math.Round(v.ownRate()), Classes: f.rateByClass(v.Now)}))
	}
}

// ownRate is this worker's tokens a second; 0 where there is none.
func (v *View) ownRate() float64 {
	if !v.Trains {
		return 0
	}
	return v.Life.Rate.PerSecond(v.Now)
}

// total returns the sum of the live workers' rates and how many train. A worker hears of no other worker's rate; it goes by
// what the ledger says: tokens committed of late, and who has a slot.
func (f *Figures) total(now time.Time) (rate float64, training int) {
	if !f.coordinates() {
		return f.committedRate(now), len(f.Slots)
	}
	stale := f.staleAfter()
	for _, m := range f.members {
		if m.trains(now, stale) {
			if m.stage == 0 { // the same tokens pass every stage
				rate += float64(m.heartbeat.TokensPerSecond.Value())
			}
			training++
		}
	}
	return rate, training
}

// committedRate is the tokens a second of the commits of the last minute, or of the last two where they come more seldom; 0
// without two, or once none came for longer than those two were apart.
func (f *Figures) committedRate(now time.Time) float64 {
	if len(f.pace) < 2 {
		return 0
	}
	first, last := f.pace[0], f.pace[len(f.pace)-1]
	if f.since(now)-last.At > max(paceOver, 2*(last.At-first.At)) {
		return 0
	}
	return float64(last.Tokens-first.Tokens) / (last.At - first.At)
}

// staleAfter is the age at which a worker's figures no longer count as live: in a large run they come more seldom.
func (f *Figures) staleAfter() time.Duration {
	return max(staleAfter, coordinator.BeatEvery(true, len(f.Slots), time.Minute)*3/2)
}

// trains tells whether a worker does, by figures that are not stale.
func (m *memberFigures) trains(now time.Time, stale time.Duration) bool {
	return m.alive && now.Sub(m.seen) < stale && m.heartbeat.State == wire.StateTraining
}

// maxClasses bounds how many classes of devices are told apart; the last one takes in the rest.
const (
	maxClasses = 6
	restClass  = "others"
)

// rateByClass is what total sums, by class of device. A class keeps its place once it has one.
func (f *Figures) rateByClass(now time.Time) []float64 {
	rates, stale := make([]float64, len(f.classes), maxClasses), f.staleAfter()
	for _, m := range f.members {
		if !m.trains(now, stale) || m.stage > 0 {
			continue
		}
		class := deviceClass(m.heartbeat.Device)
		at := slices.Index(f.classes, class)
		if at < 0 && len(f.classes) == maxClasses {
			at = maxClasses - 1
		}
		if at < 0 {
			if len(f.classes) == maxClasses-1 {
				class = restClass
			}
			at, f.classes, rates = len(f.classes), append(f.classes, class), append(rates, 0)
		}
		rates[at] += math.Round(float64(m.heartbeat.TokensPerSecond.Value()))
	}
	return rates
}

// deviceClass is what machines with the same kind of device have in common: its name without its number or how it is used.
func deviceClass(device string) string {
	first, _, several := strings.Cut(device, " + ")
	if several {
		return "several devices"
	}
	name, _, _ := strings.Cut(first, ",")
	if _, card, cuda := strings.Cut(name, " "); cuda && strings.HasPrefix(name, "cuda:") {
		name = strings.TrimPrefix(card, "NVIDIA ")
	}
	for _, precision := range []string{" bf16", " fp16"} {
		name = strings.TrimSuffix(name, precision)
	}
	if name = strings.TrimSpace(name); name == "" {
		return "unknown"
	}
	return name
}

// staleAfter is the age at which a worker's figures no longer count as live.
const staleAfter = 20 * time.Second

// View is what a snapshot shows of a peer besides what was counted. The snapshot keeps cards and hashes, and nothing else of it.
type View struct {
	Now       time.Time
	Core      *core.Snapshot
	Life      *Life
	Thanks    *Thanks
	Cards     []status.Card
	Settings  *wire.Settings
	State     wire.Hash   // of the replica
	Stages    []wire.Hash // of its stages, once the run has ended, where all are held
	Term      uint64      // of the newest entry
	Lead      wire.PeerID
	Leads     wire.Leads
	Connected map[wire.PeerID]bool
	Trains    bool // it has a worker
	Judges    bool // held-out loss is measured here
	Ended     bool // the run's end was seen to
}

// Snapshot builds what every view shows. Everything in it is a copy.
func (f *Figures) Snapshot(v View) *status.Snapshot {
	c := v.Core
	s := &status.Snapshot{At: v.Now, Version: f.of.Version, Self: f.of.Self.String(), Role: "worker"}
	if f.coordinates() {
		s.Role = "coordinator"
	}
	s.Run = f.runStatus(v)
	for _, h := range c.Heads {
		s.Run.Versions = append(s.Run.Versions, h.Version)
	}
	s.Peers, s.Cards = f.peerStatus(v.Now), v.Cards
	s.Stages = f.stageStatus(v.Stages)
	for _, n := range slices.Backward(f.stageMoves) {
		s.StageMoves = append(s.StageMoves, n)
	}
	s.Learning = status.Learning{
		Train: lastLoss(f.curve), HeldOut: lastLoss(f.heldOut), Curve: slices.Clone(f.curve), HeldOuts: slices.Clone(f.heldOut), Moves: slices.Clone(f.moves),
		Unigram: f.unigram, Bigram: f.bigram,
	}
	s.Run.Done = v.Ended && len(f.Slots) == 0 && (!v.Judges || f.judgedLast)
	rate, training := f.total(v.Now)
	s.Speed.History, s.Speed.Classes = slices.Clone(f.rates), slices.Clone(f.classes)
	if training > 0 && (rate > 0 || f.coordinates()) {
		s.Speed.TokensPerSecond = &rate
		if left := float64(f.of.Spec.TokenBudget) - float64(f.Tokens); rate > 0 && left > 0 {
			seconds := left / rate
			s.Speed.SecondsLeft = &seconds
		}
	}
	if v.Trains {
		own := v.ownRate()
		s.Speed.Own = &own
		if len(v.Life.recent) > 0 {
			median, slow := v.Life.step(0.5).Seconds(), v.Life.step(0.95).Seconds()
			s.Speed.Step, s.Speed.StepP95 = &median, &slow
		}
	}
	s.Health = f.health(v)
	s.Cost = f.cost(s.Peers)
	if v.Life.State == wire.StateSyncing {
		s.Transfers = f.transferStatus(v.Now, c.CatchUp)
	}
	s.Samples = slices.Clone(f.samples)
	s.Thanks = v.Thanks.ranks(f.of.Self, f.of.Spec.Fragments, f.NameOf)
	if c.Rounds != nil {
		s.Health.FailedAttempts = c.Rounds.Failed
		s.Rounds = f.rounds(c.Rounds, &s.Health)
	} else if f.of.Works {
		s.Rounds = f.Own.rows(f.since)
	}
	for _, e := range slices.Backward(f.ledger) {
		s.Ledger = append(s.Ledger, e)
	}
	for _, n := range slices.Backward(f.Notes) {
		s.Notes = append(s.Notes, n)
	}
	return s
}

// codecNames gives the codecs of contributions and results, once where they are the same.
func codecNames(spec *wire.RunSpec) string {
	if spec.Contribution == spec.Result {
		return spec.Contribution
	}
	return spec.Contribution + "/" + spec.Result
}

func lastLoss(points []status.Point) *float64 {
	if len(points) == 0 {
		return nil
	}
	loss := points[len(points)-1].Loss // points are moved later on
	return &loss
}

func (f *Figures) runStatus(v View) status.Run {
	spec := f.of.Spec
	m := spec.Model
	r := status.Run{
		ID: f.of.Run, Name: spec.Name, Model: fmt.Sprintf("%s %dL/%dH/%d", m.Family, m.Layers, m.Heads, m.Width),
		Parameters: spec.Parameters(), Height: v.Core.Height, Tokens: f.Tokens, TokenBudget: spec.TokenBudget,
		Started: f.Started, Fragments: int(spec.Fragments), H: int(spec.H), StepTokens: spec.StepTokens(),
		Codec: codecNames(spec), StateHash: v.State, Phase: "waiting", Term: v.Term,
	}
	if s := v.Settings; s.Solo || s.Phase != wire.PhaseTraining { // else it says what was changed, not what goes on
		r.Reason = s.Reason
	}
	if t := v.Settings.Tuning; t != nil {
		r.H = int(t.H)
	}
	if v.Life.State != 0 {
		r.Phase = v.Life.State.String()
		if v.Life.State != wire.StateTraining {
			r.Reason = cmp.Or(r.Reason, v.Life.Reason)
		}
	} else if f.Tokens > 0 || len(f.Slots) > 0 {
		r.Phase = wire.PhaseTraining.String()
	}
	if v.Settings.Phase != 0 && v.Settings.Phase != wire.PhaseTraining {
		r.Phase = v.Settings.Phase.String()
	}
	if len(spec.Coordinators) > 1 {
		r.Term = max(r.Term, v.Leads.Term)
		for _, id := range spec.Coordinators {
			you := id == f.of.Self
			r.Coordinators = append(r.Coordinators, status.Coordinator{
				ID: id.String(), You: you, Leads: id == v.Lead && v.Leads.Term > 0, Connected: v.Connected[id] || you,
			})
		}
	}
	return r
}

func (f *Figures) peerStatus(now time.Time) []status.Peer {
	out := make([]status.Peer, 0, len(f.members))
	for id, m := range f.members {
		h := &m.heartbeat
		state := h.State.String()
		if m.alive && id != f.of.Self && !f.coordinates() {
			state = "" // workers tell only coordinators how they do
		}
		out = append(out, status.Peer{
			ID: id.String(), Name: f.NameOf(id), Slot: uint64(h.Slot), Stage: m.stage, You: id == f.of.Self, Alive: m.alive, State: state, Reason: cmp.Or(m.reason, h.Reason),
			Device: h.Device, Class: deviceClass(h.Device), Step: h.Step, Tokens: h.Tokens, Loss: float64(h.Loss.Value()), TokensPerSecond: float64(h.TokensPerSecond.Value()),
			Utilisation: float64(h.Utilisation.Value()), Sent: h.Sent, Received: h.Received, Height: h.Height, StateHash: h.StateHash,
			OuterSteps: h.OuterSteps, Overlap: h.Overlap, Clock: h.Clock, SeenSeconds: now.Sub(m.seen).Seconds(),
			RoundBytes: h.RoundBytes, ContributionBytes: h.ContributionBytes,
		})
	}
	slices.SortFunc(out, func(a, b status.Peer) int { return int(a.Slot) - int(b.Slot) })
	return out
}

// NameOf is what a peer calls itself.
func (f *Figures) NameOf(id wire.PeerID) string {
	if id == f.of.Self {
		return f.of.Name
	}
	return f.names[id]
}

// stageStatus sums up the stages of a model that is spread over peers.
func (f *Figures) stageStatus(hashes []wire.Hash) []status.Stage {
	spec := f.of.Spec
	if !spec.Staged() {
		return nil
	}
	out, waits := make([]status.Stage, spec.StageCount()), map[int]float64{}
	for i, t := range spec.Tensors {
		out[spec.StageOf(int(t.Fragment))].Parameters += uint64(spec.Tensors[i].Size())
	}
	for _, m := range f.members {
		if s := &out[min(m.stage, len(out)-1)]; m.alive {
			s.Peers++
			if m.heartbeat.State == wire.StateTraining {
				s.Training++
				wait := float64(m.heartbeat.QueueWait) / 1e6
				s.Wait = &wait
				waits[m.stage] += wait
			}
		}
	}
	for i := range out {
		if w := waits[i] / float64(max(1, out[i].Training)); out[i].Wait != nil {
			out[i].Wait = &w
		}
	}
	for i := range out {
		out[i].Stage = i
		if hashes != nil {
			out[i].StateHash = hashes[i]
		}
	}
	return out
}

func (f *Figures) health(v View) status.Health {
	h := status.Health{Commits: f.Commits, Diverged: f.Diverged, OwnerRestarts: f.OwnerRestarts, Contributed: v.Thanks.newest}
	type place struct {
		height uint64
		stage  int
	}
	states := map[place]wire.Hash{}
	agree, compared := true, false
	for _, m := range f.members {
		if !m.alive && (!v.Ended || m.heartbeat.Height != v.Life.Height) { // the goodbye at a run's end counts
			continue
		}
		switch m.heartbeat.State {
		case wire.StateTraining:
			h.Training++
		case wire.StateDialling, wire.StateSyncing, wire.StateWarming:
			h.Syncing++
		case wire.StateDraining, wire.StateSleeping, wire.StateBanned, wire.StateGone:
		}
		if m.heartbeat.StateHash.IsZero() {
			continue
		}
		at := place{m.heartbeat.Height, m.stage}
		if other, ok := states[at]; ok {
			compared = true
			agree = agree && other == m.heartbeat.StateHash
		}
		states[at] = m.heartbeat.StateHash
	}
	if compared {
		h.StatesAgree = &agree
	}
	if !f.coordinates() {
		h.Training, h.Syncing = len(f.Slots), 0
	}
	for _, m := range f.members {
		h.MicroBatches += m.heartbeat.Micros
		h.PartlyCounted += m.heartbeat.Partly
	}
	for _, l := range f.lost {
		if v.Now.Sub(l.at) < 10*time.Minute {
			h.Lost++
			h.LastLost = l.text
		}
	}
	return h
}

// cost sums what workers report, by the protocol's definitions: upload counts
// contributions, results and round control, once a merged outer step.
func (f *Figures) cost(peers []status.Peer) status.Cost {
	var round, contributions, steps, inner, sent float64
	var seconds float64
	for _, w := range peers {
		round += float64(w.RoundBytes)
		contributions += float64(w.ContributionBytes)
		steps += float64(w.OuterSteps)
		inner += float64(w.Step)
		sent += float64(w.Sent)
		seconds += float64(w.Clock) / 1000
	}
	var c status.Cost
	if steps < 1 || seconds < 1 {
		return c
	}
	parameters := float64(f.of.Spec.Parameters())
	bits, upload := contributions*8/(parameters*steps), round*8/(parameters*steps)
	ratio, day := inner*4*parameters/round, sent/seconds*86400
	return status.Cost{BitsPerParameter: &bits, UploadBitsPerParameter: &upload, BytesRatio: &ratio, BytesPerPeerDay: &day}
}

// rounds turns the leader's view into rows, newest last.
func (f *Figures) rounds(l *round.LeaderSnapshot, h *status.Health) []status.Round {
	at := instants(f.since)
	var out []status.Round
	for _, r := range append(slices.Clone(l.Closed), l.Rounds...) {
		row := status.Round{
			Fragment: r.Fragment, Base: r.Version, Phase: r.Phase.String(), Members: r.Members,
			Ready: at(r.FirstReady), Opened: at(r.Opened), Summed: at(r.Summed), Held: at(r.Held), Closed: at(r.Closed), Failed: r.Failed,
		}
		if r.Attempt.Counter != 0 {
			row.Attempt = r.Attempt.String()
		}
		for _, w := range r.Waiting {
			text := w.Reason
			if w.Slot != 0 {
				text = fmt.Sprintf("slot %d: %s", w.Slot, w.Reason)
			}
			row.Waiting = append(row.Waiting, text)
		}
		if r.Failed != "" {
			h.LastFailure = r.Failed
		}
		out = append(out, row)
	}
	return out
}

// instants turns times into seconds, those that have not come into nil.
func instants(since func(time.Time) float64) func(time.Time) *float64 {
	return func(t time.Time) *float64 {
		if t.IsZero() {
			return nil
		}
		s := since(t)
		return &s
	}
}
