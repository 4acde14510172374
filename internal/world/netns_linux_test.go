package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dunlin/internal/world/link"
	"dunlin/status"
)

// Tests of this file run the real binary, each process in a network namespace of its own behind a slow and lossy link.
// They take minutes: `make netns-test` runs them, other test runs skip them.

// town is a run whose peers live on different machines, as far as the kernel can tell.
type town struct {
	t       *testing.T
	net     *link.Network
	binary  string
	dir     string
	lead    *resident
	start   func(*exec.Cmd) error // the coordinator
	workers []*resident
	flags   []string // of workers
	invite  string
	page    string
	client  http.Client // dials from inside the coordinator's host
	began   time.Time
}

// resident is one machine of a town and the process on it.
type resident struct {
	*process
	host *link.Host
	dir  string
}

// homeLink is the link of a volunteer: 5 Mbit/s up and 20 down, 50 ms from another, a packet in a thousand lost.
func homeLink() link.Path {
	return link.Path{Up: 5e6, Down: 20e6, Delay: 12500 * time.Microsecond, Loss: 0.0005, Reorder: 0.001}
}

// newTown starts a coordinator and workers behind links.
func newTown(t *testing.T, workers int, path link.Path, flags ...string) *town {
	t.Helper()
	if os.Getenv("NETNS") == "" {
		t.Skip("make netns-test runs this test")
	}
	return newTownBy(t, workers, path, func(lead *link.Host) func(*exec.Cmd) error { return lead.Start }, nil, flags...)
}

// newTownBy is newTown with another way to start the coordinator in its host, and more flags of workers.
func newTownBy(t *testing.T, workers int, path link.Path, start func(lead *link.Host) func(*exec.Cmd) error, join []string, flags ...string) *town {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed of the links %d", seed)
	network, err := link.New(seed)
	if errors.Is(err, link.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, net: network, binary: binary(t, ""), dir: t.TempDir(), flags: join, began: time.Now()}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	w.lead = w.resident("coordinator", path)
	w.start = start(w.lead.host)
	w.client.Transport = &http.Transport{DialContext: w.lead.host.Dial}
	t.Cleanup(w.client.CloseIdleConnections)
	flags = append([]string{"--data", corpusFile(t), "--tokens", "1000000000", "--eval-windows", "8"}, flags...)
	w.coordinate(flags...)
	for i := range workers {
		r := w.resident(fmt.Sprint("w", i+1), path)
		w.workers = append(w.workers, r)
		w.join(r)
	}
	return w
}

