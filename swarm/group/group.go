package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"dunlin/wire"
)

// Handler hears what the group agrees on, one call at a time. A call may wait,
// and Raft waits with it; it must not call Close.
type Handler interface {
	// Agreed hands over the next command; at a start, all of them again that are kept.
	Agreed(command []byte)
	// Condense asks for what stands in for every command handed over so far, at most
	// wire.MaxStanding bytes. done is called once, on any goroutine, when that needs
	// none of them any more.
	Condense(done func(standing []byte, err error))
	// Restored hands that over in place of all commands before the next one, at a
	// start or when this member was away for longer than commands are kept.
	Restored(standing []byte)
	// Leading says whether this member leads. When it begins to, every command
	// that was agreed on before has been handed over.
	Leading(leads bool)
	// Unknown says that whether a proposal of this member is agreed on cannot be
	// told here: Agreed alone tells.
	Unknown(command []byte, reason string)
}

// Caller carries calls between the members; *swarm.Host is one.
type Caller interface {
	Call(ctx context.Context, to wire.PeerID, request []byte) ([]byte, error)
	Answer(ctx context.Context, peers []wire.PeerID, serve func(ctx context.Context, from wire.PeerID, request []byte) ([]byte, error))
}

// Config says who a member is and who the others are.
type Config struct {
	Self    wire.PeerID
	Members []wire.PeerID // all of them, the same at each
	Dir     string        // where raft.db lies
	Caller  Caller
	Handler Handler
	Logger  *slog.Logger // nil: silent
	Pace    Pace         // zero value: DefaultPace
	Kept    uint64       // commands that are kept, at least, and about twice as many at most; 0: DefaultKept
}

// DefaultKept lets a member that was away for some minutes hear every command.
const DefaultKept = 256

// Pace is how soon a group notices that its leader is gone.
type Pace struct {
	Heartbeat time.Duration // silence after which a follower stands for election, up to twice this
	Commit    time.Duration // after which followers hear that the newest command is agreed on, up to twice this
	Condense  time.Duration // between two looks whether commands are to be dropped, up to twice this
}

// DefaultPace suits links over the internet: a lost leader is replaced within
// about three seconds.
func DefaultPace() Pace {
	return Pace{Heartbeat: time.Second, Commit: 30 * time.Millisecond, Condense: 15 * time.Second}
}

// Validate lists every fault.
func (c Config) Validate() error {
	var errs []error
	if n := len(c.Members); n < 3 || n > wire.MaxKeys || n%2 == 0 {
		errs = append(errs, fmt.Errorf("%d members: 3 or 5 are allowed", n))
	}
	if !slices.Contains(c.Members, c.Self) {
		errs = append(errs, errors.New("this one is not a member"))
	}
	if c.Dir == "" || c.Caller == nil || c.Handler == nil {
		errs = append(errs, errors.New("a folder, a caller and a handler are needed"))
	}
	if c.Pace != (Pace{}) && (c.Pace.Heartbeat < 50*time.Millisecond || c.Pace.Commit < time.Millisecond || c.Pace.Condense < 5*time.Millisecond) {
		errs = append(errs, fmt.Errorf("pace %+v: at least 50ms, 1ms and 5ms are needed", c.Pace))
	}
	return errors.Join(errs...)
}

// configuration is what Raft calls the members.
func (c Config) configuration() raft.Configuration {
	var out raft.Configuration
	for _, id := range c.Members {
		out.Servers = append(out.Servers, raft.Server{ID: serverID(id), Address: raft.ServerAddress(serverID(id))})
	}
	return out
}

// Group is one member's part. Its methods may be called from any goroutine.
type Group struct {
	cfg       Config
	log       *slog.Logger
	raft      *raft.Raft
	store     *raftboltdb.BoltStore
	transport *transport
	ctx       context.Context //nolint:containedctx // ends every goroutine of the group
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	proposals chan []byte
	hear      sync.Mutex // one call of the handler at a time
	restored  []byte     // of which the handler has not heard yet; under hear
}

// Bounds of proposals that wait.
const (
	maxProposals  = 1024
	proposeWithin = 10 * time.Second
)

// ErrTooMany: more proposals wait than the group can agree on.
var ErrTooMany = errors.New("too many proposals wait")

// Open starts a member; it begins anew or goes on from raft.db.
func Open(cfg Config) (*Group, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("coordinators' group: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Pace == (Pace{}) {
		cfg.Pace = DefaultPace()
	}
	if cfg.Kept == 0 {
		cfg.Kept = DefaultKept
	}
	g := &Group{cfg: cfg, log: cfg.Logger, proposals: make(chan []byte, maxProposals)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if err := g.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("coordinators' group: %w", err), g.Close())
	}
	return g, nil
}

