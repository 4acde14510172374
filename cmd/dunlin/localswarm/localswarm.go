package localswarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"dunlin/folder"
	"dunlin/machine"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/wire"
)

// Swarm is a run on this machine alone: a coordinator and workers, each a process of this same binary with a data
// folder of its own, on loopback.
type Swarm struct {
	Dir     string   // everything is below it
	Flags   []string // of the coordinator, that make the run
	Threads int      // of a worker
	Device  string   // of a worker, as --device names it
	Up      string   // what a worker sends at most, as --up takes it; "" is no limit
	Down    string   // and receives
	Verbose bool
	Fault   string // given to the newest worker of the start, for a test

	binary      string
	Listen      string // the first coordinator's page
	Invite      string
	Page        string // of the coordinator that leads, as far as is known
	Coordinator *Seat
	seats       []*Seat   // all coordinators, one unless the run has several
	Workers     []*Worker // in the order of their start
}

// Seat is one coordinator of a Swarm: its folder, its addresses, which stay so that it can come back, and its
// present process.
type Seat struct {
	*process
	name   string
	folder string
	port   int
	listen string // its page's address
	page   string
	killed bool // on purpose
}

// Worker is one worker of a Swarm: an identity, its folder and its present process.
type Worker struct {
	*process
	ID     string // peer id
	folder string
	Killed bool // on purpose
	Tally  Tally
}

// mark is the file that shows that a folder belongs to a local swarm and may be made anew.
const mark = ".dunlin-local-swarm"

// Bounds of what a local swarm waits for.
const (
	startWithin = time.Minute // the coordinator, which reads and packs the text
	leaveWithin = 20 * time.Second
)

// Prepare makes the folder, anew when it holds an earlier local swarm.
func (s *Swarm) Prepare() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output folder: %w", err)
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(s.Dir, mark)); err != nil {
			return fmt.Errorf("output folder %s holds other files: choose an empty or a new one with --out", s.Dir)
		}
		lock, err := swarm.LockFolder(s.Path("coordinator"))
		if err != nil {
			return fmt.Errorf("output folder %s: another one runs in it: %w", s.Dir, err)
		}
		if err := errors.Join(lock.Unlock(), os.RemoveAll(s.Dir)); err != nil {
			return fmt.Errorf("clear output folder: %w", err)
		}
	}
	if err := os.MkdirAll(s.Path("logs"), 0o700); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, mark), nil, 0o600); err != nil {
		return fmt.Errorf("mark output folder: %w", err)
	}
	s.binary, err = os.Executable()
	return err
}

// Path is a file or folder of the swarm's.
func (s *Swarm) Path(name string) string { return filepath.Join(s.Dir, name) }

// Model is the folder that the coordinator leaves the trained model in.
func (s *Swarm) Model() string { return s.Path("model") }

// Start runs the coordinators and, once the first can be reached, the workers.
func (s *Swarm) Start(ctx context.Context, coordinators, workers int) error {
	for i := range coordinators {
		seat := &Seat{name: "coordinator", folder: s.Path("coordinator"), listen: s.Listen}
		if i > 0 {
			seat.name = fmt.Sprintf("coordinator%d", i+1)
			seat.folder, seat.listen = folder.Folder{Dir: s.Path("coordinator")}.Seat(i+1).Dir, status.Loopback
		}
		s.seats = append(s.seats, seat)
		if err := s.openSeat(ctx, seat, machine.FreePorts); err != nil {
			return err
		}
	}
	s.Coordinator, s.Page = s.seats[0], s.seats[0].page
	for i := range workers {
		var env []string
		if i == workers-1 && s.Fault != "" {
			env = []string{"DUNLIN_FAULT=" + s.Fault}
		}
		if err := s.startWorker(env...); err != nil {
			return err
		}
	}
	return nil
}