func (w *town) resident(name string, path link.Path) *resident {
	w.t.Helper()
	host, err := w.net.Host(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return &resident{host: host, dir: filepath.Join(w.dir, name)}
}

// coordinate starts the coordinator, for the first time or again.
func (w *town) coordinate(flags ...string) {
	w.t.Helper()
	args := append([]string{"coordinator", "--json", "--mdns=false", "--port", "7300", "--listen", "127.0.0.1:7310", "--data-dir", w.lead.dir}, logging()...)
	w.lead.process = beginBy(w.t, w.start, w.binary, append(args, flags...)...)
	if !w.lead.lines.Scan() {
		w.t.Fatal("the coordinator ends, having said nothing")
	}
	w.invite, w.page = w.lead.where(w.t)
}

// join starts a worker, for the first time or again.
func (w *town) join(r *resident) {
	w.t.Helper()
	args := []string{
		"join", w.invite, "--mdns=false", "--pause-on-battery=false", "--name", filepath.Base(r.dir), "--threads", "1",
		"--listen", "127.0.0.1:7310", "--data-dir", r.dir,
	}
	r.process = beginBy(w.t, r.host.Start, w.binary, slices.Concat(args, logging(), w.flags)...)
}

// logging has processes log every decision where ONLY picks deaths to look into.
func logging() []string {
	if os.Getenv("ONLY") == "" {
		return nil
	}
	return []string{"--verbose"}
}

// look fetches the coordinator's snapshot, or returns nil while it cannot be had.
func (w *town) look() *status.Snapshot { return w.lookAt(&w.client, w.page, 2*time.Second) }

// lookAt fetches the snapshot of a page.
func (w *town) lookAt(client *http.Client, page string, within time.Duration) *status.Snapshot {
	ctx, cancel := context.WithTimeout(w.t.Context(), within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"api/v1/snapshot", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	shot := new(status.Snapshot)
	if json.NewDecoder(response.Body).Decode(shot) != nil {
		return nil
	}
	return shot
}

// until looks again and again, every 20 ms, until a snapshot is as wanted, and returns it.
func (w *town) until(what string, within time.Duration, wanted func(*status.Snapshot) bool) *status.Snapshot {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last *status.Snapshot
	for limit := time.After(within); ; {
		select {
		case <-limit:
			w.t.Fatalf("%s: not within %s; the last snapshot %s", what, within, describe(last))
		case <-tick.C:
		}
		shot := w.lookAt(&w.client, w.page, 500*time.Millisecond) // a look that hangs is no part of what is measured
		if shot == nil {
			continue
		}
		if last = shot; wanted(shot) {
			return shot
		}
	}
}

func describe(s *status.Snapshot) string {
	if s == nil {
		return "was never had"
	}
	var peers []string
	for _, p := range s.Peers {
		peers = append(peers, fmt.Sprintf("%s slot %d alive %v %s %s", p.Name, p.Slot, p.Alive, p.State, p.Reason))
	}
	return fmt.Sprintf("has versions %v, %d commits, %d training; peers: %s; rounds %+v", s.Run.Versions, s.Health.Commits, s.Health.Training, strings.Join(peers, ", "), s.Rounds)
}

// settle waits until all workers train and each fragment has had some commits since, and returns the fragments'
// intervals between commits.
func (w *town) settle() []time.Duration {
	w.t.Helper()
	const rounds = 3
	start := w.until("all workers train", 3*time.Minute, func(s *status.Snapshot) bool { return s.Health.Training == len(w.workers) && len(s.Run.Versions) > 0 })
	intervals := make([]time.Duration, len(start.Run.Versions))
	first, began := slices.Clone(start.Run.Versions), make([]time.Time, len(start.Run.Versions))
	w.until("commits go on", 3*time.Minute, func(s *status.Snapshot) bool {
		done := true
		for f, v := range s.Run.Versions {
			switch {
			case intervals[f] > 0:
			case began[f].IsZero():
				if done = false; v > first[f] {
					began[f], first[f] = s.At, v
				}
			case v >= first[f]+rounds:
				intervals[f] = s.At.Sub(began[f]) / time.Duration(v-first[f])
			default:
				done = false
			}
		}
		return done
	})
	return intervals
}

// leave has everybody drain on a signal and checks what they leave behind.
func (w *town) leave() {
	w.t.Helper()
	for _, r := range w.workers {
		if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, r := range w.workers {
		r.ends(w.t, filepath.Base(r.dir))
	}
	last := w.until("all have left", time.Minute, func(s *status.Snapshot) bool { return s.Health.Training == 0 })
	if err := w.lead.cmd.Process.Signal(os.Interrupt); err != nil {
		w.t.Fatal(err)
	}
	w.lead.ends(w.t, "the coordinator")
	if agree := last.Health.StatesAgree; agree != nil && !*agree || last.Health.Diverged > 0 {
		w.t.Errorf("states disagree, or %d diverged", last.Health.Diverged)
	}
	for _, r := range append([]*resident{w.lead}, w.workers...) {
		if o := command(w.t, time.Minute, w.binary, nil, "ledger", "verify", r.dir); o.code != 0 {
			w.t.Errorf("ledger of %s: %s", filepath.Base(r.dir), o.stderr)
		}
	}
}

// TestNetnsSwarmInTrouble has a swarm on slow links live through a killed worker, a frozen one, one that is cut off, one
// that is heard but does not hear, and a killed coordinator.
func TestNetnsSwarmInTrouble(t *testing.T) {
	w := newTown(t, 4, homeLink(), "--preset", "pico", "--h", "200")
	w.settle()
	more := func(what string, n uint64) {
		t.Helper()
		from := uint64(0)
		if s := w.look(); s != nil {
			from = s.Health.Commits
		}
		w.until(what, 2*time.Minute, func(s *status.Snapshot) bool { return s.Health.Commits >= from+n })
	}
	a, b, c, d := w.workers[0], w.workers[1], w.workers[2], w.workers[3]
	w.kill(a)
	more("commits without a killed worker", 6)
	w.join(a)
	w.freeze(b)
	more("commits without a frozen worker", 6)
	w.thaw(b)
	w.net.Isolate(c.host, true)
	more("commits without a worker that is cut off", 6)
	w.net.Isolate(c.host, false)
	w.net.Cut(w.lead.host, d.host)
	more("commits without a worker that hears nothing", 6)
	w.net.Heal(w.lead.host, d.host)
	w.kill(w.lead)
	w.coordinate()
	w.until("all train again", 2*time.Minute, func(s *status.Snapshot) bool { return s.Health.Training == 4 })
	more("commits with everyone back", 6)
	w.leave()
}

func (w *town) kill(r *resident) {
	w.t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	_ = r.cmd.Wait() // it was killed
}

func (w *town) freeze(r *resident) { w.signal(r, syscall.SIGSTOP) }
func (w *town) thaw(r *resident)   { w.signal(r, syscall.SIGCONT) }

func (w *town) signal(r *resident, s syscall.Signal) {
	w.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		w.t.Fatal(err)
	}
}

// TestNetnsDeaths measures how long a fragment waits for its next commit when a worker, which owns slabs, or the
// coordinator is killed, frozen or silently cut off in each phase of a round: at most 1.5 times its interval, and 2 s when
// the kernel tells of the death, 5 s when nobody does. Nothing is committed without the coordinator, so its time counts
// from its return. REPEAT is how often each is tried; with ONLY, a regular expression, those whose names match, and all
// peers log every decision.
func TestNetnsDeaths(t *testing.T) {
	repeat, _ := strconv.Atoi(os.Getenv("REPEAT"))
	only, err := regexp.Compile(os.Getenv("ONLY"))
	if err != nil {
		t.Fatalf("ONLY: %v", err)
	}
	w := newTown(t, 4, homeLink(), "--preset", "pico", "--h", "400")
	ways := []struct {
		name  string
		grace time.Duration
		harm  func(*resident)
		mend  func(*resident)
	}{
		{"SIGKILL", 2 * time.Second, w.kill, w.restart},
		{"SIGSTOP", 5 * time.Second, w.freeze, w.thaw},
		{"cut", 5 * time.Second, func(r *resident) { w.net.Isolate(r.host, true) }, func(r *resident) { w.net.Isolate(r.host, false) }},
	}
	worst, rng := map[string]time.Duration{}, rand.New(rand.NewPCG(1, 2))
	for range max(1, repeat) {
		for _, phase := range []string{"collecting", "summing", "spreading"} {
			for _, way := range ways {
				for _, who := range []string{"a worker", "the coordinator"} {
					key := fmt.Sprintf("%s of %s while %s", way.name, who, phase)
					if !only.MatchString(key) {
						continue
					}
					intervals := w.settle()
					shot := w.until(phase, time.Minute, func(s *status.Snapshot) bool { return inPhase(s, phase) != nil })
					f := inPhase(shot, phase).Fragment
					victim := w.lead
					if who == "a worker" {
						victim = w.workers[rng.IntN(len(w.workers))]
					}
					way.harm(victim)
					began, version := time.Now(), shot.Run.Versions[f]
					if victim == w.lead {
						<-time.After(absence) // real processes: there is no other clock
						way.mend(victim)
						began = time.Now()
					}
					after := w.until("the next commit after "+key, 2*time.Minute, func(s *status.Snapshot) bool { return f < len(s.Run.Versions) && s.Run.Versions[f] > version })
					took, bound := time.Since(began), intervals[f]*3/2+way.grace
					worst[key] = max(worst[key], took)
					t.Logf("%s at %s: commit of fragment %d after %.1f s, at most %.1f s (interval %.1f s)%s", key, began.UTC().Format("15:04:05.000"), f, took.Seconds(), bound.Seconds(), intervals[f].Seconds(), course(after, f, version))
					if took > bound {
						t.Errorf("%s: commit of fragment %d after %v, at most %v", key, f, took, bound)
					}
					if victim != w.lead {
						way.mend(victim)
					}
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(worst)) {
		t.Logf("worst of %s: %.1f s", key, worst[key].Seconds())
	}
	w.until("all train again", 2*time.Minute, func(s *status.Snapshot) bool { return s.Health.Training == len(w.workers) })
	w.leave()
}

// course says when each attempt at a fragment's version was where, in seconds before its commit, and why those failed that did.
func course(s *status.Snapshot, fragment int, version uint64) string {
	var b strings.Builder
	var end float64
	for _, r := range s.Rounds {
		if r.Fragment == fragment && r.Base == version && r.Closed != nil {
			end = *r.Closed
		}
	}
	for _, r := range s.Rounds {
		if r.Fragment != fragment || r.Base != version {
			continue
		}
		fmt.Fprintf(&b, "; attempt %s of %d", r.Attempt, r.Members)
		for _, at := range []struct {
			what string
			when *float64
		}{{"ready", r.Ready}, {"opened", r.Opened}, {"summed", r.Summed}, {"held", r.Held}, {"over", r.Closed}} {
			if at.when != nil {
				fmt.Fprintf(&b, ", %s at %.2f", at.what, *at.when-end)
			}
		}
		if r.Failed != "" {
			fmt.Fprintf(&b, ", failed: %s", r.Failed)
		}
	}
	return b.String()
}

// absence is how long a coordinator is away: long enough for all to notice.
const absence = 6 * time.Second

func (w *town) restart(r *resident) {
	if r == w.lead {
		w.coordinate()
		return
	}
	w.join(r)
}

// inPhase returns a round that is in a phase, or nil.
func inPhase(s *status.Snapshot, phase string) *status.Round {
	for i := range s.Rounds {
		if r := &s.Rounds[i]; r.Phase == phase && r.Closed == nil {
			return r
		}
	}
	return nil
}
