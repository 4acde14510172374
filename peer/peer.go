package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/catchup"
	"dunlin/compute"
	"dunlin/contribution"
	"dunlin/coordinator"
	"dunlin/engine"
	"dunlin/folder"
	"dunlin/ledger"
	"dunlin/peer/contact"
	"dunlin/peer/core"
	"dunlin/peer/figures"
	"dunlin/peer/judge"
	"dunlin/peer/keeper"
	"dunlin/peer/mailbox"
	"dunlin/peer/reign"
	"dunlin/peer/slabs"
	"dunlin/peer/stage"
	"dunlin/peer/worker"
	"dunlin/recipe"
	"dunlin/replica"
	"dunlin/status"
	"dunlin/store"
	"dunlin/training"
	"dunlin/wire"
)

// Config says who a peer is and what it does in a run.
type Config struct {
	Key     ed25519.PrivateKey
	Signed  *wire.SignedSpec // of the run
	Run     wire.Hash
	Dir     string // this run's folder: ledger and bytes
	Quota   int64  // of the bytes kept, 0 for no limit
	Upload  uint64 // bytes a second that may be sent, 0 for no limit
	Name    string // for people
	Version string // of the program
	Secret  []byte // join secret of a private run
	Seed    uint64 // of jitter

	// NewEngine makes a worker's engine once the training text is here; nil on
	// a peer that does not train.
	NewEngine func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error)
	// Stage is which stage of the model this peer holds; a peer that does not train
	// holds all. NewEngine makes an *engine.Stage of it in a run with stages.
	Stage    int
	Momentum replica.Room // where outer momenta lie; nil: in memory
	// Rebalance is how often a coordinator looks for each peer whether it should change
	// its stage; 0: never.
	Rebalance time.Duration
	Duty      training.Duty                 // share of the time to train
	Cards     func() ([]status.Card, error) // how the cards that train do; nil without telemetry
	Limits    training.CardLimits           // of the cards; training slows down to keep to them
	// Publish hears of every new Snapshot, two a second and one when an attempt
	// opens, on the peer's own goroutine; it may be nil.
	Publish      func(*status.Snapshot)
	Coordinators map[wire.PeerID][]string // where the coordinators are, for a peer that is not the only one
	// Agree starts this coordinator's part in the agreement of several; it is
	// needed by none but those. It is called and closed by Run.
	Agree func(r *reign.Reign) (reign.Agreement, error)
	// Judge measures held-out loss on a coordinator; nil for none.
	Judge          compute.Device
	HeldOutWindows int    // most held-out windows to measure on
	Export         string // folder for the run's model when the run ends; empty for none
	Logger         *slog.Logger
}

// Validate lists every fault.
func (c Config) Validate() error {
	var errs []error
	if len(c.Key) != ed25519.PrivateKeySize {
		errs = append(errs, errors.New("peer: no identity key"))
	}
	if c.Signed == nil || c.Run.IsZero() {
		errs = append(errs, errors.New("peer: no run"))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("peer: no data folder"))
	}
	return errors.Join(append(errs, c.Duty.Validate(), c.Limits.Validate())...)
}

// Peer is one process's part in a run: it feeds what happens to the pure
// machines of package core and carries out what they decide. One goroutine,
// Run's, owns everything here but what says otherwise.
type Peer struct {
	cfg   Config
	self  wire.PeerID
	spec  *wire.RunSpec
	log   *slog.Logger
	core  *core.Core
	reign *reign.Reign // who leads, and how entries come about and reach all

	durable
	queues
	crew
	tenure
	known

	peers   map[wire.PeerID]bool     // sessions
	addrs   map[wire.PeerID][]string // from the log
	owners  map[wire.PeerID][]string // of attempts, to be called
	asking  map[wire.PeerID][]chan *wire.Offer
	slabs   *slabs.Slabs             // contributions, own and others'
	donor   donor                    // of those who join
	weights map[int]keeper.Committed // newest commit of each fragment, for merging
	configs []contribution.Config    // by fragment

	life      figures.Life
	figures   *figures.Figures
	thanks    *figures.Thanks
	published time.Time                              // when the newest snapshot was made
	fresh     bool                                   // something happened that is shown at once
	told      atomic.Pointer[func() ([]byte, error)] // the newest snapshot as other peers are told, on any goroutine; nil before the first
	ended     bool                                   // the run's end was seen to
	moving    *MoveError                             // to another stage, once it has left this one
	finished  *coordinator.Finished
	failure   error // ends the peer now
	parting   error // ends it once it has said goodbye
}

