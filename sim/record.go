package sim

import (
	"fmt"
	"strings"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/peer/core"
	"dunlin/round"
	"dunlin/wire"
)

// recorder keeps a transcript: what each peer heard and decided, one line each.
type recorder struct {
	w     *World
	lines strings.Builder
}

func (r *recorder) line(h *host, format string, args ...any) {
	if r.w == nil {
		return
	}
	fmt.Fprintf(&r.lines, "%9.3f %-3s %s\n", r.w.now.Seconds(), h.name, fmt.Sprintf(format, args...))
}

func (r *recorder) event(h *host, ev core.Event) {
	if r.w == nil {
		return
	}
	switch ev := ev.(type) {
	case core.Tick, core.PeerUp, round.StepDone, coordinator.WindowsLeft, round.Encoded, catchup.Fetched, round.SlabFetched, core.Logged, round.Merged:
		return // of no interest, or seen from what follows
	case core.Message:
		switch m := ev.Message.(type) {
		case *wire.Heartbeat, *wire.LeaseRequest:
			return
		case *wire.SlabDone:
			for _, s := range m.Slabs {
				r.line(h, "> %s: slab %d of fragment %d attempt %s is done", ev.From.Short(), s.Slab, m.Fragment, m.Attempt)
			}
			return
		case *wire.Reassign:
			r.line(h, "> slabs %v of fragment %d attempt %s go to rank %d: %s", m.Slabs, m.Fragment, m.Attempt, m.Owner, m.Reason)
			return
		case *wire.SignedReady:
			r.line(h, "> %s is ready: fragment %d version %d, steps (%d, %d]", ev.From.Short(), m.Ready.Fragment, m.Ready.Base, m.Ready.From, m.Ready.To)
			return
		default:
		}
	}
	r.line(h, "> %s", ev)
}

func (r *recorder) effect(h *host, e core.Effect) {
	if r.w == nil {
		return
	}
	switch e := e.(type) {
	case core.Send, coordinator.SendHeartbeat, round.FetchSlab, catchup.Fetch, core.SendReady, round.DropSlabs, catchup.DropShadow,
		coordinator.Members, catchup.GetEntries, core.Append:
		return
	case core.Note:
		r.line(h, "  %s", e.Text)
	default:
		r.line(h, "< %s", e)
	}
}

// entry is one line of the ledger.
func (r *recorder) entry(height, term uint64, body wire.Body) {
	if r.w == nil {
		return
	}
	r.line(r.w.hosts[0], "= %s", coordinator.Logged{Height: height, Term: term, Body: body})
}

// text returns the transcript with names for ids.
func (r *recorder) text() string {
	if r.w == nil {
		return ""
	}
	var pairs []string
	for _, h := range r.w.hosts {
		pairs = append(pairs, h.id.Short(), h.name)
	}
	return strings.NewReplacer(pairs...).Replace(r.lines.String())
}
