package status

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"dunlin/machine"
	"dunlin/status/statustest"
)

func do(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// eval runs an expression in the page.
func eval[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// await polls until an expression is true; a machine may be slow.
func await(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(2*time.Minute))); err != nil {
		t.Fatalf("never true: %s: %v\nthe page says: %s", expression, err, eval[string](t, ctx, "document.body.innerText"))
	}
}

// watchFaults begins before the page's own scripts and keeps what goes wrong.
const watchFaults = `
window.faults = [];
addEventListener("error", (e) => faults.push(String(e.message)));
addEventListener("unhandledrejection", (e) => faults.push(String(e.reason)));
document.addEventListener("securitypolicyviolation", (e) => faults.push("policy: " + e.violatedDirective + " " + e.blockedURI));`

func noFaults(t *testing.T, ctx context.Context) {
	t.Helper()
	if faults := eval[[]string](t, ctx, "window.faults ?? ['nothing watched']"); len(faults) > 0 {
		t.Errorf("the page has faults: %q", faults)
	}
}

func TestPage(t *testing.T) {
	ctx := statustest.Browser(t)
	t.Run("figures agree with the terminal's", func(t *testing.T) { pageFigures(t, ctx) })
	t.Run("shows a snapshot", func(t *testing.T) { pageShows(t, ctx) })
	t.Run("shows a worker's own rounds and its share", func(t *testing.T) { pageOwn(t, ctx) })
	t.Run("empty", func(t *testing.T) { pageEmpty(t, ctx) })
	t.Run("says when it is stale and reconnects", func(t *testing.T) { pageReconnects(t, ctx) })
	t.Run("asks for an entry", func(t *testing.T) { pageEntry(t, ctx) })
	t.Run("changes limits", func(t *testing.T) { pageChanges(t, ctx) })
	t.Run("is light", func(t *testing.T) { pageLight(t, ctx) })
	t.Run("is for everybody", func(t *testing.T) { pageForEverybody(t, ctx) })
	t.Run("token", func(t *testing.T) { pageToken(t, ctx) })
}

// openPage shows the server's page with faults watched.
func openPage(t *testing.T, ctx context.Context, s *Server) {
	t.Helper()
	do(t, ctx, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(s.URL()))
	eval[chromedp.Void](t, ctx, watchFaults)
}

func pageFigures(t *testing.T, ctx context.Context) {
	s := start(t, Config{})
	openPage(t, ctx, s)
	var calls []string
	for _, c := range figureCases {
		v := fmt.Sprintf("%v", c.v)
		switch {
		case math.IsNaN(c.v):
			v = "NaN"
		case math.IsInf(c.v, 0):
			v = "Infinity"
		}
		calls = append(calls, fmt.Sprintf("f.%s(%s)", c.format, v))
	}
	got := eval[[]string](t, ctx, `import("/figures.js").then((f) => [`+strings.Join(calls, ",")+`])`)
	for i, c := range figureCases {
		if got[i] != c.want {
			t.Errorf("%s(%v) = %q in the page, want %q", c.format, c.v, got[i], c.want)
		}
	}
}

