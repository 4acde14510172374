package status

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"dunlin/status/statustest"
)

// pageOwn shows a worker's page: its rounds from the snapshot to the merge, its class of device at the bottom of the stack,
// and no stages where there are none.
func pageOwn(t *testing.T, ctx context.Context) {
	s := start(t, Config{})
	n := sample()
	n.Role, n.Stages = "worker", nil
	n.Rounds = []Round{{
		Fragment: 1, Base: 28, Attempt: "1/57", Phase: "3 of 4 slabs have this worker's share", Members: 4, Overlap: 31,
		Snapshot: value(110), Ready: value(110.2), Opened: value(110.6), Summed: value(111), Held: value(111.5), Closed: value(112), Merged: value(112.4),
	}, {Fragment: 0, Base: 30, Phase: "encoding", Snapshot: value(129)}}
	s.Publish(n)
	openPage(t, ctx, s)
	await(t, ctx, `document.getElementById("rounds-whose").textContent === "Rounds of this worker"`)
	if got := eval[string](t, ctx, `[...document.querySelectorAll("#rounds-plot rect")].map((r) => r.getAttribute("class")).join(" ")`); got != "step-encode step-ready step-sum step-pull step-commit step-merge step-encode open chosen" {
		t.Errorf("bars: %s", got)
	}
	eval[chromedp.Void](t, ctx, `document.querySelector("#rounds-plot svg").dispatchEvent(new KeyboardEvent("keydown", {key: "Home", bubbles: true}))`)
	got := eval[string](t, ctx, `document.getElementById("round-detail").innerText`)
	for _, want := range []string{"fragment 1, version 28 → 29, 4 workers: committed in 2.0 s, merged 31 inner steps after its snapshot; 3 of 4 slabs", "encode 200 ms · wait for others 400 ms · send and sum 400 ms · fetch the sum 500 ms · commit 500 ms · merge 400 ms"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if got := eval[string](t, ctx, `[...document.querySelectorAll("#rate-legend .key")].map((k) => k.innerText.trim().replace(/\s+/g, " ")).join("; ")`); got != "cpu avx512 2,010; GeForce RTX 3060 6,030; all workers 8,040; you 2,010; workers 4" {
		t.Errorf("rates: %s", got)
	}
	if !eval[bool](t, ctx, `[...document.querySelectorAll("#peers-table thead th")].find((h) => h.textContent === "stage").hidden`) {
		t.Error("there is a stage column without stages")
	}
	noFaults(t, ctx)
}

// pageEntry opens a commit's table, and an entry that is not there.
func pageEntry(t *testing.T, ctx context.Context) {
	hash := sample().Run.StateHash
	s := start(t, Config{Entry: func(_ context.Context, height uint64) (*EntryDetail, error) {
		if height != 118 {
			return nil, fmt.Errorf("the ledger here ends at height 118")
		}
		return &EntryDetail{
			Entry: sample().Ledger[0], Hash: hash, Term: 1, State: &hash,
			Contributors: []Contributor{{Rank: 0, Slot: 2, Name: "Ana", Tokens: 6144, From: 24, To: 48, Weight: 6144, Clip: 0.5}},
			Slabs:        []Slab{{Slab: 0, Owner: "Ana", Bytes: 12_345, Members: 1}},
		}, nil
	}})
	s.Publish(sample())
	openPage(t, ctx, s)
	await(t, ctx, `document.querySelectorAll("#ledger-table tbody tr").length === 2`)
	eval[chromedp.Void](t, ctx, `document.querySelectorAll("#ledger-table button")[0].click()`)
	await(t, ctx, `document.querySelectorAll("#entry table").length === 2`)
	got := eval[string](t, ctx, `document.getElementById("entry").innerText`)
	for _, want := range []string{"Entry 118", "commit: fragment 1 to version 29", hash.String(), "Ana, slot 2", "24–48", "0.500", "12.3 kB"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	eval[chromedp.Void](t, ctx, `document.querySelectorAll("#ledger-table button")[1].click()`)
	await(t, ctx, `document.getElementById("entry").innerText.includes("the ledger here ends at height 118")`)
	eval[chromedp.Void](t, ctx, `document.getElementById("entry-close").click()`)
	if !eval[bool](t, ctx, `document.getElementById("entry").hidden && !document.querySelector("#ledger-table [aria-expanded=true]")`) {
		t.Error("a closed entry stays open")
	}
	noFaults(t, ctx)
}

// pageChanges types limits, sends them and is refused, and presses pause.
func pageChanges(t *testing.T, ctx context.Context) {
	changes := make(chan Change, 4)
	s := start(t, Config{Change: func(_ context.Context, c Change) error {
		if c.Limits["up"] == "1" {
			return errors.New(`up "1": no unit; allowed: like 10mbit`)
		}
		changes <- c
		return nil
	}})
	s.Publish(sample())
	openPage(t, ctx, s)
	await(t, ctx, `document.getElementById("limit-up")?.value === "8mbit" && document.getElementById("limit-pause-when-busy").checked`)
	if got := eval[string](t, ctx, `document.getElementById("machine-state").textContent`); !strings.HasPrefix(got, "◐ paused: outside its hours, 22:00-07:00, goes on at ") {
		t.Errorf("state: %q", got)
	}
	typed := func(text string) {
		eval[chromedp.Void](t, ctx, fmt.Sprintf(`{ const i = document.getElementById("limit-up"); i.value = %q; i.dispatchEvent(new Event("input")); document.getElementById("limits-apply").click(); }`, text))
	}
	if !eval[bool](t, ctx, `document.getElementById("limits-apply").disabled`) {
		t.Error("there is something to apply before anything is changed")
	}
	typed("1")
	await(t, ctx, `document.getElementById("limits-said").textContent === '✕ up "1": no unit; allowed: like 10mbit'`)
	typed("2mbit")
	await(t, ctx, `document.getElementById("limits-said").textContent.startsWith("done at ")`)
	if c := <-changes; c.Pause != nil || len(c.Limits) != 1 || c.Limits["up"] != "2mbit" {
		t.Errorf("the page sent %+v", c)
	}
	// Snapshots do not undo what is being typed, and take over what holds.
	eval[chromedp.Void](t, ctx, `{ const i = document.getElementById("limit-up"); i.value = "3mb"; i.dispatchEvent(new Event("input")); }`)
	n := sample()
	n.Run.Height, n.Machine.Limits[0].Value, n.Machine.Limits[1].Value = 120, "2mbit", "false"
	s.Publish(n)
	await(t, ctx, `!document.getElementById("limit-pause-when-busy").checked`)
	if got := eval[string](t, ctx, `document.getElementById("limit-up").value`); got != "3mb" {
		t.Errorf("a snapshot made %q of what was being typed", got)
	}
	eval[chromedp.Void](t, ctx, `document.getElementById("limits-back").click(); document.getElementById("pause").click()`)
	await(t, ctx, `document.getElementById("machine-said").textContent.startsWith("done at ") && document.getElementById("limit-up").value === "2mbit"`)
	if c := <-changes; c.Pause == nil || !*c.Pause || len(c.Limits) != 0 {
		t.Errorf("the pause button sent %+v", c)
	}
	// What it expects is said in the words of the terminal.
	for _, e := range []Traffic{{2.1e9, 2.1e9}, {45e6, 1.25e9}} {
		n = sample()
		n.Machine.Expects = &e
		s.Publish(n)
		await(t, ctx, fmt.Sprintf(`document.getElementById("machine-expects").textContent === %q`, e.String()))
	}
	n = sample()
	n.Machine = nil
	s.Publish(n)
	await(t, ctx, `document.getElementById("machine").hidden`)
	noFaults(t, ctx)
}

// pageLight weighs what a first visit loads, and sees when something is painted.
func pageLight(t *testing.T, ctx context.Context) {
	const most, soon = 300_000, 200 // bytes, ms
	s := start(t, Config{})
	s.Publish(sample())
	best := 1e9
	for try := 0; try < 30 && best > soon; try++ { // a machine that does other things paints late
		openPage(t, ctx, s)
		await(t, ctx, `document.getElementById("train").textContent === "2.610" && performance.getEntriesByName("first-contentful-paint").length > 0`)
		best = min(best, eval[float64](t, ctx, `performance.getEntriesByName("first-contentful-paint")[0].startTime`))
	}
	var weight int
	for address, a := range assets() {
		if strings.HasSuffix(address, ".txt") {
			continue // the licence, which no page loads
		}
		weight += len(a.(*asset).content)
	}
	statustest.Beside(t, "weight of the page", float64(weight), most, "bytes")
	statustest.Beside(t, "first paint", best, soon, "ms after navigation")
	if !eval[bool](t, ctx, `[...document.querySelectorAll("main article")].every((a) => a.getBoundingClientRect().bottom <= innerHeight)`) {
		t.Error("one must scroll for the four questions at 1440 by 900")
	}
}

// pageForEverybody has axe-core look at the page, light and dark, wide and narrow, with every part open.
func pageForEverybody(t *testing.T, ctx context.Context) {
	axe, err := os.ReadFile("testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{Change: func(context.Context, Change) error { return nil }})
	s.Publish(sample())
	for _, c := range []struct {
		look  string
		width int64
	}{{"light", 1440}, {"dark", 1440}, {"light", 390}} {
		do(t, ctx, chromedp.EmulateViewport(c.width, 900), chromedp.Navigate(s.URL()))
		eval[chromedp.Void](t, ctx, fmt.Sprintf(`document.documentElement.dataset.theme = %q; for (const d of document.querySelectorAll("details")) d.open = true;`, c.look))
		await(t, ctx, `document.getElementById("train").textContent === "2.610"`)
		eval[chromedp.Void](t, ctx, string(axe)+`; undefined`)
		found := eval[[]string](t, ctx, `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary.replace(/\s+/g, " "))))`)
		for _, f := range found {
			t.Errorf("%s at %d: %s", c.look, c.width, f)
		}
	}
}

// TestManyWatchers: a thousand open pages get no more than streamPace snapshots a second in all, each of them encoded once,
// and every page the newest.
func TestManyWatchers(t *testing.T) {
	inMemory(t, func(t *testing.T, s *Server, p *pipes) {
		const pages, shots = 1000, 8
		var all []<-chan event
		for range pages {
			all = append(all, watch(t, p))
		}
		for h := uint64(1); h <= shots; h++ {
			s.Publish(at(h))
			time.Sleep(pages * time.Second / streamPace)
		}
		for range 4*pages/streamPace - 1 { // two a second
			s.Publish(at(shots))
			time.Sleep(time.Second / 2)
		}
		for i, reads := range all {
			// In the end each gets two more, or one when they fall so.
			if got := heights(t, drain(reads)); len(got) < shots+1 || len(got) > shots+2 || got[len(got)-1] != shots {
				t.Errorf("page %d got %v", i, got)
			}
		}
	})
}
