package catchup

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

func hashOf(parts ...any) wire.Hash { return wire.HashLeaf([]byte(fmt.Sprint(parts...))) }

// slabCount is the number of slabs of each fragment of the tests' run.
const slabCount = 2

func testConfig() Config {
	state := []wire.FragmentHead{{State: stateOf(0, 0)}, {State: stateOf(1, 0)}}
	tensor := wire.TensorSpec{Name: "w", Shape: []uint64{100}}
	second := tensor
	second.Fragment = 1
	return Config{
		Self: peerNamed("s"), Coordinator: peerNamed("z"), State: state, Slabs: []int{slabCount, slabCount}, SlabBytes: []uint64{100, 100},
		Spec: &wire.RunSpec{Fragments: 2, Tensors: []wire.TensorSpec{tensor, second}},
	}
}

// manifestOf and stateOf are fragment f's state at a version of the honest run.
func manifestOf(f, version uint64) *wire.Manifest {
	man := &wire.Manifest{}
	for i := range slabCount {
		man.Slabs = append(man.Slabs, hashOf("slab", f, version, i))
	}
	return man
}

func stateOf(f, version uint64) wire.Hash { return wire.MerkleRoot(manifestOf(f, version).Slabs) }

// tableOf is the result of an attempt: slab i is summed by owner i.
func tableOf(f, base uint64, attempt wire.AttemptID, owners string) *wire.CommitTable {
	t := &wire.CommitTable{Contributors: []wire.Contributor{{Slot: 1, To: 1, Weight: 1}, {Slot: 2, To: 1, Weight: 1}}}
	for i := range slabCount {
		t.Slabs = append(t.Slabs, wire.SlabResult{
			Slab: uint64(i), Owner: peerNamed(owners[i:]), Hash: hashOf("frame", f, base, attempt, i), Length: 100, Weight: 2, Members: 3,
		})
	}
	return t
}

// world drives a Machine and keeps names for hashes.
type world struct {
	t       *testing.T
	cfg     Config
	m       *Machine
	now     time.Time
	start   time.Time
	height  uint64
	entries []Logged
	version [2]uint64
	names   map[string]wire.Hash // of refs, by what transcripts call them
	asked   []Fetch
	replies []Event // that the replica owes
	out     strings.Builder
	watch   func(Effect)
}

func newWorld(t *testing.T, cfg Config) *world {
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, cfg: cfg, m: m, now: time.Unix(1_700_000_000, 0), names: map[string]wire.Hash{}}
	w.start = w.now
	for f := range uint64(2) {
		for v := range uint64(30) {
			w.names[fmt.Sprintf("state-%d.%d", f, v)] = stateOf(f, v)
			for i, h := range manifestOf(f, v).Slabs {
				w.names[fmt.Sprintf("slab-%d.%d-%d", f, v, i)] = h
			}
		}
	}
	return w
}

