package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"dunlin/status"
	"dunlin/status/statustest"
)

// TestPageOfALiveSwarm watches a coordinator and two workers in Chromium: what the page shows is what the API says, a
// worker that goes is shown with its reason, and the browser has nothing to complain of and asks no other host.
func TestPageOfALiveSwarm(t *testing.T) {
	ctx := statustest.Browser(t)
	dir := t.TempDir()
	words := filepath.Join(dir, "words.txt")
	if err := os.WriteFile(words, bytes.Repeat([]byte("for i := range n { sum += i }\n"), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	lead := start(t, "coordinator", "--loopback", "--data-dir", filepath.Join(dir, "c"), "--data", words, "--preset", "pico", "--tokens", "1000000000", "--name", "live")
	after := func(word string) func(out, _ string) string {
		return func(out, _ string) string {
			_, rest, _ := strings.Cut(out, word)
			line, _, whole := strings.Cut(rest, "\n")
			if !whole {
				return ""
			}
			return strings.TrimSpace(line)
		}
	}
	invite, page := lead.await("invite", after("invite")), lead.await("page", after("page"))
	join := func(name string) *command {
		w := start(t, "join", invite, "--loopback", "--data-dir", filepath.Join(dir, name), "--threads", "1", "--duty", "0.1", "--pause-on-battery=false", "--name", name)
		w.says(`^training       step `)
		return w
	}

	var mu sync.Mutex
	var faults []string
	fault := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		faults = append(faults, fmt.Sprintf(format, args...))
	}
	requests, own := 0, page // own is a worker's page
	if err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			fault("exception: %v", ev.ExceptionDetails)
		case *runtime.EventConsoleAPICalled:
			if ev.Type == "error" || ev.Type == "warning" {
				fault("console: %v", ev.Args)
			}
		case *log.EventEntryAdded:
			if ev.Entry.Level == "error" || ev.Entry.Level == "warning" {
				fault("log: %s", ev.Entry.Text)
			}
		case *network.EventRequestWillBeSent:
			mu.Lock()
			requests++
			own := own
			mu.Unlock()
			if url := ev.Request.URL; !strings.HasPrefix(url, page) && !strings.HasPrefix(url, own) && !strings.HasPrefix(url, "data:") {
				fault("request to %s", url)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(page)); err != nil {
		t.Fatal(err)
	}
	ana, bo := join("Ana"), join("Bo")
	holds := func(expression string) {
		t.Helper()
		if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(3*time.Minute))); err != nil {
			t.Fatalf("never true: %s: %v", expression, err)
		}
	}
	const row = `[...document.querySelectorAll("#peers-table tbody tr")].find((r) => r.children[0].textContent === %q)?.children[1].textContent`
	holds(`document.querySelectorAll("#peers-table tbody tr").length === 2 && document.getElementById("training").textContent === "2" && document.querySelectorAll("#ledger-table tbody tr").length > 5`)
	holds(fmt.Sprintf(row, "Ana") + `.startsWith("● training")`)

	// One snapshot on the page and from the API, which is the newest: the page may still show the one before.
	for began := time.Now(); ; {
		shown, err := chromedp.Run(ctx, chromedp.Evaluate[string](`fetch("/api/v1/snapshot").then((r) => r.json()).then((s) => JSON.stringify({s, train: document.getElementById("train").textContent, headline: document.getElementById("headline").textContent, rate: document.getElementById("rate").textContent, commits: document.getElementById("failed").textContent, foot: document.getElementById("foot").textContent}))`, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		var both struct {
			S                                    status.Snapshot
			Train, Headline, Rate, Commits, Foot string
		}
		if err := json.Unmarshal([]byte(shown), &both); err != nil {
			t.Fatal(err)
		}
		s := &both.S
		if s.Speed.TokensPerSecond != nil && s.Learning.Train != nil &&
			strings.Contains(both.Headline, "height "+status.Count(s.Run.Height)+" ") && strings.Contains(both.Foot, s.At.Format("15:04:05")) &&
			both.Rate == status.Figure(*s.Speed.TokensPerSecond) && both.Train == status.Loss(*s.Learning.Train) &&
			strings.HasPrefix(both.Commits, status.Count(s.Health.Commits)+" commits") {
			break
		}
		if time.Since(began) > 3*time.Minute {
			t.Errorf("the page never shows what the API says: %s", shown)
			break
		}
	}

	// A worker's own page has its own rounds, up to the merge.
	address := ana.await("page", func(_, err string) string {
		_, rest, _ := strings.Cut(err, "web page ")
		line, _, whole := strings.Cut(rest, "\n")
		if !whole {
			return ""
		}
		return line
	})
	mu.Lock()
	own = address
	mu.Unlock()
	if err := chromedp.Do(ctx, chromedp.Navigate(address)); err != nil {
		t.Fatal(err)
	}
	holds(`document.getElementById("rounds-whose").textContent === "Rounds of this worker" && document.querySelectorAll("#rounds-plot .step-merge").length > 0`)
	if err := chromedp.Do(ctx, chromedp.Navigate(page)); err != nil {
		t.Fatal(err)
	}

	if err := bo.end(); err != nil {
		t.Error(err)
	}
	holds(fmt.Sprintf(row, "Bo") + `.startsWith("✕ gone: it left: the volunteer stopped it")`)
	holds(`document.getElementById("training").textContent === "1"`)
	if err := ana.end(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(faults) > 0 || requests < 10 {
		t.Errorf("of %d requests, the browser complains: %q", requests, faults)
	}
}
