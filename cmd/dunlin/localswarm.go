package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"dunlin/folder"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/wire"
)

// localSwarm is a run on this machine alone: a coordinator and workers, each a process of this same binary with a data
// folder of its own, on loopback.
type localSwarm struct {
	dir     string   // everything is below it
	flags   []string // of the coordinator, that make the run
	threads int      // of a worker
	device  string   // of a worker, as --device names it
	up      int      // bits a second that a worker sends at most; 0 is no limit
	down    int      // and receives
	verbose bool
	fault   string // given to the newest worker of the start, for a test

	binary      string
	listen      string // the first coordinator's page
	invite      string
	page        string // of the coordinator that leads, as far as is known
	coordinator *localSeat
	seats       []*localSeat   // all coordinators, one unless the run has several
	workers     []*localWorker // in the order of their start
}

// localSeat is one coordinator of a localSwarm: its folder, its addresses, which stay so that it can come back, and its
// present process.
type localSeat struct {
	*process
	name   string
	folder string
	port   int
	listen string // its page's address
	page   string
	killed bool // on purpose
}

// localWorker is one worker of a localSwarm: an identity, its folder and its present process.
type localWorker struct {
	*process
	id     string // peer id
	folder string
	killed bool // on purpose
	tally  tally
}

// mark is the file that shows that a folder belongs to a local swarm and may be made anew.
const mark = ".dunlin-local-swarm"

// Bounds of what a local swarm waits for.
const (
	startWithin = time.Minute // the coordinator, which reads and packs the text
	askWithin   = 2 * time.Second
	leaveWithin = 20 * time.Second
)

// prepare makes the folder, anew when it holds an earlier local swarm.
func (s *localSwarm) prepare() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output folder: %w", err)
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(s.dir, mark)); err != nil {
			return fmt.Errorf("output folder %s holds other files: choose an empty or a new one with --out", s.dir)
		}
		lock, err := swarm.LockFolder(s.path("coordinator"))
		if err != nil {
			return fmt.Errorf("output folder %s: another one runs in it: %w", s.dir, err)
		}
		if err := errors.Join(lock.Unlock(), os.RemoveAll(s.dir)); err != nil {
			return fmt.Errorf("clear output folder: %w", err)
		}
	}
	if err := os.MkdirAll(s.path("logs"), 0o700); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, mark), nil, 0o600); err != nil {
		return fmt.Errorf("mark output folder: %w", err)
	}
	s.binary, err = os.Executable()
	return err
}

func (s *localSwarm) path(name string) string { return filepath.Join(s.dir, name) }

// model is the folder that the coordinator leaves the trained model in.
func (s *localSwarm) model() string { return s.path("model") }

// start runs the coordinators and, once the first can be reached, the workers.
func (s *localSwarm) start(ctx context.Context, coordinators, workers int) error {
	for i := range coordinators {
		seat := &localSeat{name: "coordinator", folder: s.path("coordinator"), listen: s.listen}
		if i > 0 {
			seat.name = fmt.Sprintf("coordinator%d", i+1)
			seat.folder, seat.listen = folder.Folder{Dir: s.path("coordinator")}.Seat(i+1).Dir, status.Loopback
		}
		var err error
		if seat.port, err = freePort(); err != nil {
			return err
		}
		if host, port, _ := net.SplitHostPort(seat.listen); port == "0" { // listen was checked
			page, err := freePort()
			if err != nil {
				return err
			}
			seat.listen = net.JoinHostPort(host, strconv.Itoa(page))
		}
		s.seats = append(s.seats, seat)
		if err := s.startCoordinator(ctx, seat); err != nil {
			return err
		}
	}
	s.coordinator, s.page = s.seats[0], s.seats[0].page
	for i := range workers {
		var env []string
		if i == workers-1 && s.fault != "" {
			env = []string{"DUNLIN_FAULT=" + s.fault}
		}
		if err := s.startWorker(env...); err != nil {
			return err
		}
	}
	return nil
}

