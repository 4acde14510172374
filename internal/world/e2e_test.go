package world

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/data"
	"dunlin/machine"
	"dunlin/status"
)

// Tests of this file run the real binary, as processes on loopback.

// builds holds the binaries that the tests of this process have made.
type builds struct {
	mu   sync.Mutex
	dir  string
	made map[string]string
}

// binaries belongs to the tests of this file; TestMain removes it.
var binaries = &builds{made: map[string]string{}}

// atOnce is how many tests of processes run at a time at least: most of their time is
// their demos', which end by the clock.
const atOnce = 3

func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue && runtime.GOMAXPROCS(0) < atOnce {
		if err := parallel.Value.Set(strconv.Itoa(atOnce)); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if binaries.dir != "" {
		_ = os.RemoveAll(binaries.dir)
	}
	os.Exit(code)
}

// binary builds the program, once for each set of build tags.
func binary(t *testing.T, tags string) string {
	t.Helper()
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if path := binaries.made[tags]; path != "" {
		return path
	}
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "dunlin-e2e-")
		if err != nil {
			t.Fatal(err)
		}
		binaries.dir = dir
	}
	path := filepath.Join(binaries.dir, "dunlin"+tags)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	build := exec.Command("go", "build", "-tags", tags, "-o", path, "dunlin/cmd/dunlin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	binaries.made[tags] = path
	return path
}

// outcome is how a command ended.
type outcome struct {
	code           int
	stdout, stderr string
}

// command runs the binary to its end, within a bound.
func command(t *testing.T, within time.Duration, path string, env []string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var out, logs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &logs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("dunlin %s: %v\n%s", args[0], err, logs.String())
	}
	if ctx.Err() != nil {
		t.Fatalf("dunlin %s took more than %s\n%s", args[0], within, logs.String())
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), logs.String()}
}

// corpusFile writes text to learn.
func corpusFile(t *testing.T) string {
	t.Helper()
	text, err := someSource()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "corpus.txt")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// someSource is a megabyte of Go. A small model learns a few lines that are said again
// and again by heart, and outer momentum then carries what is committed far past them.
var someSource = sync.OnceValues(func() ([]byte, error) {
	c, err := data.GoSource()
	if err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(c.Train[:1<<20], []byte{data.EndOfText}, []byte("\n")), nil
})

// demoReport is what `dunlin demo --json` promises.
type demoReport struct {
	ValLossStart, ValLossEnd, BigramLoss *float64
	Tokens, Commits, Height              uint64
	Upload                               float64
	OK                                   bool
	Reason, Sample                       string
	Workers                              []struct {
		ID    string
		Sent  uint64
		State string
		Alive bool
	}
}

// promised are the keys of the report, and of each of its workers.
var (
	promised = strings.Fields(`val_loss_start val_loss_end seconds tokens commits failed_attempts height parameters inner_steps outer_steps
		inner_steps_per_outer fragments tokens_per_step codec bits_per_parameter upload_bits_per_parameter bytes_ratio_fp32_data_parallel
		bigram_loss sample ok reason workers`)
	promisedOfWorker = strings.Fields("id tokens tokens_per_second bytes_sent bytes_received utilisation state_hash alive")
)

