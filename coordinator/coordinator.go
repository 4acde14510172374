package coordinator

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// How long a coordinator waits where the run spec does not say.
const (
	askWindow    = 1500 * time.Millisecond // for peers to tell their heads at a start
	askLongest   = 10 * time.Second        // the same for workers that the log names: they may take 8 s to notice that their connection is dead
	adoptWindow  = 5 * time.Second         // for news while a peer's entries are adopted
	appendWindow = 10 * time.Second        // for a proposal to come back before it is made again
	returnWindow = 15 * time.Second        // at least, for workers to come back after a start
	holdWindow   = 10 * time.Minute        // that a syncing peer without progress holds bytes
	holdLongest  = time.Hour               // that syncing peers together hold them
)

// Config is what a coordinator decides by.
type Config struct {
	Spec  *wire.RunSpec // validated
	Run   wire.Hash
	Self  wire.PeerID
	State []wire.FragmentHead // state 0, by fragment
	Limit int                 // workers in the run at once
}

// Validate checks the configuration.
func (c Config) Validate() error {
	switch {
	case c.Spec == nil || c.Run.IsZero() || c.Self.IsZero():
		return errors.New("coordinator: the run spec, the run id and the own id are needed")
	case uint64(len(c.State)) != c.Spec.Fragments:
		return fmt.Errorf("coordinator: state 0 of %d fragments, the run has %d", len(c.State), c.Spec.Fragments)
	case c.Limit < 1:
		return fmt.Errorf("coordinator: limit of %d workers: at least 1 is needed", c.Limit)
	}
	return nil
}

// reignPhase is where a coordinator stands between its start and leading.
type reignPhase uint8

const (
	replaying reignPhase = iota // the own ledger comes in
	asking                      // peers are asked for their heads
	adopting                    // a higher ledger comes in
	raising                     // the new term is being made durable
	leading
	halted
)

func (p reignPhase) String() string {
	return [...]string{"replaying", "asking", "adopting", "raising", "leading", "halted"}[p]
}

// Machine is the coordinator's side of a run. It is not safe for concurrent use.
type Machine struct {
	cfg   Config
	reign reign

	// What the log says.
	height   uint64
	logTerm  uint64 // of the newest entry
	heads    []wire.FragmentHead
	commits  uint64
	tokens   uint64
	settings *wire.Settings // nil before the first
	lastSlot wire.Slot
	members  map[wire.Slot]*member // live slots
	live     []wire.Slot           // the same, ascending
	banned   map[wire.PeerID]string
	wasIn    map[wire.PeerID]bool // admitted ever
	leases   *leases
	points   checkpoints

	// What is going on.
	peers    map[wire.PeerID]*visitor // connected
	offers   map[wire.PeerID]offer    // of stages, to peers that may come
	asks     map[wire.Slot]uint64     // windows that slots have asked for
	proposed map[proposal]time.Time
	wish     *wire.Settings // of the organiser, until the log says so
	bans     map[wire.PeerID]string
	listed   []Member  // as last told
	lapses   time.Time // from then on a member's standing may change by time alone; zero: never
	now      time.Time
	effects  []Effect
}

// proposal names an entry that should come back from the log.
type proposal struct {
	kind     wire.Kind
	slot     wire.Slot
	peer     wire.PeerID
	at       uint64
	complete bool
}

// New returns a machine at height 0 that waits for its ledger to be replayed:
// feed every entry as Logged, then Started.
func New(cfg Config) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Machine{
		cfg: cfg, heads: slices.Clone(cfg.State), leases: newLeases(cfg.Spec),
		members: map[wire.Slot]*member{}, banned: map[wire.PeerID]string{}, wasIn: map[wire.PeerID]bool{}, peers: map[wire.PeerID]*visitor{}, offers: map[wire.PeerID]offer{}, asks: map[wire.Slot]uint64{},
		proposed: map[proposal]time.Time{}, bans: map[wire.PeerID]string{},
		reign: reign{claims: map[wire.PeerID]claim{}},
	}, nil
}

