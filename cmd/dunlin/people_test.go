package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"dunlin/status"
	"dunlin/status/statustest"
)

// program is a process of the built binary, whose stderr is read to its end.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of stdout and stderr; closed at their end
}

func runProgram(t *testing.T, dir, binary string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(binary, args...), lines: make(chan string, 1<<12)}
	p.cmd.Dir = dir
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case p.lines <- lines.Text():
			default: // nobody waits for so many
			}
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(os.Interrupt)
		late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
		defer late.Stop()
		_ = p.cmd.Wait()
		out.Close()
	})
	return p
}

// says waits for a line and returns its first group.
func (p *program) says(pattern string) string {
	p.t.Helper()
	line, late, said := regexp.MustCompile(pattern), time.After(2*time.Minute), ""
	for {
		select {
		case text, open := <-p.lines:
			if m := line.FindStringSubmatch(text); m != nil {
				return m[1]
			}
			said += text + "\n"
			if open {
				continue
			}
		case <-late:
		}
		p.t.Fatalf("no line like %s in:\n%s", pattern, said)
	}
}

// look fetches a page's snapshot; nil while there is none.
func look(ctx context.Context, page string) *status.Snapshot {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"api/v1/snapshot", http.NoBody)
	if err != nil {
		return nil
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	var s status.Snapshot
	if answer.StatusCode != http.StatusOK || json.NewDecoder(answer.Body).Decode(&s) != nil {
		return nil
	}
	return &s
}

// until looks at a page again and again until it shows something.
func until(t *testing.T, what string, page func() string, shows func(*status.Snapshot) bool) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 3*time.Minute; time.Sleep(20 * time.Millisecond) {
		if s := look(t.Context(), page()); s != nil && shows(s) {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// TestPeopleFirstToken: from a clean clone, once it is built, to the first trained token that a person sees on the page.
func TestPeopleFirstToken(t *testing.T) {
	statustest.Measuring(t)
	browser := statustest.Browser(t)
	clone := filepath.Join(t.TempDir(), "clone")
	for _, args := range [][]string{{"git", "clone", "--quiet", "--no-local", filepath.Join("..", ".."), clone}, {"make", "-C", clone, "build"}} {
		began := time.Now()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		t.Logf("%s: %.1f s", args[0], time.Since(began).Seconds())
	}
	began := time.Now()
	demo := runProgram(t, clone, filepath.Join(clone, "bin", "dunlin"), "demo", "--seconds", "90") // what make run runs
	page := demo.says(`(http://127\.0\.0\.1:\d+/)`)
	t.Logf("the page is there after %.1f s", time.Since(began).Seconds())
	if err := chromedp.Do(browser, chromedp.Navigate(page)); err != nil {
		t.Fatal(err)
	}
	const trained = `[...document.querySelectorAll("#peers-table tbody tr td:nth-child(5)")].some((c) => !["–", "0"].includes(c.textContent))`
	if _, err := chromedp.Run(browser, chromedp.Poll[bool](trained, chromedp.WithPollingTimeout(2*time.Minute))); err != nil {
		t.Fatalf("no trained token on the page: %v", err)
	}
	statustest.Beside(t, "from the built clone to the first trained token on the page", time.Since(began).Seconds(), 60, "s")
}

// TestPeopleFirstStep: from an invite to the first inner step on the run's current weights, beside 15 s and the time that
// the bytes take at nine tenths of the link.
func TestPeopleFirstStep(t *testing.T) {
	statustest.Measuring(t)
	binary, dir := filepath.Join(t.TempDir(), "dunlin"), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	lead := runProgram(t, dir, binary, "coordinator", "--loopback", "--data-dir", "lead", "--preset", "nano", "--tokens", "1000000000", "--recipe", "ternary")
	token := lead.says(`^invite  (\S+)`)
	page := lead.says(`^page    (\S+)`)
	runProgram(t, dir, binary, "join", token, "--loopback", "--data-dir", "first", "--threads", "1", "--pause-on-battery=false")
	until(t, "ten commits", func() string { return page }, func(s *status.Snapshot) bool { return s.Health.Commits >= 10 })

	for name, limit := range map[string]float64{"without a limit": 0, "on 20 Mbit/s": 20e6} {
		home := filepath.Join(dir, name)
		args := []string{"join", token, "--loopback", "--data-dir", home, "--threads", "1", "--pause-on-battery=false"}
		if limit > 0 {
			args = append(args, "--down", fmt.Sprintf("%.0fmbit", limit/1e6))
		}
		began := time.Now()
		late := runProgram(t, dir, binary, args...)
		var own string
		var received uint64
		until(t, "the first inner step "+name, func() string {
			if own == "" {
				own = late.says(`web page (http\S+)`)
			}
			return own
		}, func(s *status.Snapshot) bool {
			for i := range s.Peers {
				if s.Peers[i].You {
					received = max(received, s.Peers[i].Received)
				}
			}
			return s.Speed.Own != nil && *s.Speed.Own > 0
		})
		took := time.Since(began).Seconds()
		bound := 15.0
		if limit > 0 {
			bound += float64(received) * 8 / (0.9 * limit)
			t.Logf("%s received", status.Bytes(float64(received)))
		}
		statustest.Beside(t, "from an invite to the first inner step "+name, took, bound, "s")
	}
}