func parseReport(t *testing.T, text string) demoReport {
	t.Helper()
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &keys); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if got, want := slices.Sorted(maps.Keys(keys)), slices.Sorted(slices.Values(promised)); !slices.Equal(got, want) {
		t.Errorf("keys %v, promised are %v", got, want)
	}
	var workers []map[string]json.RawMessage
	var r demoReport
	read := func(key string, into any) {
		if err := json.Unmarshal(keys[key], into); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	read("workers", &workers)
	read("val_loss_start", &r.ValLossStart)
	read("val_loss_end", &r.ValLossEnd)
	read("bigram_loss", &r.BigramLoss)
	read("tokens", &r.Tokens)
	read("commits", &r.Commits)
	read("height", &r.Height)
	read("upload_bits_per_parameter", &r.Upload)
	read("ok", &r.OK)
	read("reason", &r.Reason)
	read("sample", &r.Sample)
	r.Workers = r.Workers[:0]
	for _, w := range workers {
		if got, want := slices.Sorted(maps.Keys(w)), slices.Sorted(slices.Values(promisedOfWorker)); !slices.Equal(got, want) {
			t.Errorf("keys of a worker %v, promised are %v", got, want)
		}
		var row struct {
			ID    string
			Sent  uint64
			State string
			Alive bool
		}
		for key, into := range map[string]any{"id": &row.ID, "bytes_sent": &row.Sent, "state_hash": &row.State, "alive": &row.Alive} {
			if err := json.Unmarshal(w[key], into); err != nil {
				t.Errorf("%s of a worker: %v", key, err)
			}
		}
		r.Workers = append(r.Workers, row)
	}
	return r
}

