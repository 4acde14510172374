package sim

import (
	"fmt"
	"slices"
	"strings"

	"dunlin/wire"
)

// calm notes where everything stands when the faults are over.
func (r *referee) calm() {
	r.calmAt = r.w.now
	r.atCalm = nil
	for _, h := range r.books.heads {
		r.atCalm = append(r.atCalm, h.Version)
	}
}

// missing returns what of the progress that everybody must make since the calm
// has not come yet: every fragment moves on, every worker trains, and something
// of each is committed. It is "" when all came, or when all workers have left.
func (r *referee) missing() string {
	if !slices.ContainsFunc(r.w.hosts, func(h *host) bool { return h.works && h.done == "" }) {
		return ""
	}
	for f, h := range r.books.heads {
		if h.Version < r.atCalm[f]+2 {
			return fmt.Sprintf("fragment %d stands at version %d since %v", f, h.Version, r.calmAt)
		}
	}
	for _, h := range r.w.hosts {
		if !h.works || h.done != "" {
			continue
		}
		if p := h.proc; p == nil || p.life.state != wire.StateTraining {
			return h.name + " does not train"
		}
		if r.since[h.id] == 0 {
			return h.name + " trains, nothing of it is committed"
		}
	}
	r.bounded()
	return ""
}

// bounded checks that what peers keep does not grow with time.
func (r *referee) bounded() {
	for _, h := range r.w.hosts {
		p := h.proc
		if p == nil {
			continue
		}
		n := len(r.w.hosts) * len(r.w.configs)
		for _, q := range []struct {
			name    string
			n, most int
		}{
			{"contributions of others", len(p.fetched), 2 * n},
			{"own contributions", len(p.own), 2 * len(r.w.configs)},
			{"shadows", len(p.shadows), 4 * len(r.w.configs)},
			{"events", len(p.pending), 100},
		} {
			if q.n > q.most {
				r.w.fail("%s keeps %d %s, at most %d are needed", h.name, q.n, q.name, q.most)
			}
		}
	}
}

// stuck fails the world and says what everybody waits for.
func (r *referee) stuck(what string) {
	var s strings.Builder
	for _, h := range r.w.hosts {
		if h.proc == nil {
			fmt.Fprintf(&s, "\n  %s is down %s", h.name, h.done)
			continue
		}
		fmt.Fprintf(&s, "\n  %s", h.proc)
		if c := h.proc.core.Coordinator(); c != nil {
			fmt.Fprintf(&s, "\n    %s in term %d: %v", c.Reign, c.Term, c.Members)
		}
		if rounds := h.proc.core.Snapshot().Rounds; rounds != nil {
			for _, x := range rounds.Rounds {
				fmt.Fprintf(&s, "\n    fragment %d@%d %s %s: waits for %v, failures %v", x.Fragment, x.Version, x.Phase, x.Attempt, x.Waiting, x.Failures)
			}
		}
	}
	r.w.fail("%w: %s%s", ErrStuck, what, s.String())
}

// left returns what of a run that has ended has not drained yet: every worker
// leaves, at the newest state, and so stands the coordinator's own replica.
func (r *referee) left() string {
	for _, h := range r.w.hosts {
		p := h.proc
		if p == nil {
			p = h.last
		}
		if p == nil || (p.finished != nil && (p.finished.Code == wire.RefuseEnded || !strings.Contains(p.finished.Reason, "the run has ended"))) {
			continue // it came back too late, or left before
		}
		if h.works && p.finished == nil {
			return h.name + " does not leave a run that has ended"
		}
		if !slices.Equal(p.replica.Recompute(), r.books.heads) {
			return fmt.Sprintf("%s stands at %v, the run at %v", h.name, p.replica.Heads(), r.books.heads)
		}
		if p.trainer == nil {
			continue
		}
		for f := range p.trainer.books {
			r.law(p.trainer, f)
		}
	}
	if r.w.hosts[0].proc == nil {
		return "the coordinator is down"
	}
	return ""
}