func pageShows(t *testing.T, ctx context.Context) {
	s := start(t, Config{})
	n := sample()
	n.Peers[3].StateHash[0] ^= 1
	n.Peers[4].Reason = `<img src=x onerror="faults.push('markup')">`
	s.Publish(n)
	openPage(t, ctx, s)
	await(t, ctx, `document.getElementById("train").textContent === "2.610"`)
	for id, want := range map[string]string{
		"run-name": "Go tutor", "headline": "training · height 118 · 2 m 10 s", "you": "you: slot 2",
		"held-out": "held-out 2.654 · bigram 2.830", "progress-text": "76 % of 1.20 M tokens",
		"rate": "8,040", "own": "you 2,010 (25 %)", "left": "≈ 36 s left",
		"cards":    "NVIDIA GeForce RTX 3060: 97 % · 10.0 GB of 12.0 GB · 71 °C · 168 of 170 W · held down by power limit, heat",
		"training": "4", "syncing": "· 1 syncing", "lost": "◐ 1 lost in 10 m: ab12: no heartbeat", "agree": "● states agree",
		"failed": "59 commits, the newest by 4 workers · 1 failed: slab 3 below quorum",
		"bits":   "8.02", "bytes-day": "2.13 GB a day and peer", "ratio": "79.8× below data-parallel",
		"link-text": "", "peers-count": "5 alive · 1 gone",
		"thanks-count": "to 2 peers, counted from height 40", "samples-prompt": "func ", "pause": "pause",
		"machine-does": "cpu · about 2,010 tokens/s · other programs use 1.3 of 8 cores · sent 1.90 MB and received 2.50 MB today",
	} {
		if got := eval[string](t, ctx, fmt.Sprintf(`document.getElementById(%q).textContent`, id)); got != want {
			t.Errorf("%s says %q, want %q", id, got, want)
		}
	}
	if got := eval[string](t, ctx, `[...document.querySelectorAll("#peers-table tbody tr")].map((r) => r.children[0].textContent + "|" + r.children[13].textContent).join("; ")`); !strings.HasPrefix(got, "slot 2 (you)|") || strings.Count(got, "differs") != 1 {
		t.Errorf("peers: %s", got)
	}

	if got := eval[string](t, ctx, `[...document.querySelectorAll("#stage-arcs.shown path")].map((p) => p.textContent).join()`); got != n.StageMoves[0].Text {
		t.Errorf("arcs of moves: %q", got)
	}

	// Below the fold, by keyboard and button.
	eval[chromedp.Void](t, ctx, `for (const id of ["loss", "rate", "rounds"]) document.getElementById(id + "-as-table").click()`)
	for id, want := range map[string]int{"loss-table": 6, "rate-table": 2, "rounds-table": 3, "ledger-table": 2, "notes-table": 1, "peers-table": 6, "thanks-table": 2, "machine-log": 1} {
		if got := eval[int](t, ctx, fmt.Sprintf(`document.querySelectorAll("#%s tbody tr").length`, id)); got != want {
			t.Errorf("%s has %d rows, want %d", id, got, want)
		}
	}
	press := func(on, key string) {
		eval[chromedp.Void](t, ctx, fmt.Sprintf(`document.querySelector(%q).focus(); document.querySelector(%q).dispatchEvent(new KeyboardEvent("keydown", {key: %q, bubbles: true}))`, on, on, key))
	}
	press("#loss-plot", "Home")
	await(t, ctx, `document.querySelector("#loss-legend .where").textContent === "at 0 tokens"`)
	press("#rounds-plot svg", "Home")
	if got := eval[string](t, ctx, `document.getElementById("round-detail").innerText`); !strings.Contains(got, "fragment 0, version 29 → 30") || !strings.Contains(got, "waited: slot 3: 2 steps behind") {
		t.Errorf("first round: %s", got)
	}
	press("#rounds-plot svg", "ArrowRight")
	if got := eval[string](t, ctx, `document.getElementById("round-detail").innerText`); !strings.Contains(got, "failed: slab 3 below quorum") {
		t.Errorf("second round: %s", got)
	}
	eval[chromedp.Void](t, ctx, `document.getElementById("loss-log").click(); document.getElementById("theme").click(); document.getElementById("filter").value = "sync"; document.getElementById("filter").dispatchEvent(new Event("input"))`)
	if got := eval[int](t, ctx, `document.querySelectorAll("#peers-table tbody tr").length`); got != 1 {
		t.Errorf("%d peers match the filter, want 1", got)
	}

	// Nothing without a name, and no request outside.
	if got := eval[[]string](t, ctx, `[...document.querySelectorAll("button, input, [role=img], [role=region], progress")].filter((n) => !(n.textContent.trim() || n.ariaLabel || n.labels?.length || n.getAttribute("aria-labelledby"))).map((n) => n.id || n.outerHTML)`); len(got) > 0 {
		t.Errorf("without a name: %q", got)
	}
	if got := eval[[]string](t, ctx, `performance.getEntriesByType("resource").map((r) => r.name).filter((u) => !u.startsWith(location.origin + "/"))`); len(got) > 0 {
		t.Errorf("asks outside: %q", got)
	}
	do(t, ctx, chromedp.EmulateViewport(390, 844))
	eval[chromedp.Void](t, ctx, `for (const d of document.querySelectorAll("details")) d.open = true`)
	if got := eval[int](t, ctx, "document.documentElement.scrollWidth"); got > 390 {
		t.Errorf("a phone must scroll sideways: %d pixels wide", got)
	}
	n = sample()
	n.Run.Height = 119
	s.Publish(n)
	await(t, ctx, `document.getElementById("headline").textContent.includes("height 119")`)
	noFaults(t, ctx)
}