// readable replaces hashes and ids by names.
func (w *world) readable(s string) string {
	var pairs []string
	for name, h := range w.names {
		pairs = append(pairs, h.Short(), name)
	}
	for c := 'a'; c <= 'z'; c++ {
		pairs = append(pairs, peerNamed(string(c)).Short(), string(c))
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

func (w *world) named(prefix string, f, base uint64, id wire.AttemptID, t *wire.CommitTable) {
	w.names[fmt.Sprintf("table-%d.%d-%s", f, base, id)] = wire.HashLeaf(wire.Encode(t))
	w.names[fmt.Sprintf("result-%d.%d-%s", f, base, id)] = t.ResultRoot()
	for i, s := range t.Slabs {
		w.names[fmt.Sprintf("%s-%d.%d-%s-%d", prefix, f, base, id, i)] = s.Hash
	}
}

func (w *world) step(ev Event) {
	fmt.Fprintf(&w.out, "%6s > %s\n", w.now.Sub(w.start), ev)
	for _, eff := range w.m.Step(w.now, ev) {
		fmt.Fprintf(&w.out, "         %s\n", eff)
		if w.watch != nil {
			w.watch(eff)
		}
		switch e := eff.(type) {
		case Fetch:
			w.asked = append(w.asked, e)
		case Prepare:
			w.replies = append(w.replies, Prepared{Fragment: e.Fragment, Base: e.Base, Attempt: e.Attempt, Result: e.Table.ResultRoot(), State: stateOf(e.Fragment, e.Base+1)})
		case Promote:
			w.replies = append(w.replies, Applied{Height: e.Height, State: stateOf(e.Commit.Fragment, e.Commit.Base+1)})
		case Apply:
			w.replies = append(w.replies, Applied{Height: e.Height, State: stateOf(e.Commit.Fragment, e.Commit.Base+1)})
		case SaveCheckpoint:
			w.replies = append(w.replies, CheckpointSaved(e))
		case LoadCheckpoint:
			w.replies = append(w.replies, Loaded{At: e.At})
		case Reread:
			for _, l := range w.entries[e.From-1:] {
				w.replies = append(w.replies, l)
			}
		case GetEntries, SendHave, DropShadow, Advanced, Jumped, Holds, CaughtUp, Repair, Note:
		}
	}
}

func (w *world) log(body wire.Body, table []byte) {
	w.height++
	e := Logged{Height: w.height, Term: 1, Body: body, Table: table}
	w.entries = append(w.entries, e)
	w.step(e)
}

// serve answers fetches: those of the peers named, or all.
func (w *world) serve(from string, gone bool) {
	for {
		i := slices.IndexFunc(w.asked, func(f Fetch) bool { return from == "" || f.Peer == peerNamed(from) })
		if i < 0 {
			return
		}
		f := w.asked[i]
		w.asked = slices.Delete(w.asked, i, i+1)
		if gone {
			w.step(FetchFailed{Ref: f.Ref, Peer: f.Peer, Reason: "not here", Gone: true})
			continue
		}
		done := Fetched{Ref: f.Ref}
		if f.Inline {
			done.Body = w.bytesOf(f.Ref)
		}
		w.step(done)
	}
}

func (w *world) bytesOf(ref Ref) []byte {
	for _, e := range w.entries {
		if c, ok := e.Body.(*wire.Commit); ok && c.Table == ref.Hash {
			return wire.Encode(tableOf(c.Fragment, c.Base, c.Attempt, "ab"))
		}
	}
	for f := range uint64(2) {
		for v := range uint64(30) {
			if stateOf(f, v) == ref.Hash {
				return wire.Encode(manifestOf(f, v))
			}
		}
	}
	w.t.Fatalf("nobody knows %s", ref)
	return nil
}

func (w *world) line(line string) {
	words := strings.Fields(line)
	if text, ok := strings.CutPrefix(words[0], "+"); ok {
		d, err := time.ParseDuration(text)
		if err != nil {
			w.t.Fatal(err)
		}
		w.now = w.now.Add(d)
		return
	}
	opt := map[string]string{"owners": "ab"}
	var args []string
	for _, word := range words[1:] {
		if k, v, ok := strings.Cut(word, "="); ok {
			opt[k] = v
		} else {
			args = append(args, word)
		}
	}
	num := func(i int) uint64 {
		n, err := strconv.ParseUint(args[i], 10, 64)
		if err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		return n
	}
	attempt := func() wire.AttemptID {
		n, _ := strconv.ParseUint(opt["attempt"], 10, 64)
		return wire.AttemptID{Term: 1, Counter: max(1, n)}
	}
	switch words[0] {
	case "up":
		w.step(PeerUp{Peer: peerNamed(args[0])})
	case "down":
		w.asked = slices.DeleteFunc(w.asked, func(f Fetch) bool { return f.Peer == peerNamed(args[0]) })
		w.step(PeerDown{Peer: peerNamed(args[0])})
	case "opened":
		w.step(Opened{Height: num(0)})
	case "member":
		w.log(&wire.Member{Op: wire.MemberAdmit, Slot: wire.Slot(num(0)), Peer: peerNamed(args[1])}, nil)
	case "results": // results F
		f, id := num(0), attempt()
		t := tableOf(f, w.version[f], id, opt["owners"])
		w.named("frame", f, w.version[f], id, t)
		w.step(ResultsFrom{Peer: w.cfg.Coordinator, Results: wire.Results{Fragment: f, Base: w.version[f], Attempt: id, Table: *t}})
	case "commit": // commit F: an entry; with "table" the table comes along
		f, id := num(0), attempt()
		t := tableOf(f, w.version[f], id, opt["owners"])
		w.named("frame", f, w.version[f], id, t)
		b := wire.Encode(t)
		c := &wire.Commit{
			Fragment: f, Base: w.version[f], BaseState: stateOf(f, w.version[f]), Attempt: id, Table: wire.HashLeaf(b),
			Result: t.ResultRoot(), State: stateOf(f, w.version[f]+1),
		}
		w.version[f]++
		if !slices.Contains(args, "table") {
			b = nil
		}
		w.log(c, b)
	case "mark", "complete":
		c := &wire.Checkpoint{At: w.height, Complete: words[0] == "complete"}
		if len(args) > 0 {
			c.At = num(0)
		}
		for f, v := range w.version {
			c.Fragments = append(c.Fragments, wire.FragmentHead{Version: v, State: stateOf(uint64(f), v)})
		}
		w.log(c, nil)
	case "hint":
		w.step(HeadHint{Peer: peerNamed(args[0]), Height: num(1)})
	case "sync":
		w.step(Sync{Head: num(0)})
	case "serve":
		w.serve(strings.Join(args, ""), false)
	case "gone":
		w.serve(strings.Join(args, ""), true)
	case "lacks": // the oldest fetch finds nothing
		f := w.asked[0]
		w.asked = w.asked[1:]
		w.step(FetchFailed{Ref: f.Ref, Peer: f.Peer, Reason: "not here", Gone: true})
	case "fail": // the oldest fetch fails
		f := w.asked[0]
		w.asked = w.asked[1:]
		w.step(FetchFailed{Ref: f.Ref, Peer: f.Peer, Reason: "stalled"})
	case "work": // the replica does what it was ordered, in order; with a number, so many answers
		most := len(w.replies) + 1000
		if len(args) > 0 {
			most = int(num(0))
		}
		for ; most > 0 && len(w.replies) > 0; most-- {
			ev := w.replies[0]
			w.replies = w.replies[1:]
			w.step(ev)
		}
	case "later": // the replica's next answer comes last
		w.replies = append(w.replies[1:], w.replies[0])
	case "differ": // the replica's next answer is of another state
		switch e := w.replies[0].(type) {
		case Applied:
			e.State = hashOf("another state")
			w.replies[0] = e
		case Prepared:
			e.State = hashOf("another state")
			w.replies[0] = e
		default:
			w.t.Fatalf("%v has no state", e)
		}
	case "refuse": // the replica cannot do what it was ordered
		ev := w.replies[0]
		w.replies = w.replies[1:]
		switch e := ev.(type) {
		case Applied:
			w.step(ApplyFailed{Height: e.Height, Reason: "disk full"})
		case Prepared:
			w.step(PrepareFailed{Fragment: e.Fragment, Base: e.Base, Attempt: e.Attempt, Result: e.Result, Reason: "disk full"})
		case Loaded:
			w.step(LoadFailed{At: e.At, Reason: "disk full"})
		case CheckpointSaved:
			w.step(SaveFailed{At: e.At, Reason: "disk full"})
		}
	case "reconnected":
		w.step(Reconnected{})
	case "tick":
		at := w.m.Deadline()
		if at.IsZero() {
			w.out.WriteString("no deadline\n")
			return
		}
		if at.After(w.now) {
			w.now = at
		}
		w.step(Tick{})
	case "show":
		s := w.m.Snapshot()
		fmt.Fprintf(&w.out, "applied %d logged %d target %d behind %d fetching %d loading %d holds %d waiting %q\n",
			s.Applied, s.Logged, s.Target, s.Behind, s.Fetching, s.Loading, s.Holds, s.Waiting)
	default:
		w.t.Fatalf("unknown line %q", line)
	}
}

func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "fuzz") {
			return
		}
		var w *world
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				cfg := testConfig()
				if d.HasArg("coordinator") {
					cfg.Coordinator = cfg.Self
				}
				w = newWorld(t, cfg)
			}
			w.t = t
			w.out.Reset()
			for line := range strings.Lines(d.Input) {
				if strings.TrimSpace(line) != "" {
					w.line(strings.TrimSpace(line))
				}
			}
			return w.readable(w.out.String())
		})
	})
}

