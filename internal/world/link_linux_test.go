package world

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"dunlin/internal/world/link"
	"dunlin/plan"
	"dunlin/status"
)

// TestLinkEfficiency is `make bench-link`: four workers behind links that carry little more than their rounds need. It
// first lets them train on fast links and counts what a worker sends, then gives each 1.25 times that upwards and four
// times as much down, or UP and DOWN Mbit/s, 50 ms from another and a packet in a thousand lost, and compares windows with
// rounds to windows without, and that to what `dunlin plan` foretells. PRESET, RECIPE, BATCH (windows in a worker's step),
// WINDOWS and WINDOW (seconds) change what it measures. All of it shares this machine's processors, so that it also prints who
// takes how much of them, and what workers make of their own.
func TestLinkEfficiency(t *testing.T) {
	if os.Getenv("BENCH_LINK") == "" {
		t.Skip("make bench-link runs this measurement")
	}
	preset, windows, length := setting("PRESET", "small"), count("WINDOWS", 8), time.Duration(count("WINDOW", 50))*time.Second
	far := link.Path{Up: 100e6, Down: 100e6, Delay: 12500 * time.Microsecond, Loss: 0.0005}
	var orders io.WriteCloser
	w := newTownBy(t, 4, far, func(lead *link.Host) func(*exec.Cmd) error {
		return func(cmd *exec.Cmd) (err error) {
			if orders, err = cmd.StdinPipe(); err != nil {
				return err
			}
			return lead.Start(cmd)
		}
	}, nil, "--control-stdin", "--preset", preset, "--h", "30", "--worker-batch", setting("BATCH", "4"), "--recipe", setting("RECIPE", "default"))
	intervals := w.settle()
	period := slices.Max(intervals)
	t.Logf("%s, %s recipe: an outer step takes %.1f s on fast links", preset, setting("RECIPE", "default"), period.Seconds())

	before, began := w.sent(), time.Now()
	w.rates(max(3*period, length))
	need := float64(w.sent()-before) * 8 / time.Since(began).Seconds() / float64(len(w.workers))
	thin := far
	thin.Up, thin.Down = 1.25*need, 5*need
	if up, down := count("UP", 0), count("DOWN", 0); up > 0 && down > 0 {
		thin.Up, thin.Down = 1e6*float64(up), 1e6*float64(down)
	}
	for _, r := range w.workers {
		r.host.SetPath(thin)
	}
	t.Logf("a worker sends %.0f kbit/s; from now on it has %.0f up and %.0f down", need/1e3, thin.Up/1e3, thin.Down/1e3)

	var on, off, slowOn, slowOff []float64
	var usedOn, usedOff usage
	start := w.look()
	for i := range windows {
		rounds := i%4 == 0 || i%4 == 3 // on off off on: a drift of the machine's speed cancels
		order := "solo on\n"
		if rounds {
			order = "solo off\n"
		}
		if _, err := io.WriteString(orders, order); err != nil {
			t.Fatal(err)
		}
		w.rates(3 * time.Second) // what was under way ends
		used := w.used()
		rate := w.rates(length)
		used = w.used().since(used)
		slow := w.slowSteps()
		t.Logf("window %d: rounds %v, %.0f tokens/s, one step in twenty takes %.2f s; processors: %v", i+1, rounds, rate, slow, used)
		used.tokens = rate * used.clock
		if rounds {
			on, slowOn, usedOn = append(on, rate), append(slowOn, slow), usedOn.and(used)
		} else {
			off, slowOff, usedOff = append(off, rate), append(slowOff, slow), usedOff.and(used)
		}
	}
	end := w.look()
	if start == nil || end == nil || end.Health.Commits == start.Health.Commits {
		t.Fatal("no round was committed on the thin links")
	}
	lasted := w.lasted(end.Run.Fragments)
	for _, list := range [][]float64{on, off, slowOn, slowOff} {
		slices.Sort(list)
	}
	t.Logf("p95 of step times with rounds %.3f of that without (bound: 1.10)", middleOf(slowOn)/middleOf(slowOff))
	measured := middleOf(on) / middleOf(off)
	t.Logf("efficiency %.3f: medians of %d windows, %.0f tokens/s with rounds, %.0f without; %d commits and %d failed attempts in that time; a worker is in inner steps %.1f %% of its time",
		measured, windows, middleOf(on), middleOf(off), end.Health.Commits-start.Health.Commits, end.Health.FailedAttempts-start.Health.FailedAttempts, 100*utilisation(end))

	t.Logf("processors with rounds: %v; without: %v; a second of the workers' own makes %.0f and %.0f tokens: their efficiency, were the others elsewhere, %.3f",
		usedOn, usedOff, usedOn.yield(), usedOff.yield(), usedOn.yield()/usedOff.yield())
	cores := min(1, float64(runtime.NumCPU())/float64(len(w.workers))) // a worker has one thread
	forecast := w.plans(preset, fmt.Sprintf("%d x %.0f up %.0fkbit down %.0fkbit latency %d cores %.2f", len(w.workers), middleOf(off)/float64(len(w.workers)),
		thin.Up/1e3, thin.Down/1e3, (4*far.Delay).Milliseconds(), cores))
	apart := forecast.Efficiency/measured - 1
	t.Logf("dunlin plan foretells an efficiency of %.3f, %+.1f %% off what is measured; bound: 5 %% either way", forecast.Efficiency, 100*apart)
	t.Logf("would workers wait for their rounds, they were in steps %.3f of their time, by the %v steps that each fragment's newest round lasted; by the plan, with fp32: %.3f",
		float64(end.Run.H)/float64(end.Run.H+sum(lasted)), lasted, forecast.BlockingDiLoCo)
	if math.Abs(apart) > 0.05 {
		t.Error("the plan's forecast is further off than its bound")
	}
}

