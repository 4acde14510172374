package round

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

// The transcripts of testdata: events in, effects out, one file a story. Run
// with -rewrite to accept a change, and read the difference.

func TestLeaderTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/leader", func(t *testing.T, path string) {
		s := &leaderStory{names: names{}, tables: make(map[uint64]*wire.AttemptTable), owners: make(map[uint64][]uint64), results: make(map[uint64]wire.Hash)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.names.replace(s.command(t, d)) })
	})
}

func TestOwnerTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/owner", func(t *testing.T, path string) {
		s := &ownerStory{names: names{}, tables: make(map[wire.AttemptID]*wire.AttemptTable)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.names.replace(s.command(t, d)) })
	})
}

func TestMemberTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/member", func(t *testing.T, path string) {
		s := &memberStory{names: names{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.names.replace(s.command(t, d)) })
	})
}

var storyStart = time.Unix(0, 0)

// names writes the short forms of ids as the words they were made from.
type names map[string]string

func (n names) hash(text string) wire.Hash {
	h := wire.HashLeaf([]byte(text))
	n[h.Short()] = text
	return h
}

func (n names) peer(slot uint64) wire.PeerID {
	p := wire.PeerID{byte(slot), 0xff}
	n[p.Short()] = fmt.Sprintf("p%d", slot)
	return p
}

func (n names) seed() wire.PeerID {
	p := wire.PeerID{0xee}
	n[p.Short()] = "seed"
	return p
}

func (n names) replace(s string) string {
	var pairs []string
	for short, name := range n {
		pairs = append(pairs, short, name)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

// argument returns an argument's first value, or a default.
func argument(d *datadriven.TestData, key, otherwise string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return strings.Join(a.Vals, ",")
		}
	}
	return otherwise
}

func number(t *testing.T, d *datadriven.TestData, key string, otherwise uint64) uint64 {
	s := argument(d, key, strconv.FormatUint(otherwise, 10))
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		d.Fatalf(t, "%s=%s: %v", key, s, err)
	}
	return n
}

// slots returns the bare arguments, which are slots or ranks.
func bare(t *testing.T, d *datadriven.TestData) []uint64 {
	var out []uint64
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			n, err := strconv.ParseUint(strings.TrimRight(a.Key, "-~"), 10, 64)
			if err != nil {
				continue
			}
			out = append(out, n)
		}
	}
	return out
}