// durable is what survives this process.
type durable struct {
	ledger    *ledger.Log
	store     store.Store
	retention *folder.Retention
	book      *folder.Book
	closers   []func() error
	diskGone  bool // a write to the data folder failed, which ends the peer
}

// queues is what waits to be taken in.
type queues struct {
	network chan any              // from the transport; bounded, so that a flood waits
	done    chan struct{}         // closed when nothing more is taken from network
	inbox   *mailbox.Mailbox[any] // from this peer's own goroutines
	pending []core.Event          // not yet stepped
}

// crew is who works beside the loop, each on a goroutine of its own.
type crew struct {
	transport Transport
	keeper    *keeper.Keeper
	replica   *replica.Replica // the keeper's; read only here
	fetcher   *contact.Fetcher
	shards    *contact.Shards
	codecs    *slabs.Codecs
	worker    *worker.Worker     // nil until the data are here
	pipe      *stage.Pipe        // nil but on a worker of a run with stages
	governor  *training.Governor // of the worker's duty
	paced     training.Duty      // what it allows now
	cards     []status.Card      // as last seen
	judge     *judge.Judge       // nil but on a coordinator with a device
	judgeDue  bool               // the next state that stands at the head is measured
	judging   bool               // a state is under way there
	judgeLast bool               // the run's last state is the next one
	judgeFrom time.Time          // earliest, see judge.Share
	pulling   chan struct{}      // has a token while a newcomer's link is measured
	awaited   []wire.PeerID      // whom the transport asks for signs of life
	wg        sync.WaitGroup
}

// tenure is a worker's time in its slot.
type tenure struct {
	slot     wire.Slot
	begun    bool         // inner steps of this slot have begun
	wanted   bool         // inner steps may be made
	restarts uint64       // from 1: how often live weights became worthless
	taken    uint64       // restarts as the newest live weights were taken from the replica
	granted  []wire.Range // leased to this slot before its first step
	asked    uint64       // restarts as the keeper was asked for weights; 0 while it is not
	loading  bool         // the data are being fetched
	caughtUp chan bool    // holds, once the replica has reached the head, whether the run was under way
}

// known is what the log and other peers have said of the run.
type known struct {
	settingsIn wire.Settings
	inForce    atomic.Pointer[wire.Settings] // settingsIn, for other goroutines
	term       uint64                        // of the newest entry
	terms      uint64                        // highest term that peers reported
	newest     map[uint64]wire.AttemptID     // by fragment: the attempt opened last
	hashed     []wire.FragmentHead           // of the newest state of a run that has ended that was hashed from memory
}