// usage is processor time in seconds, the clock's seconds that it is of, and what was trained with it.
type usage struct{ workers, coordinator, bench, clock, tokens float64 }

// used is what the town's processes have taken so far, and this one, which is their router and polls their pages.
func (w *town) used() usage {
	u := usage{
		coordinator: processTime(w.t, w.lead.cmd.Process.Pid).Seconds(), bench: processTime(w.t, os.Getpid()).Seconds(),
		clock: time.Since(w.began).Seconds(),
	}
	for _, r := range w.workers {
		u.workers += processTime(w.t, r.cmd.Process.Pid).Seconds()
	}
	return u
}

func (u usage) since(v usage) usage {
	return usage{u.workers - v.workers, u.coordinator - v.coordinator, u.bench - v.bench, u.clock - v.clock, u.tokens - v.tokens}
}

func (u usage) and(v usage) usage { return v.since(usage{}.since(u)) }

// yield is in tokens a second of the workers' processor time.
func (u usage) yield() float64 { return u.tokens / u.workers }

// String gives shares of one processor.
func (u usage) String() string {
	return fmt.Sprintf("workers %.1f %%, coordinator %.1f %%, router and bench %.1f %% of one", 100*u.workers/u.clock, 100*u.coordinator/u.clock, 100*u.bench/u.clock)
}

// lasted is how many steps the first worker made during the newest round of each fragment, from the snapshot of its weights
// to the merge.
func (w *town) lasted(fragments int) []int {
	steps := make([]int, fragments)
	client := &http.Client{Transport: &http.Transport{DialContext: w.workers[0].host.Dial}}
	defer client.CloseIdleConnections()
	if s := w.lookAt(client, "http://127.0.0.1:7310/", 2*time.Second); s != nil {
		for _, r := range s.Rounds {
			if r.Merged != nil && r.Fragment < fragments {
				steps[r.Fragment] = int(r.Overlap)
			}
		}
	}
	return steps
}

func sum(of []int) int {
	n := 0
	for _, x := range of {
		n += x
	}
	return n
}