// TestDemoOfProcessesTrains is `dunlin demo`, and what can be done with its
// folders afterwards.
func TestDemoOfProcessesTrains(t *testing.T) {
	t.Parallel()
	path, dir := binary(t, ""), filepath.Join(t.TempDir(), "demo")
	o := learningDemo(t, 500_000, dir, "--preset", "pico", "--workers", "3", "--data", corpusFile(t), "--json")
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	r := parseReport(t, o.stdout)
	if !r.OK || r.Reason != "" || r.Commits == 0 || r.Tokens == 0 || r.Height == 0 || len(r.Workers) != 3 || r.Upload <= 0 {
		t.Errorf("report %+v", r)
	}
	if r.ValLossStart == nil || r.ValLossEnd == nil || *r.ValLossEnd >= *r.ValLossStart-1 {
		t.Errorf("held-out loss %v to %v", r.ValLossStart, r.ValLossEnd)
	}
	if !strings.HasPrefix(r.Sample, "func ") || len(r.Sample) < 100 {
		t.Errorf("sample %q", r.Sample)
	}
	for _, w := range r.Workers {
		if !w.Alive || w.State != r.Workers[0].State || w.Sent == 0 {
			t.Errorf("worker %+v, the first %+v", w, r.Workers[0])
		}
	}
	for _, peer := range []string{"coordinator", "w1", "w3"} {
		o := command(t, patience, path, nil, "ledger", "verify", filepath.Join(dir, peer), "--json")
		var report struct {
			Tokens  uint64
			Entries map[string]uint64
		}
		if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || o.code != 0 {
			t.Fatalf("verify %s: exit code %d, %v\n%s", peer, o.code, err, o.stderr)
		}
		if report.Tokens != r.Tokens || report.Entries["commit"] != r.Commits {
			t.Errorf("the ledger of %s has %+v, the demo said %d tokens in %d commits", peer, report, r.Tokens, r.Commits)
		}
	}
	model := filepath.Join(dir, "model")
	if o := command(t, patience, path, nil, "eval", model, corpusFile(t), "--json"); o.code != 0 || !strings.Contains(o.stdout, `"loss"`) {
		t.Errorf("eval: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if o := command(t, patience, path, nil, "sample", model, "--prompt", "func ", "--bytes", "20"); o.code != 0 || !strings.HasPrefix(o.stdout, "func ") {
		t.Errorf("sample: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	// The run's model leaves from any peer's folder, at any height.
	for _, peer := range []string{"coordinator", "w2"} {
		to := filepath.Join(dir, "hf-"+peer)
		if o := command(t, patience, path, nil, "export", filepath.Join(dir, peer), to); o.code != 0 {
			t.Fatalf("export: exit code %d, %s%s", o.code, o.stdout, o.stderr)
		}
		if o := command(t, patience, path, nil, "inspect", model, to); o.code != 0 || !strings.Contains(o.stdout, " 0 values changed") {
			t.Errorf("the exported model: exit code %d, %s%s", o.code, o.stdout, o.stderr)
		}
	}
	halfway := strconv.FormatUint(r.Height/2, 10)
	if o := command(t, patience, path, nil, "inspect", filepath.Join(dir, "coordinator"), filepath.Join(dir, "w1"), "--at", halfway); o.code != 0 || !strings.Contains(o.stdout, " 0 values changed") {
		t.Errorf("two peers at height %s: exit code %d, %s%s", halfway, o.code, o.stdout, o.stderr)
	}
	if o := command(t, patience, path, nil, "inspect", filepath.Join(dir, "w1"), "--at", "1000000"); o.code != 1 || !strings.Contains(o.stderr, "the ledger here ends at") {
		t.Errorf("a height that is not there: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
}

// TestDemoSurvivesChaos has workers, an owner in mid-round and the coordinator
// killed while the demo runs. The model is large enough that an interval is
// some dozens of steps: with hundreds of them the outer momentum overshoots.
func TestDemoSurvivesChaos(t *testing.T) {
	t.Parallel()
	chaosDemo(t, 20, filepath.Join(t.TempDir(), "demo"), `killed [1-9][0-9]* workers, [1-9][0-9]* of them while they summed a round; .* the coordinator was killed and restarted 1 times`,
		"--preset", "nano", "--workers", "3", "--data", corpusFile(t))
}

// budget has a demo end by its tokens, within the time that a slow machine takes for them.
func budget(tokens int) []string {
	return []string{"--tokens", strconv.Itoa(tokens), "--seconds", "180"}
}

// learningDemo runs a demo of so many tokens. On a machine that does much else rounds take long, so that few of them come to a
// number of tokens: while a demo says that it has learned too little, it is given twice as many.
func learningDemo(t *testing.T, tokens int, dir string, flags ...string) outcome {
	t.Helper()
	tellLogs(t, dir)
	for most := 8 * tokens; ; tokens *= 2 {
		o := command(t, patience, binary(t, ""), nil, slices.Concat([]string{"demo", "--out", dir}, flags, budget(tokens))...)
		if o.code == 0 || tokens >= most || !strings.Contains(o.stderr, "give it more --seconds") {
			return o
		}
		t.Logf("%d tokens are too few here:\n%s%s", tokens, o.stdout, o.stderr)
	}
}

// tellLogs has a test that fails show how the logs of a demo's processes end.
func tellLogs(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		logs, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
		for _, name := range logs {
			b, err := os.ReadFile(name)
			t.Logf("%s, %v: …%s", filepath.Base(name), err, b[max(0, len(b)-2000):])
		}
	})
}

// chaosDemo runs a demo with chaos that ends well, and says that it struck where it should. Processes take their time to start,
// and only while they run they can be struck: where a machine is too slow for all of it, the demo is given twice the time.
func chaosDemo(t *testing.T, seconds int, dir, struck string, flags ...string) {
	t.Helper()
	tellLogs(t, dir)
	for most := 4 * seconds; ; seconds *= 2 {
		o := command(t, patience, binary(t, ""), nil, append([]string{"demo", "--chaos", "--out", dir, "--seconds", strconv.Itoa(seconds)}, flags...)...)
		switch {
		case o.code != 0 && (seconds >= most || !strings.Contains(o.stderr, "give it more --seconds")):
			t.Fatalf("exit code %d\n%s\n%s", o.code, o.stdout, o.stderr)
		case o.code == 0 && regexp.MustCompile(struck).MatchString(o.stdout):
			return
		case seconds >= most:
			t.Fatalf("not everything was killed:\n%s", o.stdout)
		}
		t.Logf("%d seconds are too few here:\n%s%s", seconds, o.stdout, o.stderr)
	}
}

// TestDemoFindsAFlippedBit has one worker end with a replica in which one bit
// of one weight is wrong.
func TestDemoFindsAFlippedBit(t *testing.T) {
	t.Parallel()
	o := command(t, patience, binary(t, "invariants"), []string{"DUNLIN_FAULT=flip-replica-bit"},
		slices.Concat([]string{"demo", "--preset", "pico", "--workers", "3", "--data", corpusFile(t), "--out", filepath.Join(t.TempDir(), "demo"), "--json"}, budget(300_000))...)
	if o.code != 1 {
		t.Fatalf("exit code %d, want 1\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	r := parseReport(t, o.stdout)
	if r.OK || !strings.Contains(r.Reason, "w3 ends with state") || !strings.Contains(o.stderr, "dunlin: w3 ends with state") {
		t.Errorf("ok %v, reason %q; stderr:\n%s", r.OK, r.Reason, o.stderr)
	}
}

// process is one long-running command of a test.
type process struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner // of its standard output
	logs  bytes.Buffer
}

func begin(t *testing.T, path string, args ...string) *process {
	t.Helper()
	return beginBy(t, (*exec.Cmd).Start, path, args...)
}

// beginBy is begin with another way to start the process.
func beginBy(t *testing.T, start func(*exec.Cmd) error, path string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(path, args...)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = &p.logs
	if err := start(p.cmd); err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // most have ended
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("dunlin %s:\n%s", args[0], p.logs.String())
		}
	})
	return p
}

// coordinate starts a coordinator and returns its invite and its page. While another program has one of its ports, which may
// be a test beside this one, it is started again.
func coordinate(t *testing.T, path string, args ...string) (p *process, invite, page string) {
	t.Helper()
	for began := time.Now(); ; <-time.After(time.Second) {
		p = begin(t, path, append([]string{"coordinator", "--json", "--loopback"}, args...)...)
		if p.lines.Scan() {
			invite, page = p.where(t)
			return p, invite, page
		}
		_ = p.cmd.Wait() // what it says tells
		if !strings.Contains(p.logs.String(), "taken") || time.Since(began) > patience {
			t.Fatalf("the coordinator ends: %s", p.logs.String())
		}
	}
}

// where reads a coordinator's first line, which came.
func (p *process) where(t *testing.T) (invite, page string) {
	t.Helper()
	var where struct{ Invite, Page string }
	if json.Unmarshal(p.lines.Bytes(), &where) != nil {
		t.Fatalf("the coordinator said %q", p.lines.Text())
	}
	return where.Invite, where.Page
}

// follow reads a page's events until a snapshot is as wanted.
func follow(t *testing.T, page string, wanted func(*status.Snapshot) bool) *status.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"api/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var last status.Snapshot
	for in := bufio.NewReader(response.Body); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("the page's events end (%v) before the run is as wanted: %+v", err, last.Run)
		}
		text, ok := strings.CutPrefix(line, "data: ")
		if !ok || !strings.Contains(text, `"run"`) {
			continue
		}
		last = status.Snapshot{}
		if err := json.Unmarshal([]byte(text), &last); err != nil {
			t.Fatal(err)
		}
		if wanted(&last) {
			return &last
		}
	}
}