// openSeat runs a coordinator for the first time, on ports that it keeps while it is away. A port that was free when it was
// drawn may be another program's by the time the coordinator listens: then it starts once more, on others.
func (s *Swarm) openSeat(ctx context.Context, seat *Seat, draw func() int) error {
	host, page, _ := net.SplitHostPort(seat.listen) // listen was checked
	var err error
	for range 3 {
		seat.port = draw()
		port := seat.port
		for page == "0" && port != 0 && max(port, seat.port)-min(port, seat.port) < 2 { // the one above a coordinator's is for bulk
			port = draw()
		}
		if port == 0 {
			return errors.New("find a free port: none of 100 was, nor were those beside them")
		}
		if page == "0" {
			seat.listen = net.JoinHostPort(host, strconv.Itoa(port))
		}
		err = s.startCoordinator(ctx, seat)
		lost := seat.process != nil && !seat.Running() && (!machine.TryPorts(seat.port) || page == "0" && machine.TryPort(host, port) != nil)
		if err == nil || !lost {
			return err
		}
	}
	return err
}

// startCoordinator runs a coordinator, for the first time or again, and waits for its addresses.
func (s *Swarm) startCoordinator(ctx context.Context, seat *Seat) error {
	args := []string{
		"coordinator", "--json", "--loopback", "--control-stdin", "--data-dir", seat.folder, "--port", strconv.Itoa(seat.port), "--listen", seat.listen,
	}
	if seat == s.seats[0] {
		args = append(args, "--out", s.Model())
		args = append(args, s.Flags...)
	}
	p, err := startProcess(seat.name, s.binary, s.Path("logs/"+seat.name+".log"), nil, s.common(args)...)
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
			return fmt.Errorf("coordinator's first line %.80q: %w", line, err)
		}
	case <-p.ended:
		return p.failed()
	case <-limit.C:
		return fmt.Errorf("the %s was not ready within %s; its log is %s", seat.name, startWithin, p.log)
	case <-ctx.Done():
		return ctx.Err()
	}
	seat.page = addresses.Page
	if s.Invite == "" {
		s.Invite = addresses.Invite
	}
	return nil
}

func (s *Swarm) common(flags []string) []string {
	if s.Verbose {
		return append(flags[:len(flags):len(flags)], "--verbose")
	}
	return flags
}

// startWorker runs one more worker, with a fresh folder.
func (s *Swarm) startWorker(env ...string) error {
	w := &Worker{folder: s.Path(fmt.Sprintf("w%d", len(s.Workers)+1))}
	if err := os.MkdirAll(w.folder, 0o700); err != nil {
		return fmt.Errorf("make worker's folder: %w", err)
	}
	key, err := swarm.LoadOrCreateKey(folder.Folder{Dir: w.folder}.Identity())
	if err != nil {
		return err
	}
	w.ID = wire.PeerIDOf(key).String()
	s.Workers = append(s.Workers, w)
	return s.run(w, env...)
}

// run starts a worker's process, for the first time or again.
func (s *Swarm) run(w *Worker, env ...string) error {
	name := filepath.Base(w.folder)
	args := []string{
		"join", s.Invite, "--name", name, "--loopback", "--pause-on-battery=false", "--control-stdin", "--data-dir", w.folder, "--listen", status.Loopback,
		"--threads", strconv.Itoa(s.Threads), "--device", s.Device,
	}
	if s.Up != "" {
		args = append(args, "--up", s.Up)
	}
	if s.Down != "" {
		args = append(args, "--down", s.Down)
	}
	p, err := startProcess(name, s.binary, s.Path("logs/"+name+".log"), env, s.common(args)...)
	w.process, w.Killed = p, false
	w.Tally.Restart()
	return err
}

