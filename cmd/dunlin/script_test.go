package main

import (
	"bufio"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"dunlin/invite"
	"dunlin/swarm"
	"dunlin/wire"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/script")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"dunlin": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the promises of the command line: flags, exit codes, what goes to stdout and what to stderr.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"text":      writeText,
			"signals":   signals,
			"invites":   invites,
			"listens":   listens,
			"locks":     locks,
			"damages":   damages,
			"foretells": foretells,
			"cut":       cutShort,
			"leads":     leads,
			"waits":     waits,
			"prompt":    prompt,
		},
	})
}

// exits runs a command and checks its exit code: `exits 2 dunlin …`.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		code = string(rune('0' + exit.ExitCode()))
	} else if err != nil {
		ts.Fatalf("%v: %v", args[1:], err)
	}
	if code != args[0] {
		ts.Fatalf("%v exits with %s, want %s", args[1:], code, args[0])
	}
}

// writeText writes a file of seeded nonsense: `text FILE BYTES`.
func writeText(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: text file bytes")
	}
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	rng := rand.New(rand.NewPCG(1, 1))
	words := []string{"func ", "return ", "err ", "nil\n", "if ", "for ", "range ", "{\n", "}\n"}
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(words[rng.IntN(len(words))])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()[:size]), 0o600))
}

// foretells checks that what the last command printed as JSON predicts the memory that it took to so many per cent, in
// all and above what it began with: `foretells 5`.
func foretells(ts *testscript.TestScript, neg bool, args []string) {
	var told struct {
		Predicted float64 `json:"predicted_rss_bytes"`
		Most      float64 `json:"max_rss_bytes"`
		Start     float64 `json:"start_rss_bytes"`
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: foretells percent")
	}
	percent, err := strconv.ParseFloat(args[0], 64)
	ts.Check(err)
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &told))
	if told.Most == 0 {
		return // this system does not tell
	}
	off := 100 * math.Abs(told.Predicted-told.Most)
	ts.Logf("predicted %.1f MB, took %.1f MB, %.1f of them before: off by %.1f %%, above the start by %.1f %%",
		told.Predicted/1e6, told.Most/1e6, told.Start/1e6, off/told.Most, off/(told.Most-told.Start))
	if off > percent*(told.Most-told.Start) {
		ts.Fatalf("the prediction is off by more than %v %%", percent)
	}
}

// signals runs a command until a line on its stderr matches, sends it a signal, and checks how it ends:
// `signals KILL killed 'step 10 of' dunlin …`, `signals INT 1 'step 10 of' dunlin …`; KILL-SOON does so at a random
// moment, a few milliseconds after one of the sixty lines that follow. The rest of stderr goes to the file stderr.txt. On Linux a
// command that writes a line a step is a hundred steps ahead at most when the signal comes.
func signals(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: signals signal end regexp command…")
	}
	signal := map[string]os.Signal{"KILL": os.Kill, "KILL-SOON": os.Kill, "INT": os.Interrupt, "TERM": syscall.SIGTERM}[args[0]]
	var moment time.Duration
	later := 0 // lines
	if args[0] == "KILL-SOON" {
		later, moment = rand.IntN(60), rand.N(5*time.Millisecond)
		ts.Logf("the signal comes %d lines and %s after the line", later, moment)
	}
	line := regexp.MustCompile(args[2])
	path, err := lookPath(args[3], ts.Getenv("PATH"))
	ts.Check(err)
	cmd := exec.Command(path, args[4:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"HOME=" + ts.Getenv("HOME"), "PATH=" + ts.Getenv("PATH")}
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(narrow(stderr.(*os.File)))
	ts.Check(cmd.Start())
	var after strings.Builder
	came, sent := false, false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		switch came = came || line.MatchString(lines.Text()); {
		case sent:
			fmt.Fprintln(&after, lines.Text())
		case came && later > 0:
			later--
		case came:
			<-time.After(moment)
			ts.Check(cmd.Process.Signal(signal))
			sent = true
		}
	}
	err = cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("stderr.txt"), []byte(after.String()), 0o600))
	end := "killed"
	if cmd.ProcessState.Exited() {
		end = strconv.Itoa(cmd.ProcessState.ExitCode())
	}
	if !sent || end != args[1] {
		ts.Fatalf("signal sent: %v; ends %s (%v), want %s", sent, end, err, args[1])
	}
}