// TestAnswerAboutAnEarlierSum: the results of an attempt are announced anew
// while the first ones are being prepared; the answer about those says nothing
// about the new ones.
func TestAnswerAboutAnEarlierSum(t *testing.T) {
	w := newWorld(t, testConfig())
	w.step(PeerUp{Peer: peerNamed("a")})
	w.step(PeerUp{Peer: peerNamed("b")})
	id := wire.AttemptID{Term: 1, Counter: 1}
	announce := func(owners string) *wire.CommitTable {
		table := tableOf(0, 0, id, owners)
		table.Slabs[0].Hash = hashOf("summed by", owners)
		w.step(ResultsFrom{Peer: w.cfg.Coordinator, Results: wire.Results{Attempt: id, Table: *table}})
		w.serve("", false)
		return table
	}
	first, second := announce("ab"), announce("bb")
	haves := func(ev Event) (out []wire.Have) {
		for _, e := range w.m.Step(w.now, ev) {
			if h, ok := e.(SendHave); ok {
				out = append(out, h.Have)
			}
		}
		return out
	}
	if h := haves(Prepared{Attempt: id, Result: first.ResultRoot(), State: hashOf("first")}); len(h) != 0 {
		t.Fatalf("has %v after the answer about the first sum", h)
	}
	h := haves(Prepared{Attempt: id, Result: second.ResultRoot(), State: hashOf("second")})
	if len(h) != 1 || h[0].Result != second.ResultRoot() || h[0].State != hashOf("second") {
		t.Fatalf("has %v after the answer about the second sum", h)
	}
}