func parseList(t *testing.T, text string) []uint64 {
	var out []uint64
	for _, part := range strings.Split(text, ",") {
		if part == "" {
			continue
		}
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func parseSpec(t *testing.T, d *datadriven.TestData) Spec {
	s := Spec{
		H: number(t, d, "h", 10), StepTokens: 256, Context: 128,
		Deadlines: wire.DeadlineSpec{ReadyMin: 1000, Stall: 3000, Attempt: 15000, Leave: 5000, Silence: 45000},
	}
	s.Delay = d.HasArg("delay")
	for _, n := range parseList(t, argument(d, "slabs", "3")) {
		s.Slabs = append(s.Slabs, int(n))
	}
	if d.HasArg("staged") {
		s.Stages = make([]uint64, len(s.Slabs))
	}
	return s
}

func lines(effects []Effect, deadline time.Time) string {
	var b strings.Builder
	for _, e := range effects {
		fmt.Fprintln(&b, e)
	}
	if deadline.IsZero() {
		fmt.Fprintln(&b, "(no deadline)")
	} else {
		fmt.Fprintf(&b, "(deadline %s)\n", deadline.Sub(storyStart))
	}
	return b.String()
}

// elapse moves the time on and sends every tick that is due on the way.
func elapse(t *testing.T, d *datadriven.TestData, now *time.Time, deadline func() time.Time, step func(Event) []Effect) []Effect {
	by, err := time.ParseDuration(d.CmdArgs[0].Key)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	end := now.Add(by)
	var out []Effect
	for range 100 {
		next := deadline()
		if next.IsZero() || next.After(end) {
			break
		}
		*now = next
		out = append(out, step(Tick{})...)
	}
	*now = end
	return out
}

type leaderStory struct {
	names   names
	now     time.Time
	leader  *Leader
	height  uint64
	term    uint64
	pending []Logged
	tables  map[uint64]*wire.AttemptTable // by fragment, newest
	owners  map[uint64][]uint64           // by fragment: owner rank of each slab
	ids     map[uint64]wire.AttemptID
	results map[uint64]wire.Hash
	members []Worker
}

func (s *leaderStory) step(ev Event) []Effect {
	effects := s.leader.Step(s.now, ev)
	for _, e := range effects {
		switch e := e.(type) {
		case Append:
			a := e.Body.(*wire.Attempt)
			var table wire.AttemptTable
			if err := wire.Decode(e.Table, &table); err != nil {
				panic(err)
			}
			s.tables[a.Fragment], s.ids[a.Fragment] = &table, a.ID
			s.owners[a.Fragment] = nil
			for _, share := range table.Owners {
				for range share.To - share.From {
					s.owners[a.Fragment] = append(s.owners[a.Fragment], share.Owner)
				}
			}
			s.pending = append(s.pending, Logged{Term: s.term, Body: a, Table: e.Table})
		case ProposeCommit:
			s.pending = append(s.pending, Logged{Term: s.term, Body: &e.Commit, Table: e.Table})
		case Send:
			switch m := e.Message.(type) {
			case *wire.Reassign:
				for _, slab := range m.Slabs {
					s.owners[m.Fragment][slab] = m.Owner
				}
			case *wire.Results:
				s.results[m.Fragment] = m.Table.ResultRoot()
				s.names[m.Table.ResultRoot().Short()] = fmt.Sprintf("result-%s", m.Attempt)
			}
		}
	}
	return effects
}

func (s *leaderStory) command(t *testing.T, d *datadriven.TestData) string {
	f := number(t, d, "f", 0)
	var out []Effect
	if slices.Contains([]string{"log", "drop", "unknown"}, d.Cmd) && len(s.pending) == 0 {
		return "(nothing is pending)\n"
	}
	switch d.Cmd {
	case "new":
		spec := parseSpec(t, d)
		s.term, s.now, s.ids = number(t, d, "term", 1), storyStart, make(map[uint64]wire.AttemptID)
		cfg := LeaderConfig{Spec: spec, Term: s.term, Seed: s.names.seed(), Settings: wire.Settings{Phase: wire.PhaseTraining}}
		for i := range spec.Slabs {
			v := number(t, d, "version", 0)
			cfg.Heads = append(cfg.Heads, wire.FragmentHead{Version: v, State: s.names.hash(fmt.Sprintf("state-f%d@%d", i, v))})
		}
		leader, err := NewLeader(cfg)
		if err != nil {
			return err.Error()
		}
		s.leader = leader
	case "members":
		s.members = nil
		for _, a := range d.CmdArgs {
			n, err := strconv.ParseUint(strings.TrimRight(a.Key, "-~"), 10, 64)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			s.members = append(s.members, Worker{
				Slot: wire.Slot(n), Peer: s.names.peer(n), StepTime: 100_000,
				Connected: !strings.HasSuffix(a.Key, "-"), Active: !strings.HasSuffix(a.Key, "-") && !strings.HasSuffix(a.Key, "~"),
			})
		}
		out = s.step(Members{s.members})
	case "ready":
		for _, slot := range bare(t, d) {
			out = append(out, s.step(s.ready(t, d, slot, f))...)
		}
	case "advance":
		out = elapse(t, d, &s.now, s.leader.Deadline, s.step)
	case "log":
		out = s.log(s.pending[0])
		s.pending = s.pending[1:]
	case "drop", "unknown":
		body := s.pending[0].Body
		ev := AppendFailed{Kind: body.Kind(), Fragment: f, Attempt: s.ids[f], Reason: d.Cmd}
		if d.Cmd == "drop" {
			s.pending = s.pending[1:]
		}
		out = s.step(ev)
	case "settings":
		body := &wire.Settings{Phase: wire.PhaseTraining, Reason: "changed"}
		if d.HasArg("ended") {
			body.Phase = wire.PhaseEnded
		}
		if d.HasArg("paused") {
			body.Phase = wire.PhasePaused
		}
		body.Solo = d.HasArg("solo")
		out = s.log(Logged{Term: s.term, Body: body})
	case "leave":
		for _, slot := range bare(t, d) {
			out = append(out, s.log(Logged{Term: s.term, Body: &wire.Member{Op: wire.MemberLeave, Slot: wire.Slot(slot)}})...)
		}
	case "commit-elsewhere":
		out = s.log(Logged{Term: number(t, d, "term", s.term), Body: &wire.Commit{
			Fragment: f, Base: number(t, d, "base", 0), Attempt: wire.AttemptID{Term: number(t, d, "term", s.term), Counter: number(t, d, "counter", 1)},
			Result: s.names.hash("their-result"), State: s.names.hash("their-state"),
		}})
	case "done":
		out = s.done(t, d, f)
	case "failed":
		for _, slot := range bare(t, d) {
			out = append(out, s.step(SlabFailedFrom{s.names.peer(slot), wire.SlabFailed{
				Fragment: f, Attempt: s.ids[f], Slab: number(t, d, "slab", 0), Missing: number(t, d, "missing", 0), Reason: "test",
			}})...)
		}
	case "have":
		result := s.results[f]
		if d.HasArg("result") {
			result = s.names.hash(argument(d, "result", ""))
		}
		have := wire.Have{
			Fragment: f, Base: number(t, d, "base", 0), Attempt: s.attemptID(t, d, f), Result: result,
			State: s.names.hash(argument(d, "state", "new-state")),
		}
		if d.HasArg("seed") {
			out = s.step(HaveFrom{s.names.seed(), have})
		}
		for _, slot := range bare(t, d) {
			out = append(out, s.step(HaveFrom{s.names.peer(slot), have})...)
		}
	case "seed-has":
		for _, slab := range bare(t, d) {
			out = append(out, s.step(SeedHas{s.names.hash(argument(d, "frame", fmt.Sprintf("frame-%d", slab)))})...)
		}
	case "seed-refuses":
		out = s.step(SeedRefused{f, s.ids[f], s.results[f], number(t, d, "slab", 0), "garbage"})
	case "table":
		return s.table(f)
	case "status":
		return s.status()
	case "owing":
		words := []string{"owing:"}
		for _, p := range s.leader.Owing() {
			words = append(words, p.Short())
		}
		return strings.Join(words, " ") + "\n"
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return lines(out, s.leader.Deadline())
}

func (s *leaderStory) attemptID(t *testing.T, d *datadriven.TestData, f uint64) wire.AttemptID {
	id := s.ids[f]
	id.Counter = number(t, d, "counter", id.Counter)
	return id
}

func (s *leaderStory) ready(t *testing.T, d *datadriven.TestData, slot, f uint64) ReadyFrom {
	base, from, to := number(t, d, "base", 0), number(t, d, "from", 0), number(t, d, "to", 10)
	tokens := number(t, d, "tokens", (to-from)*256)
	windows := number(t, d, "windows", (tokens+127)/128)
	return ReadyFrom{
		Peer: s.names.peer(number(t, d, "peer", slot)),
		Ready: wire.SignedReady{Ready: wire.Ready{
			Slot: wire.Slot(slot), Fragment: f, Base: base, Root: s.names.hash(argument(d, "root", fmt.Sprintf("c%d.%d.%d", slot, f, base))),
			From: from, To: to, Tokens: tokens, Windows: []wire.Range{{From: slot << 20, To: slot<<20 + windows}}, Norm: wire.FloatOf(1), StepTime: 100_000,
		}},
	}
}

func (s *leaderStory) log(entry Logged) []Effect {
	s.height++
	entry.Height = s.height
	if entry.Term == 0 {
		entry.Term = s.term
	}
	return s.step(entry)
}

// done lets the named slots (all without any) finish the slabs that they own,
// or those given.
func (s *leaderStory) done(t *testing.T, d *datadriven.TestData, f uint64) []Effect {
	table := s.tables[f]
	slots := bare(t, d)
	if len(slots) == 0 {
		for i := range table.Members {
			slots = append(slots, uint64(table.Members[i].Ready.Ready.Slot))
		}
	}
	in := number(t, d, "members", allRanks(len(table.Members)))
	var out []Effect
	for _, slot := range slots {
		rank := slices.IndexFunc(table.Members, func(m wire.AttemptMember) bool { return uint64(m.Ready.Ready.Slot) == slot })
		m := wire.SlabDone{Fragment: f, Attempt: s.attemptID(t, d, f)}
		only := parseList(t, argument(d, "slabs", ""))
		for slab, owner := range s.owners[f] {
			if (len(only) == 0 && int(owner) == rank) || slices.Contains(only, uint64(slab)) {
				frame := fmt.Sprintf("frame-%d", slab)
				if in != allRanks(len(table.Members)) {
					frame = fmt.Sprintf("frame-%d-of-%b", slab, in)
				}
				m.Slabs = append(m.Slabs, wire.SlabResult{
					Slab: uint64(slab), Owner: s.names.peer(slot), Hash: s.names.hash(frame), Length: 1000,
					Weight: number(t, d, "weight", weightOf(table.Members, in)), Members: in,
				})
			}
		}
		if len(m.Slabs) > 0 {
			out = append(out, s.step(SlabDoneFrom{s.names.peer(slot), m})...)
		}
	}
	return out
}

func (s *leaderStory) table(f uint64) string {
	var b strings.Builder
	t := s.tables[f]
	for r, m := range t.Members {
		fmt.Fprintf(&b, "rank %d: slot %d, weight %d, clip %g\n", r, m.Ready.Ready.Slot, m.Weight, m.Clip.Value())
	}
	for _, o := range t.Owners {
		fmt.Fprintf(&b, "slabs %d-%d: rank %d, then %d\n", o.From, o.To, o.Owner, o.Standby)
	}
	fmt.Fprintf(&b, "pace %d µs\n", t.Pace)
	return b.String()
}

func (s *leaderStory) status() string {
	var b strings.Builder
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Sub(storyStart).String()
	}
	row := func(r RoundStatus) {
		fmt.Fprintf(&b, "f%d@%d %s %s: ready %s, opened %s, summed %s, held %s, closed %s %s\n",
			r.Fragment, r.Version, r.Attempt, r.Phase, at(r.FirstReady), at(r.Opened), at(r.Summed), at(r.Held), at(r.Closed), r.Failed)
		for _, w := range r.Waiting {
			fmt.Fprintf(&b, "  waits for slot %d: %s\n", w.Slot, w.Reason)
		}
		for _, f := range r.Failures {
			fmt.Fprintf(&b, "  failed at %s: %s: %s\n", at(f.At), f.Attempt, f.Reason)
		}
	}
	snapshot := s.leader.Snapshot()
	for _, r := range snapshot.Closed {
		row(r)
	}
	for _, r := range snapshot.Rounds {
		row(r)
	}
	fmt.Fprintf(&b, "%d attempts, %d failed\n", snapshot.Attempts, snapshot.Failed)
	return b.String()
}