// invites puts an invite to a coordinator that is not there into a variable: `invites NAME ADDRESS`.
func invites(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: invites variable multiaddress")
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	token := invite.Token{Run: wire.HashLeaf([]byte("nowhere")), Name: "nowhere", Coordinator: wire.PeerIDOf(key), Addrs: []string{args[1]}}
	ts.Setenv(args[0], token.String())
}

// listens takes a TCP port of loopback and puts its number into a variable: `listens NAME`.
func listens(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listens variable")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// locks holds a data folder as a running peer would: `locks FOLDER`.
func locks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: locks folder")
	}
	lock, err := swarm.LockFolder(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { _ = lock.Unlock() })
}

// damages flips a bit of every byte of the one file that a pattern names: `damages PATTERN`.
func damages(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: damages pattern")
	}
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s names %d files", args[0], len(found))
	}
	b, err := os.ReadFile(found[0])
	ts.Check(err)
	for i := range b {
		b[i] ^= 0x20
	}
	ts.Check(os.WriteFile(found[0], b, 0o600))
}

// waits looks for a file that a command in the background makes: `waits FILE`.
func waits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waits file")
	}
	for began := time.Now(); time.Since(began) < 3*time.Minute; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("%s did not come", args[0])
}

// prompt checks that a command writes a line that matches on its stderr within so many milliseconds of its start, the best
// of thirty times: `prompt 100 REGEXP dunlin …`.
func prompt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: prompt milliseconds regexp command…")
	}
	bound, err := time.ParseDuration(args[0] + "ms")
	ts.Check(err)
	line := regexp.MustCompile(args[1])
	path, err := lookPath(args[2], ts.Getenv("PATH"))
	ts.Check(err)
	best := time.Hour
	for range 30 {
		cmd := exec.Command(path, args[3:]...)
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = []string{"HOME=" + ts.Getenv("HOME"), "PATH=" + ts.Getenv("PATH")}
		stderr, err := cmd.StderrPipe()
		ts.Check(err)
		began, said := time.Now(), false
		ts.Check(cmd.Start())
		for lines := bufio.NewScanner(stderr); !said && lines.Scan(); {
			said = line.MatchString(lines.Text())
		}
		took := time.Since(began)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if !said {
			ts.Fatalf("%v ends without a line that matches %s", args[2:], args[1])
		}
		if best = min(best, took); best <= bound {
			ts.Logf("after %v", best)
			return
		}
	}
	ts.Fatalf("it takes at least %v until a line matches %s, want %v", best, args[1], bound)
}

// cutShort takes the last two bytes of a file: `cut FILE`.
func cutShort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cut file")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), info.Size()-2))
}

// leads starts a coordinator on loopback and puts its invite into a variable: `leads NAME FLAG…`.
func leads(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: leads variable flag…")
	}
	path, err := lookPath("dunlin", ts.Getenv("PATH"))
	ts.Check(err)
	cmd := exec.Command(path, append([]string{"coordinator", "--loopback"}, args[1:]...)...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), []string{"HOME=" + ts.Getenv("HOME"), "PATH=" + ts.Getenv("PATH")}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if invite, found := strings.CutPrefix(lines.Text(), "invite  "); found {
			ts.Setenv(args[0], invite)
			return
		}
	}
	ts.Fatalf("the coordinator ends without an invite")
}

// lookPath finds a command in a search path other than the process's own.
func lookPath(name, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s: not in %s", name, path)
}