func (g *Group) start() error {
	var err error
	path := filepath.Join(g.cfg.Dir, "raft.db")
	if g.store, err = raftboltdb.NewBoltStore(path); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	led := make(chan bool, 1)
	c := raft.DefaultConfig()
	c.LocalID = serverID(g.cfg.Self)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = g.cfg.Pace.Heartbeat, g.cfg.Pace.Heartbeat, g.cfg.Pace.Heartbeat
	c.CommitTimeout = g.cfg.Pace.Commit
	c.MaxAppendEntries = maxEntries
	c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = g.cfg.Kept, g.cfg.Kept, g.cfg.Pace.Condense
	c.LogOutput, c.LogLevel = logWriter{g.log}, "WARN"
	c.NoLegacyTelemetry = true
	c.NotifyCh = led
	g.transport = newTransport(g.ctx, g.cfg)
	snapshots, err := raft.NewFileSnapshotStore(g.cfg.Dir, 1, c.LogOutput)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Join(g.cfg.Dir, "snapshots"), err)
	}
	known, err := raft.HasExistingState(g.store, g.store, snapshots)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if !known {
		if err := raft.BootstrapCluster(c, g.store, g.store, snapshots, g.transport, g.cfg.configuration()); err != nil {
			return fmt.Errorf("begin %s: %w", path, err)
		}
	}
	if g.raft, err = raft.NewRaft(c, (*machine)(g), g.store, g.store, snapshots, g.transport); err != nil {
		return fmt.Errorf("start from %s and the snapshots beside it (without both, the other coordinators give what they agreed on): %w", path, err)
	}
	g.cfg.Caller.Answer(g.ctx, g.others(), g.transport.answer)
	g.wg.Go(func() { g.follow(led) })
	g.wg.Go(g.propose)
	return nil
}

func (g *Group) others() []wire.PeerID {
	return slices.DeleteFunc(slices.Clone(g.cfg.Members), func(id wire.PeerID) bool { return id == g.cfg.Self })
}

// Propose queues a command and returns at once. No error does not mean that it
// is agreed on.
func (g *Group) Propose(command []byte) error {
	if len(command) == 0 || len(command) > wire.MaxCommand {
		return fmt.Errorf("command of %d bytes, at most %d are allowed", len(command), wire.MaxCommand)
	}
	select {
	case g.proposals <- command:
		return nil
	default:
		return ErrTooMany
	}
}

// propose gives proposals to Raft, in order, and hears what became of them.
func (g *Group) propose() {
	type asked struct {
		command []byte
		outcome raft.ApplyFuture
	}
	waiting := make(chan asked, maxProposals)
	g.wg.Go(func() {
		for a := range waiting {
			if err := a.outcome.Error(); err != nil {
				g.unknown(a.command, err)
			}
		}
	})
	defer close(waiting)
	for {
		select {
		case <-g.ctx.Done():
			return
		case command := <-g.proposals:
			waiting <- asked{command, g.raft.Apply(command, proposeWithin)}
		}
	}
}

func (g *Group) unknown(command []byte, err error) {
	g.tell(func(h Handler) { h.Unknown(command, err.Error()) })
}

// tell calls the handler, which hears first of what has been restored before.
func (g *Group) tell(call func(h Handler)) {
	g.hear.Lock()
	defer g.hear.Unlock()
	if g.ctx.Err() != nil {
		return
	}
	if standing := g.restored; standing != nil {
		g.restored = nil
		g.cfg.Handler.Restored(standing)
	}
	call(g.cfg.Handler)
}

// follow tells the handler when this member begins and ceases to lead.
func (g *Group) follow(led <-chan bool) {
	told := false
	for {
		select {
		case <-g.ctx.Done():
			return
		case leads := <-led:
			if leads && g.raft.Barrier(0).Error() != nil {
				continue // it was over before it began
			}
			if leads != told {
				told = leads
				g.tell(func(h Handler) { h.Leading(leads) })
			}
		}
	}
}

// Close leaves the group to the others; a leader is replaced by them. It waits
// for every goroutine.
func (g *Group) Close() error {
	g.cancel()
	var errs []error
	if g.raft != nil {
		errs = append(errs, g.raft.Shutdown().Error())
	}
	g.wg.Wait()
	if g.transport != nil {
		g.transport.wg.Wait()
	}
	if g.store != nil {
		errs = append(errs, g.store.Close())
	}
	return errors.Join(errs...)
}

// machine is what Raft applies commands to.
type machine Group

// Apply implements raft.FSM.
func (m *machine) Apply(l *raft.Log) any {
	(*Group)(m).tell(func(h Handler) { h.Agreed(l.Data) })
	return nil
}

// Snapshot implements raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	s := &snapshot{ctx: m.ctx, told: make(chan error, 1)}
	(*Group)(m).tell(func(h Handler) {
		h.Condense(func(standing []byte, err error) {
			s.standing = standing
			s.told <- err
		})
	})
	return s, nil
}

// Restore implements raft.FSM. It is called before Open returns as well, when the
// handler may not listen yet, so it does not wait.
func (m *machine) Restore(in io.ReadCloser) error {
	standing, err := readStanding(in)
	if err = errors.Join(err, in.Close()); err != nil {
		return err
	}
	m.hear.Lock()
	m.restored = standing
	m.hear.Unlock()
	m.wg.Go(func() { (*Group)(m).tell(func(Handler) {}) })
	return nil
}

func readStanding(in io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(in, wire.MaxStanding+1))
	if err == nil && len(b) > wire.MaxStanding {
		err = fmt.Errorf("snapshot of more than %d bytes", wire.MaxStanding)
	}
	return b, err
}

// snapshot is a standing that the handler is asked for.
type snapshot struct {
	ctx      context.Context //nolint:containedctx // the group's
	told     chan error
	standing []byte // once told
}

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	select {
	case err := <-s.told:
		if err != nil {
			return err
		}
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	_, err := sink.Write(s.standing)
	return err
}

// Release implements raft.FSMSnapshot.
func (*snapshot) Release() {}

// serverID is Raft's name for a member.
func serverID(id wire.PeerID) raft.ServerID { return raft.ServerID(id.String()) }

// logWriter gives Raft's log lines to ours.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Debug("raft", "says", strings.TrimSpace(string(line)))
	return len(line), nil
}
