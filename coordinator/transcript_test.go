package coordinator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dunlin/wire"
)

// peerNamed returns the peer that transcripts call by a letter.
func peerNamed(name string) wire.PeerID {
	var p wire.PeerID
	for i := range p {
		p[i] = name[0]
	}
	return p
}

// letters turns peers' ids into the letters that transcripts use.
func letters() *strings.Replacer {
	var pairs []string
	for c := 'a'; c <= 'z'; c++ {
		pairs = append(pairs, peerNamed(string(c)).Short(), string(c))
	}
	return strings.NewReplacer(pairs...)
}

func testSpec() *wire.RunSpec {
	return &wire.RunSpec{
		Protocol: wire.Protocol, Fragments: 2, H: 10, TokenBudget: 4000, Checkpoint: 4, Deadlines: wire.DefaultDeadlines(),
		Model: wire.ModelSpec{Context: 10}, Data: wire.DataSpec{Batch: 2, Windows: 1000}, Outer: wire.OuterSpec{LR: wire.FloatOf(0.5)},
	}
}

func hashOf(text string) wire.Hash { return wire.HashLeaf([]byte(text)) }

// world drives a Machine and plays its log.
type world struct {
	t       *testing.T
	m       *Machine
	now     time.Time
	start   time.Time
	spec    *wire.RunSpec
	height  uint64
	term    uint64
	lost    []Logged // by a restored backup
	entries []Logged
	queue   []wire.Body
	counter uint64
	out     strings.Builder
}

func newWorld(t *testing.T, spec *wire.RunSpec, limit int) *world {
	w := &world{t: t, spec: spec, now: time.Unix(1_700_000_000, 0)}
	w.start = w.now
	w.fresh(limit)
	return w
}

func (w *world) fresh(limit int) {
	state := make([]wire.FragmentHead, w.spec.Fragments)
	for f := range state {
		state[f].State = hashOf(fmt.Sprint("state 0 of ", f))
	}
	m, err := New(Config{Spec: w.spec, Run: hashOf("run"), Self: peerNamed("z"), State: state, Limit: limit})
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = m
}

func (w *world) step(ev Event) {
	fmt.Fprintf(&w.out, "%6s > %s\n", w.now.Sub(w.start), ev)
	for _, eff := range w.m.Step(w.now, ev) {
		fmt.Fprintf(&w.out, "         %s\n", eff)
		switch e := eff.(type) {
		case Append:
			w.queue = append(w.queue, e.Body)
		case RaiseTerm:
			w.term = e.Term
		default:
		}
	}
}

// log puts the oldest proposal into the log.
func (w *world) log(body wire.Body, table []byte) {
	w.height++
	e := Logged{Height: w.height, Term: w.term, Body: body, Table: table}
	w.entries = append(w.entries, e)
	w.step(e)
}

// line plays one line of a script.
func (w *world) line(line string) {
	words := strings.Fields(line)
	if d, ok := strings.CutPrefix(words[0], "+"); ok {
		step, err := time.ParseDuration(d)
		if err != nil {
			w.t.Fatal(err)
		}
		w.now = w.now.Add(step)
		words = words[1:]
		if len(words) == 0 {
			return
		}
	}
	opt := map[string]string{}
	var args []string
	for _, word := range words[1:] {
		if k, v, ok := strings.Cut(word, "="); ok {
			opt[k] = v
		} else {
			args = append(args, word)
		}
	}
	num := func(key string) uint64 {
		if opt[key] == "" {
			return 0
		}
		n, err := strconv.ParseUint(opt[key], 10, 64)
		if err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		return n
	}
	var peer wire.PeerID
	if len(args) > 0 {
		peer = peerNamed(args[0])
	}
	switch words[0] {
	case "started":
		w.step(Started{Term: w.term})
	case "raised":
		w.step(TermRaised{Term: w.term})
	case "current":
		w.step(Started{Term: w.term, Current: true})
	case "reign": // of another coordinator
		w.term = num("term")
	case "deposed":
		w.step(Deposed{Reason: "another leads"})
	case "lead":
		w.step(Started{Term: w.term})
		w.step(TermRaised{Term: w.term})
	case "hello":
		h := wire.Hello{Protocol: wire.Protocol, Run: hashOf("run"), Role: wire.RoleWorker, Slot: wire.Slot(num("slot")), Head: num("head"), HeadTerm: num("term")}
		if opt["role"] == "observer" {
			h.Role = wire.RoleObserver
		}
		if opt["protocol"] != "" {
			h.Protocol = num("protocol")
		}
		if opt["run"] != "" {
			h.Run = hashOf(opt["run"])
		}
		h.Secret = []byte(opt["secret"])
		w.step(HelloFrom{Peer: peer, Hello: h, Fork: opt["fork"] != ""})
	case "beat":
		states := map[string]wire.WorkerState{"syncing": wire.StateSyncing, "warming": wire.StateWarming, "training": wire.StateTraining, "draining": wire.StateDraining}
		w.step(HeartbeatFrom{Peer: peer, Heartbeat: wire.Heartbeat{
			Slot: wire.Slot(num("slot")), State: states[args[1]], Height: num("height"), Step: num("step"), Holds: num("holds"),
		}})
	case "ask":
		w.step(LeaseAsked{Peer: peer, Request: wire.LeaseRequest{Slot: wire.Slot(num("slot")), Windows: num("windows")}})
	case "leave":
		w.step(LeaveFrom{Peer: peer, Leave: wire.Leave{Slot: wire.Slot(num("slot")), Reason: "ctrl-c"}})
	case "up":
		w.step(Connected{Peer: peer})
	case "down":
		w.step(Disconnected{Peer: peer, Reason: "reset"})
	case "ban":
		w.step(Banned{Peer: peer, Reason: "poison"})
	case "holds":
		w.step(SeedHolds{At: num("at")})
	case "organise":
		phases := map[string]wire.Phase{"train": wire.PhaseTraining, "pause": wire.PhasePaused, "end": wire.PhaseEnded}
		change := Change{Phase: phases[args[0]], Reason: "by hand", H: num("h"), Workers: num("workers")}
		if names, ok := opt["secrets"]; ok {
			change.Access = &wire.Access{}
			for name := range strings.FieldsFuncSeq(names, func(r rune) bool { return r == ',' }) {
				change.Access.Secrets = append(change.Access.Secrets, hashOf(name))
			}
		}
		w.step(Organised{Change: change})
	case "fail":
		body := w.queue[0]
		w.queue = w.queue[1:]
		w.step(AppendFailed{Body: body, Reason: "disk full"})
	case "lose":
		w.queue = nil
	case "log":
		for len(w.queue) > 0 {
			body := w.queue[0]
			w.queue = w.queue[1:]
			w.log(body, nil)
		}
	case "attempt", "commit":
		w.round(words[0], num("fragment"), args)
	case "adopt":
		for _, e := range w.lost {
			w.height++
			w.entries = append(w.entries, e)
			w.step(e)
		}
		w.lost = nil
	case "tick":
		if w.m.Deadline().IsZero() {
			w.out.WriteString("no deadline\n")
			return
		}
		if at := w.m.Deadline(); at.After(w.now) {
			w.now = at
		}
		w.step(Tick{})
	case "check":
		r := wire.Ready{Slot: wire.Slot(num("slot")), Fragment: num("fragment"), Tokens: num("tokens"), Windows: parseRanges(w.t, args)}
		fmt.Fprintf(&w.out, "%s: %v\n", line, w.m.CheckReady(&r))
	case "show":
		s := w.m.Snapshot()
		fmt.Fprintf(&w.out, "%s %s height %d term %d tokens %d windows %d leased %d returned %d keep %d complete %d\n",
			s.Reign, s.Phase, s.Height, s.Term, s.Tokens, s.Windows, s.Leased, s.Returned, s.KeepFrom, s.Complete)
	default:
		w.t.Fatalf("unknown line %q", line)
	}
}