// startCoordinator runs a coordinator, for the first time or again, and waits for its addresses.
func (s *localSwarm) startCoordinator(ctx context.Context, seat *localSeat) error {
	args := []string{
		"coordinator", "--json", "--loopback", "--control-stdin", "--data-dir", seat.folder, "--port", strconv.Itoa(seat.port), "--listen", seat.listen,
	}
	if seat == s.seats[0] {
		args = append(args, "--out", s.model())
		args = append(args, s.flags...)
	}
	p, err := startProcess(seat.name, s.binary, s.path("logs/"+seat.name+".log"), nil, s.common(args)...)
	if err != nil {
		return err
	}
	seat.process, seat.killed = p, false
	limit := time.NewTimer(startWithin)
	defer limit.Stop()
	var addresses struct{ Invite, Page string }
	select {
	case line := <-p.first.line:
		if err := json.Unmarshal([]byte(line), &addresses); err != nil {
			return fmt.Errorf("coordinator's first line %q: %w", shorten(line), err)
		}
	case <-p.ended:
		return p.failed()
	case <-limit.C:
		return fmt.Errorf("the %s was not ready within %s; its log is %s", seat.name, startWithin, p.log)
	case <-ctx.Done():
		return ctx.Err()
	}
	seat.page = addresses.Page
	if s.invite == "" {
		s.invite = addresses.Invite
	}
	return nil
}

func (s *localSwarm) common(flags []string) []string {
	if s.verbose {
		return append(flags[:len(flags):len(flags)], "--verbose")
	}
	return flags
}

// startWorker runs one more worker, with a fresh folder.
func (s *localSwarm) startWorker(env ...string) error {
	w := &localWorker{folder: s.path(fmt.Sprintf("w%d", len(s.workers)+1))}
	if err := os.MkdirAll(w.folder, 0o700); err != nil {
		return fmt.Errorf("make worker's folder: %w", err)
	}
	key, err := swarm.LoadOrCreateKey(folder.Folder{Dir: w.folder}.Identity())
	if err != nil {
		return err
	}
	w.id = wire.PeerIDOf(key).String()
	s.workers = append(s.workers, w)
	return s.run(w, env...)
}

// run starts a worker's process, for the first time or again.
func (s *localSwarm) run(w *localWorker, env ...string) error {
	name := filepath.Base(w.folder)
	args := []string{
		"join", s.invite, "--name", name, "--loopback", "--pause-on-battery=false", "--control-stdin", "--data-dir", w.folder, "--listen", status.Loopback,
		"--threads", strconv.Itoa(s.threads), "--device", s.device,
	}
	if s.up > 0 {
		args = append(args, "--up", formatRate(s.up))
	}
	if s.down > 0 {
		args = append(args, "--down", formatRate(s.down))
	}
	p, err := startProcess(name, s.binary, s.path("logs/"+name+".log"), env, s.common(args)...)
	w.process, w.killed = p, false
	w.tally.restart()
	return err
}

// look fetches the snapshot of the coordinator that leads and counts what workers report in it.
func (s *localSwarm) look(ctx context.Context) (*status.Snapshot, error) {
	shot, err := s.ofLeader(ctx)
	if err != nil {
		return nil, err
	}
	if shot.Invite != "" {
		s.invite = shot.Invite // it may name more coordinators by now
	}
	for i := range shot.Peers {
		if w := s.worker(shot.Peers[i].ID); w != nil {
			w.tally.heard(&shot.Peers[i])
		}
	}
	return shot, nil
}

// ofLeader asks the coordinator that led when last seen, and the others when it does not answer or says that it leads no more.
func (s *localSwarm) ofLeader(ctx context.Context) (*status.Snapshot, error) {
	shot, _, err := askPage(ctx, s.page)
	if len(s.seats) == 1 || err == nil && leadsItself(shot) {
		return shot, err
	}
	for _, seat := range s.seats {
		if seat.killed || seat == s.coordinator {
			continue
		}
		if other, _, err := askPage(ctx, seat.page); err == nil && leadsItself(other) && (shot == nil || other.Run.Term >= shot.Run.Term) {
			s.coordinator, s.page = seat, seat.page
			return other, nil
		}
	}
	return nil, errNoLeader
}

var errNoLeader = errors.New("no coordinator leads now")

// leadsItself reports whether a snapshot is from the coordinator that leads.
func leadsItself(shot *status.Snapshot) bool {
	return slices.ContainsFunc(shot.Run.Coordinators, func(c status.Coordinator) bool { return c.You && c.Leads })
}

// order gives an order to the coordinators; of several, whoever leads takes it.
func (s *localSwarm) order(line string) error {
	for _, seat := range s.seats {
		if err := seat.order(line); err != nil && !seat.killed {
			return err
		}
	}
	return nil
}

// worker returns the worker with a peer id, or nil.
func (s *localSwarm) worker(id string) *localWorker {
	for _, w := range s.workers {
		if w.id == id {
			return w
		}
	}
	return nil
}

