package peer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"dunlin/coordinator"
	"dunlin/replica"
	"dunlin/round"
	"dunlin/status"
	"dunlin/wire"
)

// publishEvery is the pace of snapshots; a new attempt is shown at once, but for
// the least gap between two.
const (
	publishEvery = 500 * time.Millisecond
	publishGap   = 100 * time.Millisecond
)

func (p *Peer) publish() {
	now := time.Now()
	p.published, p.fresh = now, false
	f := p.figures
	if n := len(f.rates); n == 0 || f.since(now)-f.rates[n-1].At >= 1 {
		total, training := p.total(now)
		f.rates = thin(append(f.rates, status.Rate{At: f.since(now), Rate: math.Round(total), Peers: training, Own: math.Round(p.ownRate(now)), Classes: f.rateByClass(now)}))
	}
	if p.cfg.Publish != nil {
		p.cfg.Publish(p.snapshot())
	}
}

// ownRate is this worker's tokens a second; 0 where there is none.
func (p *Peer) ownRate(now time.Time) float64 {
	if p.worker == nil {
		return 0
	}
	return p.life.rate.perSecond(now)
}

// total returns the sum of the live workers' rates and how many train. A worker hears of no other worker's rate; it goes by
// what the ledger says: tokens committed of late, and who has a slot.
func (p *Peer) total(now time.Time) (rate float64, training int) {
	if !p.isCoordinator(p.self) {
		return p.figures.committedRate(now), len(p.figures.slots)
	}
	stale := p.figures.staleAfter()
	for _, m := range p.figures.members {
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
func (f *figures) committedRate(now time.Time) float64 {
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
func (f *figures) staleAfter() time.Duration {
	return max(staleAfter, coordinator.BeatEvery(true, len(f.slots), time.Minute)*3/2)
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
func (f *figures) rateByClass(now time.Time) []float64 {
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

// snapshot builds what every view shows. Everything in it is a copy.
func (p *Peer) snapshot() *status.Snapshot {
	now := time.Now()
	f, c := p.figures, p.core.Snapshot()
	s := &status.Snapshot{At: now, Version: p.cfg.Version, Self: p.self.String(), Role: "worker"}
	if p.isCoordinator(p.self) {
		s.Role = "coordinator"
	}
	s.Run = p.runStatus(&c.Height)
	for _, h := range c.Heads {
		s.Run.Versions = append(s.Run.Versions, h.Version)
	}
	s.Peers, s.Cards = p.peerStatus(now), slices.Clone(p.cards)
	s.Stages = p.stageStatus()
	for _, n := range slices.Backward(f.stageMoves) {
		s.StageMoves = append(s.StageMoves, n)
	}
	s.Learning = status.Learning{
		Train: lastLoss(f.curve), HeldOut: lastLoss(f.heldOut), Curve: slices.Clone(f.curve), HeldOuts: slices.Clone(f.heldOut), Moves: slices.Clone(f.moves),
		Unigram: f.unigram, Bigram: f.bigram,
	}
	s.Run.Done = p.ended && len(f.slots) == 0 && (p.judge == nil || f.judgedLast)
	rate, training := p.total(now)
	s.Speed.History, s.Speed.Classes = slices.Clone(f.rates), slices.Clone(f.classes)
	if training > 0 && (rate > 0 || p.isCoordinator(p.self)) {
		s.Speed.TokensPerSecond = &rate
		if left := float64(p.spec.TokenBudget) - float64(f.tokens); rate > 0 && left > 0 {
			seconds := left / rate
			s.Speed.SecondsLeft = &seconds
		}
	}
	if p.worker != nil {
		own := p.ownRate(now)
		s.Speed.Own = &own
	}
	s.Health = p.health(now)
	s.Cost = p.cost(s.Peers)
	if p.life.state == wire.StateSyncing {
		s.Transfers = f.transferStatus(now)
	}
	s.Samples = slices.Clone(f.samples)
	s.Thanks = p.thanks.ranks(p.self, p.spec.Fragments, p.nameOf)
	if c.Rounds != nil {
		s.Health.FailedAttempts = c.Rounds.Failed
		s.Rounds = f.rounds(c.Rounds, &s.Health)
	} else if p.cfg.NewEngine != nil {
		s.Rounds = f.own.rows(f.since)
	}
	for _, e := range slices.Backward(f.ledger) {
		s.Ledger = append(s.Ledger, e)
	}
	for _, n := range slices.Backward(f.notes) {
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
	return &points[len(points)-1].Loss
}

func (p *Peer) runStatus(height *uint64) status.Run {
	m := p.spec.Model
	r := status.Run{
		ID: p.cfg.Run, Name: p.spec.Name, Model: fmt.Sprintf("%s %dL/%dH/%d", m.Family, m.Layers, m.Heads, m.Width),
		Parameters: p.spec.Parameters(), Height: *height, Tokens: p.figures.tokens, TokenBudget: p.spec.TokenBudget,
		Started: p.figures.started, Fragments: int(p.spec.Fragments), H: int(p.spec.H), StepTokens: p.spec.StepTokens(),
		Codec: codecNames(p.spec), StateHash: replica.HashHeads(p.replica.Heads()), Phase: "waiting", Term: p.term,
	}
	if s := &p.settingsIn; s.Solo || s.Phase != wire.PhaseTraining { // else it says what was changed, not what goes on
		r.Reason = s.Reason
	}
	if t := p.settingsIn.Tuning; t != nil {
		r.H = int(t.H)
	}
	if p.life.state != 0 {
		r.Phase = p.life.state.String()
		if p.life.state != wire.StateTraining {
			r.Reason = firstOf(r.Reason, p.life.reason)
		}
	} else if p.figures.tokens > 0 || len(p.figures.slots) > 0 {
		r.Phase = wire.PhaseTraining.String()
	}
	if p.settingsIn.Phase != 0 && p.settingsIn.Phase != wire.PhaseTraining {
		r.Phase = p.settingsIn.Phase.String()
	}
	if p.settingsIn.Phase == wire.PhaseEnded {
		r.StateHash = p.stateHash()
	}
	if p.several() {
		r.Term = max(r.Term, p.leads.Term)
		for _, id := range p.spec.Coordinators {
			you := id == p.self
			r.Coordinators = append(r.Coordinators, status.Coordinator{
				ID: id.String(), You: you, Leads: id == p.lead && p.leads.Term > 0, Connected: p.peers[id] || you,
			})
		}
	}
	return r
}

func (p *Peer) peerStatus(now time.Time) []status.Peer {
	out := make([]status.Peer, 0, len(p.figures.members))
	for id, m := range p.figures.members {
		h := &m.heartbeat
		state := h.State.String()
		if m.alive && id != p.self && !p.isCoordinator(p.self) {
			state = "" // workers tell only coordinators how they do
		}
		out = append(out, status.Peer{
			ID: id.String(), Name: p.nameOf(id), Slot: uint64(h.Slot), Stage: m.stage, You: id == p.self, Alive: m.alive, State: state, Reason: firstOf(m.reason, h.Reason),
			Device: h.Device, Class: deviceClass(h.Device), Step: h.Step, Tokens: h.Tokens, Loss: float64(h.Loss.Value()), TokensPerSecond: float64(h.TokensPerSecond.Value()),
			Utilisation: float64(h.Utilisation.Value()), Sent: h.Sent, Received: h.Received, Height: h.Height, StateHash: h.StateHash,
			OuterSteps: h.OuterSteps, Overlap: h.Overlap, Clock: h.Clock, SeenSeconds: now.Sub(m.seen).Seconds(),
			RoundBytes: h.RoundBytes, ContributionBytes: h.ContributionBytes,
		})
	}
	slices.SortFunc(out, func(a, b status.Peer) int { return int(a.Slot) - int(b.Slot) })
	return out
}

// nameOf is what a peer calls itself.
func (p *Peer) nameOf(id wire.PeerID) string {
	if id == p.self {
		return p.cfg.Name
	}
	return p.figures.names[id]
}

// stageStatus sums up the stages of a model that is spread over peers.
func (p *Peer) stageStatus() []status.Stage {
	if !p.spec.Staged() {
		return nil
	}
	out, waits := make([]status.Stage, p.spec.StageCount()), map[int]float64{}
	for i, t := range p.spec.Tensors {
		out[p.spec.StageOf(int(t.Fragment))].Parameters += uint64(p.spec.Tensors[i].Size())
	}
	for _, m := range p.figures.members {
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
	var hashes []wire.Hash
	if p.cfg.Stage == wire.AllStages && p.settingsIn.Phase == wire.PhaseEnded {
		hashes = p.replica.HashStages()
	}
	for i := range out {
		out[i].Stage = i
		if hashes != nil {
			out[i].StateHash = hashes[i]
		}
	}
	return out
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (p *Peer) health(now time.Time) status.Health {
	f := p.figures
	h := status.Health{Commits: f.commits, Diverged: f.diverged, OwnerRestarts: f.ownerRestarts}
	type place struct {
		height uint64
		stage  int
	}
	states := map[place]wire.Hash{}
	agree, compared := true, false
	for _, m := range f.members {
		if !m.alive && (!p.ended || m.heartbeat.Height != p.life.height) { // the goodbye at a run's end counts
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
	if !p.isCoordinator(p.self) {
		h.Training, h.Syncing = len(f.slots), 0
	}
	for _, m := range f.members {
		h.MicroBatches += m.heartbeat.Micros
		h.PartlyCounted += m.heartbeat.Partly
	}
	for _, l := range f.lost {
		if now.Sub(l.at) < 10*time.Minute {
			h.Lost++
			h.LastLost = l.text
		}
	}
	return h
}

// cost sums what workers report, by the protocol's definitions: upload counts
// contributions, results and round control, once a merged outer step.
func (p *Peer) cost(peers []status.Peer) status.Cost {
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
	parameters := float64(p.spec.Parameters())
	bits, upload := contributions*8/(parameters*steps), round*8/(parameters*steps)
	ratio, day := inner*4*parameters/round, sent/seconds*86400
	return status.Cost{BitsPerParameter: &bits, UploadBitsPerParameter: &upload, BytesRatio: &ratio, BytesPerPeerDay: &day}
}

// rounds turns the leader's view into rows, newest last.
func (f *figures) rounds(l *round.LeaderSnapshot, h *status.Health) []status.Round {
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

// DescribeEntry is a ledger entry in a few words.
func DescribeEntry(body wire.Body) string {
	switch b := body.(type) {
	case *wire.Member:
		verb := map[wire.MemberOp]string{wire.MemberAdmit: "joins as", wire.MemberLeave: "leaves", wire.MemberBan: "is banned from"}[b.Op]
		text := fmt.Sprintf("%s %s slot %d", b.Peer.Short(), verb, b.Slot)
		if b.Reason != "" {
			text += ": " + b.Reason
		}
		return text
	case *wire.Lease:
		return fmt.Sprintf("%d windows to slot %d", wire.Windows(b.Ranges), b.Slot)
	case *wire.Attempt:
		return fmt.Sprintf("fragment %d version %d, attempt %s", b.Fragment, b.Base, b.ID)
	case *wire.Commit:
		return fmt.Sprintf("fragment %d to version %d, %d tokens, state %s", b.Fragment, b.Base+1, b.Tokens, b.State.Short())
	case *wire.Settings:
		return fmt.Sprintf("%s: %s", b.Phase, b.Reason)
	case *wire.Checkpoint:
		if b.Complete {
			return fmt.Sprintf("state at height %d is held by enough peers", b.At)
		}
		return fmt.Sprintf("keep the state at height %d", b.At)
	}
	return ""
}