// Step takes in an event and returns what is to be done, in order. Members are gone
// through only when something about one of them is news: of thousands of peers some
// hundred events a second come that are not.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.now, m.effects = now, nil
	news := true
	switch e := ev.(type) {
	case Logged:
		news = m.logged(e)
	case Started:
		m.start(e)
	case Deposed:
		m.deposed(e.Reason)
	case TermRaised:
		m.termRaised(e)
	case AppendFailed:
		m.appendFailed(e)
	case Connected:
		m.visit(e.Peer)
	case Disconnected:
		m.disconnected(e)
	case HelloFrom:
		m.hello(e)
	case HeartbeatFrom:
		news = m.heartbeat(e)
	case LeaseAsked:
		m.leaseAsked(e)
		news = false
	case LeaveFrom:
		m.leaveFrom(e)
	case StageAsked:
		m.offer(e.Peer)
	case Placed:
		m.offers[e.Peer] = offer{stage: e.Stage, until: m.now.Add(moveWindow), fixed: true}
	case SeedHolds:
		m.points.seed = max(m.points.seed, e.At)
	case Organised:
		m.organised(e.Change)
	case Banned:
		m.bans[e.Peer] = limit(e.Reason)
	case ForkFound:
		m.reign.phase = halted
		m.do(Halt{Reason: fmt.Sprintf("two certified entries at height %d: %s; keep both folders, stop every coordinator but one and ask the organiser", e.Height, e.Reason)})
	case Tick:
		news = false
	}
	if m.reign.phase != leading || due(m.now, m.lapses) {
		news = true
	}
	m.advanceReign()
	if m.propose(news) {
		m.tellMembers()
	}
	m.collect()
	effects := m.effects
	m.effects = nil
	return effects
}

func (m *Machine) do(e Effect) { m.effects = append(m.effects, e) }

func (m *Machine) note(format string, args ...any) {
	m.do(Note{Text: fmt.Sprintf(format, args...)})
}

// append proposes an entry unless the same is under way. It reports whether it did.
func (m *Machine) append(key proposal, body wire.Body) bool {
	if _, under := m.proposed[key]; under {
		return false
	}
	m.proposed[key] = m.now
	m.do(Append{Body: body})
	return true
}

// propose compares what should stand in the log with what does. It reports whether
// there was news of members, or of a proposal.
func (m *Machine) propose(news bool) bool {
	if m.reign.phase != leading {
		return news
	}
	for key, at := range m.proposed {
		if !m.now.Before(at.Add(appendWindow)) {
			delete(m.proposed, key) // lost or late; the same again does no harm
			news = true
		}
	}
	if news {
		m.proposeBans()
		m.proposeLeaves()
		m.proposeAdmissions()
	}
	m.proposeLeases()
	m.proposeSettings()
	m.proposeMark()
	if news {
		m.proposeComplete()
	}
	return news
}

// logged moves the state by one entry and reports whether it is news of members, or
// of a checkpoint, which they hold.
func (m *Machine) logged(e Logged) (news bool) {
	if e.Height != m.height+1 || e.Body == nil {
		m.note("entry %d does not follow height %d; it is ignored", e.Height, m.height)
		return false
	}
	if e.Term > m.logTerm {
		m.logTerm = e.Term
		m.leases.newReign()
	}
	m.height = e.Height
	m.reign.progress = m.now
	switch b := e.Body.(type) {
	case *wire.Member:
		m.memberLogged(e.Height, b)
		news = true
	case *wire.Lease:
		delete(m.proposed, proposal{kind: wire.KindLease, slot: b.Slot})
		delete(m.asks, b.Slot)
		m.leases.leased(b)
	case *wire.Attempt:
		m.attemptLogged(e, b)
	case *wire.Commit:
		m.commitLogged(e, b)
	case *wire.Settings:
		delete(m.proposed, proposal{kind: wire.KindSettings})
		m.settings, news = b, true
		if m.wish != nil && m.granted(m.wish) {
			m.wish = nil
		}
	case *wire.Checkpoint:
		delete(m.proposed, proposal{kind: wire.KindCheckpoint, at: b.At, complete: b.Complete})
		m.points.logged(b, m.heads)
		news = true
	}
	return news
}

func (m *Machine) attemptLogged(e Logged, b *wire.Attempt) {
	var t wire.AttemptTable
	if err := wire.Decode(e.Table, &t); err != nil || wire.HashLeaf(e.Table) != b.Table {
		if m.reign.phase == leading { // tables of old attempts are not kept, nor needed
			m.note("attempt %s comes without its table", b.ID)
		}
		return
	}
	m.leases.attempted(b.Fragment, b.Base, &t)
}