// check reports a process that ended although nobody asked it to.
func (s *localSwarm) check() error {
	for _, seat := range s.seats {
		if !seat.killed && !seat.running() {
			return seat.failed()
		}
	}
	for _, w := range s.workers {
		if !w.killed && !w.running() && w.err != nil {
			return w.failed()
		}
	}
	return nil
}

// awaitWorkers waits until every worker that was not killed has left; those that do not are killed and named.
func (s *localSwarm) awaitWorkers() error {
	limit := time.After(leaveWithin)
	var errs []error
	for _, w := range s.workers {
		if !w.killed {
			errs = append(errs, w.await(limit))
		}
	}
	return errors.Join(errs...)
}

// stop has every process leave in order, workers first, and ends those that do not.
func (s *localSwarm) stop() {
	limit := time.After(leaveWithin)
	for _, w := range s.workers {
		if w.process != nil {
			w.release()
		}
	}
	for _, w := range s.workers {
		if w.process != nil {
			_ = w.await(limit) // how it ended no longer matters
		}
	}
	for _, seat := range s.seats {
		if seat.process != nil {
			seat.release()
		}
	}
	for _, seat := range s.seats {
		if seat.process != nil {
			_ = seat.await(limit) // as above
		}
	}
}

// Ports for servers that must keep theirs while they are away: below those that systems give to outgoing connections.
const (
	lowPort  = 20000
	highPort = 32000
)

// freePort returns a port of loopback that is free for TCP and UDP now, as is the one above it, which is for bulk.
func freePort() (int, error) {
	var last error
	for range 50 {
		port := lowPort + rand.IntN(highPort-lowPort)
		if last = errors.Join(tryPort("127.0.0.1", port), tryPort("127.0.0.1", port+1)); last == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %w", last)
}

// tryPort takes a port of a host, or of all of this machine's addresses, for a moment.
func tryPort(host string, port int) error {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	return errors.Join(udp.Close(), tcp.Close())
}

// counters are figures of a worker that only grow while its process, or its slot, lives.
type counters struct {
	tokens, steps             uint64 // of a slot
	outer, round, contributed uint64 // of a process
	sent, received            uint64
}

// tally sums a worker's counters over its slots and processes, as heartbeats tell them.
type tally struct {
	last  status.Peer                    // the newest heartbeat
	base  counters                       // of earlier slots and processes
	first struct{ tokens, clock uint64 } // of the present slot, once it trains
	least uint64                         // slot of the present process: a rejoin gets one above any before
}

// restart says that a new process follows: what was heard so far is not its.
func (t *tally) restart() {
	if t.last.Clock > 0 {
		t.least = t.last.Slot + 1
	}
}

// present reports whether the present process was heard.
func (t *tally) present() bool { return t.last.Clock > 0 && t.last.Slot >= t.least }

// heard takes in a worker's newest figures.
func (t *tally) heard(p *status.Peer) {
	if p.Clock == 0 {
		t.last.Alive, t.last.Reason, t.last.State = p.Alive, p.Reason, p.State
		return // admitted, and nothing heard yet
	}
	restarted := p.Clock < t.last.Clock
	if restarted {
		t.base.outer += t.last.OuterSteps
		t.base.round += t.last.RoundBytes
		t.base.contributed += t.last.ContributionBytes
		t.base.sent += t.last.Sent
		t.base.received += t.last.Received
	}
	if restarted || p.Slot != t.last.Slot {
		t.base.tokens += t.last.Tokens
		t.base.steps += t.last.Step
		t.first.tokens, t.first.clock = 0, 0
	}
	if t.first.clock == 0 && p.Tokens > 0 {
		t.first.tokens, t.first.clock = p.Tokens, p.Clock
	}
	t.last = *p
}

// total returns the sums.
func (t *tally) total() counters {
	return counters{
		tokens: t.base.tokens + t.last.Tokens, steps: t.base.steps + t.last.Step, outer: t.base.outer + t.last.OuterSteps,
		round: t.base.round + t.last.RoundBytes, contributed: t.base.contributed + t.last.ContributionBytes,
		sent: t.base.sent + t.last.Sent, received: t.base.received + t.last.Received,
	}
}

// tokensPerSecond is the rate of the present slot, from its first heartbeat with tokens to its newest.
func (t *tally) tokensPerSecond() float64 {
	if t.first.clock == 0 || t.last.Clock <= t.first.clock {
		return 0
	}
	return float64(t.last.Tokens-t.first.tokens) / (float64(t.last.Clock-t.first.clock) / 1000)
}