// plans asks the program's planner about this run with such peers.
func (w *town) plans(preset, peers string) plan.Plan {
	w.t.Helper()
	out, err := exec.Command(w.binary, "plan", "--json", "--preset", preset, "--recipe", setting("RECIPE", "default"), "--h", "30", "--worker-batch", setting("BATCH", "4"), "--peers", peers).Output()
	if err != nil {
		w.t.Fatalf("plan for %s: %v", peers, err)
	}
	var p plan.Plan
	if err := json.Unmarshal(out, &p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// TestLinkJoin is the second half of `make bench-link`: newcomers join four workers on home links, one after the other.
// It prints how long each took to its first inner step, beside the bound of ten seconds and what its bytes take at nine
// tenths of its way down or of the donors' ways up, and what the donors trained meanwhile, beside what they train without
// one (bound: 3 % less). Workers train for a tenth of their time only, so that the newcomer's own work takes none of
// theirs. PRESET, JOINS and WINDOW (seconds) change what it measures.
func TestLinkJoin(t *testing.T) {
	if os.Getenv("BENCH_LINK") == "" {
		t.Skip("make bench-link runs this measurement")
	}
	if os.Getenv("JOINS") == "0" {
		t.Skip("no newcomers are asked for")
	}
	preset, joins, length := setting("PRESET", "small"), count("JOINS", 5), time.Duration(count("WINDOW", 20))*time.Second
	path := homeLink()
	path.Reorder = 0
	w := newTownBy(t, 4, path, func(lead *link.Host) func(*exec.Cmd) error { return lead.Start }, []string{"--duty", "0.1"},
		"--preset", preset, "--h", "10", "--worker-batch", "1", "--recipe", setting("RECIPE", "default"))
	w.settle()
	var with, without []float64
	for i := range joins {
		without = append(without, w.rates(length))
		newcomer := w.resident(fmt.Sprint("newcomer", i+1), path)
		began := time.Now()
		w.join(newcomer)
		var took time.Duration
		var bytes uint64
		stepped := make(chan struct{})
		go func() {
			defer close(stepped)
			took, bytes = w.firstStep(newcomer, began)
		}()
		with = append(with, w.rates(length))
		<-stepped
		way := 0.9 * min(path.Down, float64(len(w.workers)+1)*path.Up)
		t.Logf("newcomer %d: first inner step after %.1f s, %.1f MB came (bound: %.1f s); donors %.0f tokens/s, %.0f before",
			i+1, took.Seconds(), float64(bytes)/1e6, 10+float64(8*bytes)/way, with[i], without[i])
		if took == 0 {
			t.Fatal("it makes no step")
		}
		if err := newcomer.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		newcomer.ends(t, filepath.Base(newcomer.dir))
	}
	slices.Sort(with)
	slices.Sort(without)
	t.Logf("donors' efficiency while one joins %.3f (bound: 0.97): medians of %d windows of %v, %.0f and %.0f tokens/s", middleOf(with)/middleOf(without), joins, length, middleOf(with), middleOf(without))
}

// firstStep waits until a worker's own page shows a step, and returns how long after began, 0 when none comes, and what it
// had received by then.
func (w *town) firstStep(r *resident, began time.Time) (took time.Duration, bytes uint64) {
	client := &http.Client{Transport: &http.Transport{DialContext: r.host.Dial}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if time.Since(began) > 3*time.Minute {
			break
		}
		s := w.lookAt(client, "http://127.0.0.1:7310/", 2*time.Second)
		if s == nil {
			continue
		}
		for i := range s.Peers {
			if s.Peers[i].You && s.Peers[i].Step > 0 {
				return time.Since(began), r.host.Count().Received
			}
		}
	}
	return 0, 0
}

// slowSteps is the 95th percentile of the workers' newest inner steps by their own pages, in seconds, the mean of all workers.
func (w *town) slowSteps() float64 {
	sum := 0.0
	for _, r := range w.workers {
		client := &http.Client{Transport: &http.Transport{DialContext: r.host.Dial}}
		if s := w.lookAt(client, "http://127.0.0.1:7310/", 2*time.Second); s != nil && s.Speed.StepP95 != nil {
			sum += *s.Speed.StepP95
		}
		client.CloseIdleConnections()
	}
	return sum / float64(len(w.workers))
}

func setting(key, otherwise string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return otherwise
}

func count(key string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(key)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func middleOf(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func utilisation(s *status.Snapshot) float64 {
	sum, n := 0.0, 0
	for i := range s.Peers {
		if p := &s.Peers[i]; p.Alive && p.Step > 0 {
			sum, n = sum+p.Utilisation, n+1
		}
	}
	return sum / float64(max(n, 1))
}

// sent is what all workers' links have carried upwards, in bytes.
func (w *town) sent() uint64 {
	sum := uint64(0)
	for _, r := range w.workers {
		sum += r.host.Count().Sent
	}
	return sum
}

// rates returns the tokens a second of the town's workers over a stretch of time, each by its own clock.
func (w *town) rates(length time.Duration) float64 {
	w.t.Helper()
	donors := map[string]bool{}
	for _, r := range w.workers {
		donors[filepath.Base(r.dir)] = true
	}
	looked := func(what string) *status.Snapshot {
		return w.until(what, time.Minute, func(s *status.Snapshot) bool {
			return !slices.ContainsFunc(s.Peers, func(p status.Peer) bool { return donors[p.Name] && p.Alive && p.Clock == 0 })
		})
	}
	first := looked("donors tell what they train")
	<-time.After(length) // pages that are asked again and again take a twentieth of a processor
	last := looked(fmt.Sprintf("%v have passed", length))
	sum := 0.0
	for i := range last.Peers {
		p := &last.Peers[i]
		at := slices.IndexFunc(first.Peers, func(q status.Peer) bool { return q.ID == p.ID })
		if !donors[p.Name] || at < 0 {
			continue
		}
		if f := &first.Peers[at]; p.Clock > f.Clock && p.Tokens >= f.Tokens {
			sum += float64(p.Tokens-f.Tokens) / (float64(p.Clock-f.Clock) / 1000)
		}
	}
	return sum
}