func pageEmpty(t *testing.T, ctx context.Context) {
	s := start(t, Config{})
	openPage(t, ctx, s)
	await(t, ctx, `document.getElementById("link-text").textContent === "Connected. The program is starting and has no figures yet."`)
	if got := eval[string](t, ctx, `document.getElementById("round-detail").textContent`); got != "" {
		t.Errorf("before it is known whose rounds these are it says %q", got)
	}
	s.Publish(&Snapshot{Role: "coordinator", Invite: "dunlin1-abc", Run: Run{Phase: "waiting"}, Speed: Speed{History: []Rate{{At: 1}, {At: 2}}}})
	await(t, ctx, `document.getElementById("peers-empty").textContent === "No worker yet. On another machine: dunlin join dunlin1-abc"`)
	for id, want := range map[string]string{"train": "–", "rate": "–", "bits": "–", "left": "waits for its first worker", "training": "0", "agree": "○ states not compared yet"} {
		if got := eval[string](t, ctx, fmt.Sprintf(`document.getElementById(%q).textContent`, id)); got != want {
			t.Errorf("%s says %q, want %q", id, got, want)
		}
	}
	if !eval[bool](t, ctx, `[...document.querySelectorAll("p.empty")].some((p) => !p.hidden && p.textContent.startsWith("No worker trains yet."))`) {
		t.Error("rates that are all 0 are drawn where nobody trained yet")
	}
	noFaults(t, ctx)
}

func pageReconnects(t *testing.T, ctx context.Context) {
	port := machine.FreePorts() // which the system gives to no connection that leaves while nobody listens
	if port == 0 {
		t.Fatal("no port is free")
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	s := start(t, Config{Listen: address})
	s.Publish(sample())
	openPage(t, ctx, s)
	await(t, ctx, `document.getElementById("train").textContent === "2.610"`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, `/^Not connected: the program has ended/.test(document.getElementById("link-text").textContent)`)
	await(t, ctx, `document.body.classList.contains("stale") && /stale since \d\d:\d\d:\d\d/.test(document.getElementById("link-text").textContent) && /^Next try in \d+ s/.test(document.getElementById("link-timer").textContent)`)
	again := start(t, Config{Listen: address})
	n := sample()
	n.Learning.Train = value(2.5)
	again.Publish(n)
	eval[chromedp.Void](t, ctx, `document.getElementById("link-now").click()`)
	await(t, ctx, `document.getElementById("train").textContent === "2.500" && !document.body.classList.contains("stale")`)
	noFaults(t, ctx)
}

func pageToken(t *testing.T, ctx context.Context) {
	s := start(t, Config{Token: token})
	s.Publish(sample())
	openPage(t, ctx, s)
	await(t, ctx, `document.getElementById("train").textContent === "2.610"`)
	if got := eval[string](t, ctx, "location.href"); strings.Contains(got, token) {
		t.Errorf("the address still shows the token: %s", got)
	}
	eval[chromedp.Void](t, ctx, `sessionStorage.clear()`)
	address, _, _ := strings.Cut(s.URL(), "?")
	do(t, ctx, chromedp.Navigate(address))
	await(t, ctx, `document.getElementById("link-text").textContent.startsWith("Not allowed: this needs the run's read token")`)
	if got := eval[string](t, ctx, `document.getElementById("train").textContent`); got != Unknown {
		t.Errorf("without the token the page shows %q", got)
	}
}

// The page reads the names that the Go fields have in JSON; this catches a
// renamed field without a browser.
func TestPageReadsFieldsThatExist(t *testing.T) {
	encoded, err := json.Marshal(finite(sample()))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app.js", "charts.js", "rounds.js"} {
		content, err := web.ReadFile("web/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"held_out_curve", "tokens_per_second", "seconds_left", "states_agree", "failed_attempts", "bytes_per_peer_day", "bytes_ratio_fp32_data_parallel", "upload_bits_per_parameter", "state_hash", "seen_seconds", "step_tokens", "token_budget"} {
			if strings.Contains(string(content), "."+field) && !strings.Contains(string(encoded), `"`+field+`"`) {
				t.Errorf("%s reads %s, which the snapshot does not have", name, field)
			}
		}
	}
}