// Look fetches the snapshot of the coordinator that leads and counts what workers report in it.
func (s *Swarm) Look(ctx context.Context) (*status.Snapshot, error) {
	shot, err := s.ofLeader(ctx)
	if err != nil {
		return nil, err
	}
	if shot.Invite != "" {
		s.Invite = shot.Invite // it may name more coordinators by now
	}
	for i := range shot.Peers {
		if w := s.worker(shot.Peers[i].ID); w != nil {
			w.Tally.Heard(&shot.Peers[i])
		}
	}
	return shot, nil
}

// ofLeader asks the coordinator that led when last seen, and the others when it does not answer or says that it leads no more.
func (s *Swarm) ofLeader(ctx context.Context) (*status.Snapshot, error) {
	shot, _, err := status.Ask(ctx, s.Page)
	if len(s.seats) == 1 || err == nil && leadsItself(shot) {
		return shot, err
	}
	for _, seat := range s.seats {
		if seat.killed || seat == s.Coordinator {
			continue
		}
		if other, _, err := status.Ask(ctx, seat.page); err == nil && leadsItself(other) && (shot == nil || other.Run.Term >= shot.Run.Term) {
			s.Coordinator, s.Page = seat, seat.page
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

// Settled reports whether the workers that left, and were heard, were heard to the end: they stand at one height and tell their
// states.
func (s *Swarm) Settled() bool {
	height := uint64(0)
	for _, w := range s.Workers {
		if last := &w.Tally.Last; !w.Killed && w.Tally.Present() {
			if last.StateHash.IsZero() || height != 0 && height != last.Height {
				return false
			}
			height = last.Height
		}
	}
	return true
}

// Order gives an order to the coordinators; of several, whoever leads takes it.
func (s *Swarm) Order(line string) error {
	for _, seat := range s.seats {
		if err := seat.order(line); err != nil && !seat.killed {
			return err
		}
	}
	return nil
}

// worker returns the worker with a peer id, or nil.
func (s *Swarm) worker(id string) *Worker {
	for _, w := range s.Workers {
		if w.ID == id {
			return w
		}
	}
	return nil
}

// Check reports a process that ended although nobody asked it to.
func (s *Swarm) Check() error {
	for _, seat := range s.seats {
		if !seat.killed && !seat.Running() {
			return seat.failed()
		}
	}
	for _, w := range s.Workers {
		if !w.Killed && !w.Running() && w.Err != nil {
			return w.failed()
		}
	}
	return nil
}

// AwaitTraining waits until so many workers train.
func (s *Swarm) AwaitTraining(ctx context.Context, workers int, within time.Duration) (*status.Snapshot, error) {
	var shot *status.Snapshot
	err := s.Watch(ctx, within, func(now *status.Snapshot) bool {
		shot = now
		return now.Health.Training >= workers
	})
	return shot, err
}

// Watch looks until a snapshot is as wanted, or time is up, which is an error.
func (s *Swarm) Watch(ctx context.Context, within time.Duration, wanted func(*status.Snapshot) bool) error {
	limit := time.After(within)
	pace := time.NewTicker(200 * time.Millisecond)
	defer pace.Stop()
	for {
		if err := s.Check(); err != nil {
			return err
		}
		if shot, err := s.Look(ctx); err == nil && wanted(shot) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("watch the swarm: %w", ctx.Err())
		case <-limit:
			return fmt.Errorf("the swarm did not get on within %s; its logs are in %s", within, s.Path("logs"))
		case <-pace.C:
		}
	}
}

// AwaitWorkers waits until every worker that was not killed has left; those that do not are killed and named.
func (s *Swarm) AwaitWorkers() error {
	limit := time.After(leaveWithin)
	var errs []error
	for _, w := range s.Workers {
		if !w.Killed {
			errs = append(errs, w.await(limit))
		}
	}
	return errors.Join(errs...)
}

// Stop has every process leave in order, workers first, and ends those that do not.
func (s *Swarm) Stop() {
	limit := time.After(leaveWithin)
	for _, w := range s.Workers {
		if w.process != nil {
			w.release()
		}
	}
	for _, w := range s.Workers {
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
