package round

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dunlin/wire"
)

// The stories of an owner and of a member; that of a leader is in transcript_test.go.

type ownerStory struct {
	names  names
	now    time.Time
	owner  *Owner
	spec   Spec
	id     wire.AttemptID
	tables map[wire.AttemptID]*wire.AttemptTable
	asked  []FetchSlab
	sums   []SumSlab
}

func (s *ownerStory) step(ev Event) []Effect {
	effects := s.owner.Step(s.now, ev)
	for _, e := range effects {
		switch e := e.(type) {
		case FetchSlab:
			s.asked = append(s.asked, e)
		case SumSlab:
			s.sums = append(s.sums, e)
		}
	}
	return effects
}

func (s *ownerStory) command(t *testing.T, d *datadriven.TestData) string {
	var out []Effect
	switch d.Cmd {
	case "new":
		s.spec, s.now = parseSpec(t, d), storyStart
		owner, err := NewOwner(s.spec, s.names.peer(number(t, d, "self", 1)))
		if err != nil {
			return err.Error()
		}
		s.owner = owner
	case "attempt":
		out = s.attempt(t, d)
	case "fetched", "fetch-failed":
		out = s.answer(t, d)
	case "summed", "sum-failed":
		sums := s.sums
		s.sums = nil
		for _, e := range sums {
			if only := parseList(t, argument(d, "slabs", "")); len(only) > 0 && !slices.Contains(only, e.Slab) {
				s.sums = append(s.sums, e)
				continue
			}
			if d.Cmd == "sum-failed" {
				out = append(out, s.step(SumFailed{Fragment: e.Fragment, Attempt: e.Attempt, Slab: e.Slab, Reason: "disk full"})...)
				continue
			}
			hash := s.names.hash(fmt.Sprintf("frame-%d", e.Slab))
			out = append(out, s.step(Summed{
				Fragment: e.Fragment, Attempt: e.Attempt, Slab: e.Slab, Hash: hash, Length: 1000, Members: number(t, d, "members", e.Ranks),
			})...)
		}
	case "reassign":
		reason := "test"
		if d.HasArg("gone") {
			reason = ownerGone
		}
		out = s.step(Reassigned{wire.Reassign{
			Attempt: s.id, Slabs: parseList(t, argument(d, "slabs", "")), Owner: number(t, d, "owner", 0), Reason: reason,
		}})
	case "commit":
		out = s.step(Logged{Body: &wire.Commit{Base: number(t, d, "base", 0), Attempt: s.id, Result: s.names.hash("r"), State: s.names.hash("s")}})
	case "down", "up":
		for _, n := range bare(t, d) {
			var ev Event = PeerDown{s.names.peer(n)}
			if d.Cmd == "up" {
				ev = PeerUp{s.names.peer(n)}
			}
			out = append(out, s.step(ev)...)
		}
	case "reconnected":
		out = s.step(Reconnected{})
	case "advance":
		out = elapse(t, d, &s.now, s.owner.Deadline, s.step)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return lines(out, s.owner.Deadline())
}

// attempt opens one of the slots given; all have equal weights and shares.
func (s *ownerStory) attempt(t *testing.T, d *datadriven.TestData) []Effect {
	base := number(t, d, "base", 0)
	var members []candidate
	for _, slot := range bare(t, d) {
		c := someone(wire.Slot(slot), 1000, 1, 0)
		c.worker.Peer = s.names.peer(slot)
		c.ready.Ready.Root = s.names.hash(fmt.Sprintf("c%d@%d", slot, base))
		members = append(members, c)
	}
	s.id = wire.AttemptID{Term: 1, Counter: number(t, d, "counter", s.id.Counter+1)}
	table := attemptTable(members, shares(members, s.spec.Slabs[0], number(t, d, "turn", 0)), 0)
	s.tables[s.id] = table
	encoded := wire.Encode(table)
	body := &wire.Attempt{Base: base, ID: s.id, Table: wire.HashLeaf(encoded)}
	if d.HasArg("without-table") {
		encoded = nil
	}
	return s.step(Logged{Body: body, Table: encoded})
}

// answer settles the requests to the slots given, or the slabs given of them.
func (s *ownerStory) answer(t *testing.T, d *datadriven.TestData) []Effect {
	var out []Effect
	asked := s.asked
	s.asked = nil
	only := parseList(t, argument(d, "slabs", ""))
	for _, e := range asked {
		slot := uint64(e.Peer[0])
		if !slices.Contains(bare(t, d), slot) || (len(only) > 0 && !slices.Contains(only, e.Slab)) {
			s.asked = append(s.asked, e)
			continue
		}
		var ev Event = SlabFetched{Peer: e.Peer, Root: e.Root, Slab: e.Slab}
		if d.Cmd == "fetch-failed" {
			ev = FetchFailed{Peer: e.Peer, Root: e.Root, Slab: e.Slab, Reason: "stalled"}
		}
		out = append(out, s.step(ev)...)
	}
	return out
}

type memberStory struct {
	names    names
	now      time.Time
	member   *Member
	spec     Spec
	step     uint64
	position uint64
	ready    map[uint64]wire.Ready
}

func (s *memberStory) do(ev Event) []Effect {
	effects := s.member.Step(s.now, ev)
	for _, e := range effects {
		if e, ok := e.(SendReady); ok {
			s.ready[e.Ready.Fragment] = e.Ready
		}
	}
	return effects
}

func (s *memberStory) command(t *testing.T, d *datadriven.TestData) string {
	f, base := number(t, d, "f", 0), number(t, d, "base", 0)
	var out []Effect
	switch d.Cmd {
	case "new":
		s.spec, s.now, s.ready = parseSpec(t, d), storyStart, make(map[uint64]wire.Ready)
		member, err := NewMember(s.spec)
		if err != nil {
			return err.Error()
		}
		s.member = member
	case "assigned":
		s.step = 0
		out = s.do(Assigned{Slot: wire.Slot(number(t, d, "slot", 1)), Versions: parseList(t, argument(d, "versions", "0"))})
	case "steps":
		for range bare(t, d)[0] {
			s.step++
			s.position += 2
			out = append(out, s.do(StepDone{
				Step: s.step, Tokens: 256, Windows: []wire.Range{{From: s.position - 2, To: s.position}}, StepTime: number(t, d, "time", 100_000),
			})...)
		}
	case "encoded":
		out = s.do(Encoded{Fragment: f, Base: base, Step: number(t, d, "step", 0), Root: s.names.hash(fmt.Sprintf("c%d@%d", f, base)), Norm: 1})
	case "encode-failed":
		out = s.do(EncodeFailed{Fragment: f, Base: base, Reason: "not finite"})
	case "commit": // in the log
		out = s.do(Logged{Term: number(t, d, "term", 1), Body: &wire.Commit{Fragment: f, Base: base}})
	case "applied":
		out = s.applied(t, d, f, base)
	case "merged":
		out = s.do(Merged{Fragment: f, Version: base + 1})
	case "pace":
		members := []candidate{someone(9, 1000, 1, 0)}
		table := attemptTable(members, shares(members, s.spec.Slabs[0], 0), number(t, d, "time", 0))
		encoded := wire.Encode(table)
		out = s.do(Logged{Term: 1, Body: &wire.Attempt{Fragment: f, Base: base, ID: wire.AttemptID{Term: 1, Counter: 1}, Table: wire.HashLeaf(encoded)}, Table: encoded})
	case "settings":
		body := &wire.Settings{Phase: wire.PhaseTraining, Solo: d.HasArg("solo")}
		if d.HasArg("ended") {
			body.Phase = wire.PhaseEnded
		}
		out = s.do(Logged{Term: number(t, d, "term", 1), Body: body})
	case "reconnected":
		out = s.do(Reconnected{})
	case "suspended":
		out = s.do(Suspended{"test"})
	case "resumed":
		out = s.do(Resumed{parseList(t, argument(d, "versions", "0"))})
	case "advance":
		out = elapse(t, d, &s.now, s.member.Deadline, s.do)
	case "status":
		var b strings.Builder
		for _, m := range s.member.Snapshot() {
			fmt.Fprintf(&b, "%+v\n", m)
		}
		fmt.Fprintf(&b, "%d undecided\n", s.member.Undecided())
		return b.String()
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return lines(out, s.member.Deadline())
}

// applied commits f@base with this worker's newest contribution in the slabs
// given (none: a miss) and another slot's.
func (s *memberStory) applied(t *testing.T, d *datadriven.TestData, f, base uint64) []Effect {
	table := &wire.CommitTable{Contributors: []wire.Contributor{{Slot: 99, Root: s.names.hash("other"), To: 5}}}
	in := parseList(t, argument(d, "slabs", ""))
	if len(in) > 0 {
		r := s.ready[f]
		table.Contributors = append(table.Contributors, wire.Contributor{Slot: r.Slot, Root: r.Root, From: r.From, To: r.To, Windows: r.Windows})
	}
	for slab := range s.spec.Slabs[f] {
		row := wire.SlabResult{Slab: uint64(slab), Members: 1}
		if slices.Contains(in, uint64(slab)) {
			row.Members = 0b11
		}
		table.Slabs = append(table.Slabs, row)
	}
	return s.do(Applied{Fragment: f, Version: base + 1, Table: table})
}