// ends waits for a process that was asked to end.
func (p *process) ends(t *testing.T, who string) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		for p.lines.Scan() { // Wait closes the pipe, so it is read first
		}
		done <- p.cmd.Wait()
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%s ends with %v", who, err)
		}
	case <-time.After(patience):
		t.Fatalf("%s does not end", who)
	}
}

// ports returns flags for the network and the page of a coordinator that is to come back to them: they are free now, and no
// connection that leaves is given them.
func ports(t *testing.T) []string {
	t.Helper()
	port, page := machine.FreePorts(), machine.FreePorts()
	for page == port || page == port+1 { // the one above a coordinator's is for bulk
		page = machine.FreePorts()
	}
	if port == 0 || page == 0 {
		t.Fatal("no port is free")
	}
	return []string{"--port", strconv.Itoa(port), "--listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(page))}
}

// TestCoordinatorKilledResumesItsRun kills the coordinator of two workers, and
// starts it again with the same command; then everyone drains on a signal.
func TestCoordinatorKilledResumesItsRun(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("processes of Windows take no interrupt from their parent")
	}
	path, dir := binary(t, ""), t.TempDir()
	args := []string{
		"--data-dir", filepath.Join(dir, "coordinator"), "--preset", "pico", "--data", corpusFile(t), "--tokens", "1000000000", "--eval-windows", "8",
	}
	args = append(args, ports(t)...)
	lead, invite, page := coordinate(t, path, args...)
	var workers []*process
	for i := range 2 {
		onDisk := i == 1 && runtime.GOOS == "linux" // both hold the same state, whether momenta lie in memory or not
		workers = append(workers, begin(t, path, "join", invite, "--loopback", "--pause-on-battery=false", "--threads", "1", "--data-dir", filepath.Join(dir, fmt.Sprint("w", i)),
			fmt.Sprintf("--momentum-on-disk=%t", onDisk)))
	}
	before := follow(t, page, func(s *status.Snapshot) bool { return s.Health.Commits >= 4 })
	var shown status.Snapshot
	if o := command(t, patience, path, nil, "status", "--data-dir", filepath.Join(dir, "coordinator"), "--json"); o.code != 0 || json.Unmarshal([]byte(o.stdout), &shown) != nil || shown.Invite != invite {
		t.Errorf("status: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if err := lead.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = lead.cmd.Wait()
	lead, again, page := coordinate(t, path, args...)
	if again != invite {
		t.Error("the coordinator came back with another invite")
	}
	after := follow(t, page, func(s *status.Snapshot) bool {
		return s.Health.Commits >= before.Health.Commits+4 && s.Health.Training == 2
	})
	if after.Run.ID != before.Run.ID || after.Run.Term <= before.Run.Term || after.Run.Tokens <= before.Run.Tokens || after.Run.Height <= before.Run.Height {
		t.Errorf("before the kill %+v, after it %+v", before.Run, after.Run)
	}
	if err := workers[0].cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	workers[0].ends(t, "worker 0")
	follow(t, page, func(s *status.Snapshot) bool { return s.Health.Training == 1 })
	bansTheLast(t, path, filepath.Join(dir, "coordinator"), page, invite, filepath.Join(dir, "w1"), workers[1])
	follow(t, page, func(s *status.Snapshot) bool { return s.Health.Training == 0 })
	if err := lead.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	lead.ends(t, "the coordinator")
	// The worker may have gone before the entry came to it.
	if o := command(t, patience, path, nil, "ledger", "log", filepath.Join(dir, "coordinator")); o.code != 0 || !strings.Contains(o.stdout, "its sums are noise") {
		t.Errorf("ledger log: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
}

// bansTheLast bans the only worker of a coordinator's run, which ends and does not come back.
func bansTheLast(t *testing.T, path, home, page, invite, dir string, worker *process) {
	t.Helper()
	var id string
	follow(t, page, func(s *status.Snapshot) bool {
		alive := 0 // the one that was stopped may still be on its way out
		for _, p := range s.Peers {
			if p.Alive {
				id = p.ID
				alive++
			}
		}
		return alive == 1
	})
	if o := command(t, patience, path, nil, "coordinator", "ban", id[:10], "its sums are noise", "--data-dir", home); o.code != 0 || !strings.HasPrefix(o.stdout, "banned "+id) {
		t.Fatalf("ban: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	for worker.lines.Scan() {
	}
	if err := worker.cmd.Wait(); worker.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(worker.logs.String(), "its sums are noise") {
		t.Errorf("the banned worker ends with %v:\n%s", err, worker.logs.String())
	}
	if o := command(t, patience, path, nil, "join", invite, "--loopback", "--pause-on-battery=false", "--threads", "1", "--data-dir", dir); o.code != 1 ||
		!strings.Contains(o.stderr, "you are banned from this run: its sums are noise") {
		t.Errorf("it comes back: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
}