// New opens the peer's folder and replays its ledger's rules; nothing runs yet.
func New(cfg Config) (*Peer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	spec, err := cfg.Signed.Open(cfg.Run)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(recipe.Check(spec), replica.SelfTest()); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Peer{
		cfg: cfg, self: wire.PeerIDOf(cfg.Key), spec: spec, log: cfg.Logger,
		queues: queues{network: make(chan any, 1024), done: make(chan struct{}), inbox: mailbox.New[any]()},
		peers:  map[wire.PeerID]bool{}, addrs: map[wire.PeerID][]string{}, owners: map[wire.PeerID][]string{}, asking: map[wire.PeerID][]chan *wire.Offer{}, slabs: slabs.New(), weights: map[int]keeper.Committed{},
		crew:   crew{pulling: make(chan struct{}, 1)},
		tenure: tenure{caughtUp: make(chan bool, 1), restarts: 1}, known: known{newest: map[uint64]wire.AttemptID{}},
	}
	if err := p.open(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close closes what New opened, where it does not come to Run, which closes it itself.
func (p *Peer) Close() error {
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// closeUntaken closes an engine that was still being made as this peer ended.
func (p *Peer) closeUntaken() (err error) {
	for _, ev := range p.inbox.Take() {
		if d, ok := ev.(dataLoaded); ok && d.engine != nil {
			err = errors.Join(err, d.engine.Close())
		}
	}
	return err
}

// drainWithin bounds an orderly end after the context is cancelled, which has bounds of its own.
const drainWithin = coordinator.LeavesWithin + time.Second

// Run takes part in the run until it ends, the context is cancelled (then it
// drains: finishes or gives up the running rounds and says goodbye) or the
// peer is refused. It closes everything it opened before it returns.
func (p *Peer) Run(ctx context.Context, t Transport) (err error) {
	p.transport = t
	p.shards = &contact.Shards{Self: p.self, Data: &p.spec.Data, Store: p.store, Network: t, Log: p.log, Report: p.inbox.Put}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		cancel()
		close(p.done)
		p.wg.Wait()
		err = errors.Join(err, p.closeUntaken(), p.reign.Close())
		if p.worker != nil {
			err = errors.Join(err, p.worker.Close())
		}
		err = errors.Join(err, p.Close())
	}()
	p.wg.Go(func() { p.keeper.Loop(inner) })
	p.wg.Go(func() { p.fetcher.Run(inner, t) })
	p.wg.Go(func() { p.codecs.Run(inner) })
	if p.pipe != nil {
		p.wg.Go(func() { p.pipe.Run(inner, t) })
	}
	if p.cfg.Cards != nil {
		p.wg.Go(func() { p.watchCards(inner) })
	}
	if !p.reign.Shared() {
		p.startJudge(inner)
	}
	if err := p.start(inner); err != nil {
		return err
	}
	if err := p.reign.Join(); err != nil {
		return err
	}
	return p.loop(ctx, inner)
}

// startJudge begins to measure held-out loss, on a coordinator that leads.
func (p *Peer) startJudge(ctx context.Context) {
	if p.cfg.Judge == nil || p.judge != nil {
		return
	}
	text := p.shards.Text
	if from := p.reign.Others(); len(from) > 0 {
		text = func(shards []wire.ShardSpec) ([]byte, error) { return p.shards.TextFrom(ctx, shards, from) }
	}
	p.judge = judge.New(p.spec, p.cfg.Judge, p.cfg.HeldOutWindows, text, p.inbox.Put)
	p.wg.Go(func() { p.judge.Run(ctx) })
	if p.ledger.Height() == 0 {
		p.ask(false)
	}
}

// start feeds the ledger that was here before.
func (p *Peer) start(ctx context.Context) error {
	if height := p.ledger.Height(); height > 0 {
		p.pending = append(p.pending, catchup.Opened{Height: height})
	}
	for from := uint64(1); ; {
		entries, err := p.ledger.Range(from, wire.MaxItems)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		for i := range entries {
			if err := p.logged(&entries[i], p.storedTable(&entries[i])); err != nil {
				return err
			}
		}
		from += uint64(len(entries))
		p.drainPending(ctx)
	}
	if _, err := p.store.Collect(); err != nil { // what must stay is pinned again
		return err
	}
	if p.reign.Own() {
		var term uint64
		p.ledger.View(func(c *ledger.Chain) { term = c.Term() })
		p.pending = append(p.pending, coordinator.Started{Term: term})
		p.gather(ctx)
	} else {
		p.pending = append(p.pending, core.Tick{})
	}
	p.reign.Start(ctx, p.transport)
	if p.reign.Shared() {
		p.gather(ctx)
		p.seedData(ctx)
	}
	p.drainPending(ctx)
	return nil
}

// storedTable returns the table that an entry of an earlier process names, if
// it is here, and pins it with what it names.
func (p *Peer) storedTable(c *wire.Certified) []byte {
	body, err := c.Entry.Body()
	commit, ok := body.(*wire.Commit)
	if err != nil || !ok {
		return nil
	}
	b, err := p.store.Get(commit.Table, wire.MaxMessage)
	var table wire.CommitTable
	if err != nil || wire.Decode(b, &table) != nil {
		return nil
	}
	p.retention.Commit(p.store, c.Entry.Height, commit.Table, &table)
	return b
}

// loop is the peer's one owner of decisions.
func (p *Peer) loop(outer, ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	publish := time.NewTicker(publishEvery)
	defer publish.Stop()
	interrupted := outer.Done()
	var giveUp <-chan time.Time
	for p.finished == nil && p.failure == nil {
		mailbox.Arm(timer, p.core.Deadline())
		select {
		case <-interrupted:
			interrupted = nil
			if p.cfg.NewEngine == nil || !p.drain(outer) {
				return p.parting
			}
			giveUp = time.After(drainWithin)
		case <-giveUp:
			return fmt.Errorf("not through with leaving after %s: left without a goodbye, nothing committed is lost", drainWithin)
		case ev := <-p.network:
			p.handle(ctx, ev)
		case <-p.inbox.Ready:
			for _, ev := range p.inbox.Take() {
				p.handle(ctx, ev)
				p.drainPending(ctx)
			}
		case <-timer.C:
			p.pending = append(p.pending, core.Tick{})
		case <-publish.C:
			p.reign.Look(ctx, time.Now())
			p.publishDue(time.Now())
		}
		p.drainPending(ctx)
		p.await()
		p.checkEnd()
		if p.fresh && time.Since(p.published) >= publishGap {
			p.publish()
		}
	}
	p.publish()
	if p.parting != nil { // what failed since follows from it
		return p.parting
	}
	if p.failure != nil {
		return p.failure
	}
	if p.moving != nil && p.finished.Code == 0 && p.settingsIn.Phase != wire.PhaseEnded {
		return p.moving
	}
	if p.finished.Code != 0 {
		return &RefusedError{Code: p.finished.Code, Reason: p.finished.Reason}
	}
	return nil
}

// MoveError says that this peer has left its stage and is to come back in another.
type MoveError struct {
	Stage  int
	Reason string
}

func (e *MoveError) Error() string {
	return fmt.Sprintf("it moves to stage %d: %s", e.Stage+1, e.Reason)
}

// RefusedError says that the coordinator does not want this peer, and why.
type RefusedError struct {
	Code   wire.RefuseCode
	Reason string
}

func (e *RefusedError) Error() string { return "the coordinator refused this peer: " + e.Reason }

// Leaving is the cause of a context's end that tells the others why a peer goes.
type Leaving struct{ Reason string }

func (l *Leaving) Error() string { return l.Reason }

// drain begins an orderly end; it reports false when there is nothing to hand over.
func (p *Peer) drain(ended context.Context) bool {
	if p.slot == 0 {
		return false
	}
	why := &Leaving{Reason: "the volunteer stopped it"}
	errors.As(context.Cause(ended), &why)
	p.pending = append(p.pending, coordinator.Drained{Reason: why.Reason})
	return true
}

// drainPending steps the core until nothing is left to do now.
func (p *Peer) drainPending(ctx context.Context) {
	for len(p.pending) > 0 {
		ev := p.pending[0]
		p.pending = p.pending[1:]
		for _, e := range p.core.Step(time.Now(), ev) {
			p.do(ctx, e)
		}
	}
	p.meetOwners(ctx)
}

// await has the transport ask those for whom rounds wait for signs of life.
func (p *Peer) await() {
	if owing := p.core.Owing(); !slices.Equal(owing, p.awaited) {
		p.awaited = owing
		p.transport.Await(owing)
	}
}

// logged feeds one entry of the own ledger.
func (p *Peer) logged(c *wire.Certified, table []byte) error {
	body, err := c.Entry.Body()
	if err != nil {
		return err
	}
	p.learn(c.Entry.Height, body)
	if p.begun && p.worker != nil && p.serves(body) {
		p.figures.Own.Entry(body, table, time.Now())
		p.ownersOf(body, table)
	}
	p.thanks.Entry(c.Entry.Height, body, table)
	p.term = c.Entry.Term
	p.pending = append(p.pending, core.Logged{Height: c.Entry.Height, Term: c.Entry.Term, Body: body, Table: table})
	return nil
}