func parseRanges(t *testing.T, words []string) []wire.Range {
	var out []wire.Range
	for _, word := range words {
		var r wire.Range
		if _, err := fmt.Sscanf(word, "%d-%d", &r.From, &r.To); err != nil {
			t.Fatalf("range %q: %v", word, err)
		}
		out = append(out, r)
	}
	return out
}

// round logs an attempt or a commit of contributions "slot:from-to,from-to".
func (w *world) round(kind string, fragment uint64, args []string) {
	var commit wire.CommitTable
	var attempt wire.AttemptTable
	for _, arg := range args {
		slotText, rangeText, _ := strings.Cut(arg, ":")
		n, err := strconv.Atoi(slotText)
		if err != nil {
			w.t.Fatal(err)
		}
		windows := parseRanges(w.t, strings.Split(rangeText, ","))
		commit.Contributors = append(commit.Contributors, wire.Contributor{Slot: wire.Slot(n), From: 0, To: 1, Windows: windows})
		attempt.Members = append(attempt.Members, wire.AttemptMember{Ready: wire.SignedReady{Ready: wire.Ready{Slot: wire.Slot(n), Windows: windows}}})
	}
	head := w.m.Heads()[fragment]
	if kind == "attempt" {
		w.counter++
		table := wire.Encode(&attempt)
		w.log(&wire.Attempt{Fragment: fragment, Base: head.Version, ID: wire.AttemptID{Term: w.term, Counter: w.counter}, Table: wire.HashLeaf(table)}, table)
		return
	}
	commit.Slabs = []wire.SlabResult{{Members: 1<<len(args) - 1}}
	table := wire.Encode(&commit)
	w.log(&wire.Commit{
		Fragment: fragment, Base: head.Version, Attempt: wire.AttemptID{Term: w.term, Counter: w.counter}, Table: wire.HashLeaf(table),
		Tokens: w.m.TokensAfter(&commit), State: hashOf(fmt.Sprint("state", fragment, head.Version+1)),
	}, table)
}

func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/coordinator", func(t *testing.T, path string) {
		var w *world
		names := letters()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			limit := 8
			if d.Cmd == "new" || d.Cmd == "restart" {
				if d.HasArg("limit") {
					d.ScanArgs(t, "limit", &limit)
				}
			}
			switch d.Cmd {
			case "new":
				w = newWorld(t, testSpec(), limit)
				if d.HasArg("checkpoint") {
					d.ScanArgs(t, "checkpoint", &w.spec.Checkpoint)
				}
				if d.HasArg("secret") {
					var secret string
					d.ScanArgs(t, "secret", &secret)
					w.spec.Secret = wire.HashLeaf([]byte(secret))
				}
			case "restart":
				// The log is replayed into a new machine; "forget" drops its newest
				// entries, as a restored backup does.
				forget := 0
				if d.HasArg("forget") {
					d.ScanArgs(t, "forget", &forget)
				}
				w.fresh(limit)
				w.queue = nil
				kept := len(w.entries) - forget
				for _, e := range w.entries[:kept] {
					if effects := w.m.Step(w.now, e); len(effects) > 0 {
						t.Fatalf("replaying %s did %v", e, effects)
					}
				}
				w.lost, w.entries, w.height = slices.Clone(w.entries[kept:]), w.entries[:kept], uint64(kept)
			case "run":
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			w.t = t
			w.out.Reset()
			for line := range strings.Lines(d.Input) {
				if strings.TrimSpace(line) != "" {
					w.line(strings.TrimSpace(line))
				}
			}
			return names.Replace(w.out.String())
		})
	})
}