func (m *Machine) commitLogged(e Logged, b *wire.Commit) {
	if b.Fragment >= uint64(len(m.heads)) || b.Base != m.heads[b.Fragment].Version {
		m.note("commit %d of fragment %d is not on its head; it is ignored", e.Height, b.Fragment)
		return
	}
	m.heads[b.Fragment] = wire.FragmentHead{Version: b.Base + 1, State: b.State}
	m.commits++
	m.tokens = max(m.tokens, b.Tokens)
	m.points.committed(e.Height)
	var t wire.CommitTable
	if err := wire.Decode(e.Table, &t); err != nil || wire.HashLeaf(e.Table) != b.Table {
		m.note("commit %d comes without its table; windows leased before it are not leased again", e.Height)
		m.leases.forget(b.Fragment)
		return
	}
	m.leases.committed(b.Fragment, &t)
}

func (m *Machine) appendFailed(e AppendFailed) {
	var key proposal
	switch b := e.Body.(type) {
	case *wire.Member:
		key = memberProposal(b)
	case *wire.Lease:
		key = proposal{kind: wire.KindLease, slot: b.Slot}
	case *wire.Settings:
		key = proposal{kind: wire.KindSettings}
	case *wire.Checkpoint:
		key = proposal{kind: wire.KindCheckpoint, at: b.At, complete: b.Complete}
	case *wire.Attempt, *wire.Commit:
		return // the round's
	default:
		return
	}
	if at, under := m.proposed[key]; under {
		// Once more after a tenth of the window: at once could spin.
		m.proposed[key] = minTime(at, m.now.Add(appendWindow/10-appendWindow))
		m.note("the log did not take %s: %s", describe(e.Body), e.Reason)
	}
}

// Phase returns what the run is doing by the log.
func (m *Machine) Phase() wire.Phase {
	if m.settings == nil {
		return wire.PhaseTraining
	}
	return m.settings.Phase
}

// SettingsHash returns the hash of the settings in force; zero before the first.
func (m *Machine) SettingsHash() wire.Hash {
	if m.settings == nil {
		return wire.Hash{}
	}
	return m.settings.Hash()
}

// Heads returns each fragment's version and state by the log.
func (m *Machine) Heads() []wire.FragmentHead { return slices.Clone(m.heads) }

// TokensAfter returns the run's tokens once a commit with this table stands:
// every window counted once, by the first fragment that commits it.
func (m *Machine) TokensAfter(t *wire.CommitTable) uint64 {
	return m.tokens + m.leases.fresh(t)*m.leases.context
}

// CheckReady says why a contribution may not take part: it must be made from
// windows that are leased to its slot and that its fragment has not committed.
func (m *Machine) CheckReady(r *wire.Ready) error {
	if m.members[r.Slot] == nil {
		return errNoSlot
	}
	if err := m.leases.check(r.Slot, r.Fragment, r.Windows); err != nil {
		return err
	}
	if most := wire.Windows(r.Windows) * m.leases.context; r.Tokens > most {
		return fmt.Errorf("%d tokens from %d windows, at most %d are possible", r.Tokens, wire.Windows(r.Windows), most)
	}
	return nil
}

// CheckCommit says why a commit may not count its contributors' windows. A
// slot that ended after the attempt opened may still commit what it quoted.
func (m *Machine) CheckCommit(fragment uint64, t *wire.CommitTable) error {
	for rank, c := range t.Contributors {
		if !contributed(t, rank) {
			continue
		}
		if err := m.leases.check(c.Slot, fragment, c.Windows); err != nil {
			return fmt.Errorf("contribution of slot %d: %w", c.Slot, err)
		}
	}
	return nil
}

// Deadline returns when Tick is due; zero: never.
func (m *Machine) Deadline() time.Time {
	var next time.Time
	sooner := func(t time.Time) { next = earlier(next, t) }
	switch m.reign.phase {
	case asking:
		sooner(m.askedUntil())
	case adopting:
		sooner(m.reign.progress.Add(adoptWindow))
	case raising:
		sooner(m.reign.since.Add(appendWindow))
	case leading:
		for _, at := range m.proposed {
			sooner(at.Add(appendWindow))
		}
		sooner(m.lapses) // heartbeats since then have only put it off
	case replaying, halted:
	}
	return next
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func milliseconds(n uint64) time.Duration { return time.Duration(n) * time.Millisecond }

// limit cuts a text that a peer or a person sent to what an entry may hold.
func limit(s string) string {
	if len(s) <= wire.MaxReason {
		return s
	}
	cut := wire.MaxReason
	for cut > 0 && s[cut]&0xC0 == 0x80 { // in the middle of a letter
		cut--
	}
	return s[:cut]
}

// sorted returns a map's keys in order, so that no order of a map leaks out.
func sorted[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
