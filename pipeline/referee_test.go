package pipeline

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/wire"
)

// referee keeps books outside of the machines.
type referee struct {
	plan     schedule
	progress int                       // micro-batches or steps that came to an end well
	steps    [][]MicroID               // synchronous: sets that stand, by step
	counted  []map[MicroID]wire.PeerID // local steps: by stage, who counted
	stepped  []map[MicroID]bool        // by stage: part of an inner step
	lost     []map[MicroID]bool        // by stage: in a sum, with a process that died
	ended    map[MicroID]Outcome
	inputs   map[wire.StageKey]uint64 // what a stage computes on, whichever attempt
}

func newReferee(plan schedule) referee {
	r := referee{plan: plan, ended: map[MicroID]Outcome{}, inputs: map[wire.StageKey]uint64{}}
	for range plan.stages {
		r.counted = append(r.counted, map[MicroID]wire.PeerID{})
		r.stepped, r.lost = append(r.stepped, map[MicroID]bool{}), append(r.lost, map[MicroID]bool{})
	}
	return r
}

// head returns the step that comes next.
func (r *referee) head() uint64 { return uint64(len(r.steps)) }

// decide is the run's log: only the next step stands, once.
func (r *referee) decide(trainer wire.Slot, d Decide) bool {
	if d.Step != r.head() {
		return d.Step < r.head() && len(r.steps[d.Step]) > 0 && r.steps[d.Step][0].Trainer == trainer
	}
	var set []MicroID
	for _, m := range d.Micros {
		set = append(set, MicroID{trainer, m})
	}
	r.steps = append(r.steps, set)
	r.progress++
	return true
}

// apply checks that a step is made of its set, each micro-batch once.
func (r *referee) apply(w *world, h *host, step uint64, set []MicroID) {
	if step >= r.head() {
		w.fail("%s applies step %d, which does not stand", h.id.Short(), step)
		return
	}
	want := r.steps[step]
	got := slices.Clone(set)
	slices.SortFunc(got, func(a, b MicroID) int { return int(int64(a.Micro) - int64(b.Micro)) })
	if !slices.Equal(got, want) {
		w.fail("%s in stage %d applies step %d on %v, its set is %v", h.id.Short(), h.stage, step, got, want)
	}
	if h.server.version != step {
		w.fail("%s applies step %d on weights of version %d", h.id.Short(), step, h.server.version)
	}
}

// added checks, for local steps, that no peer of the stage counted it before.
func (r *referee) added(w *world, h *host, id MicroID) {
	if r.plan.mode != LocalSteps {
		return
	}
	if other, twice := r.counted[h.stage][id]; twice {
		w.fail("%v is counted in stage %d by %s and by %s", id, h.stage, other.Short(), h.id.Short())
	}
	r.counted[h.stage][id] = h.id
}

func (r *referee) innerStep(w *world, h *host, micros []MicroID) {
	if !slices.Equal(micros, h.sum) {
		w.fail("%s steps on %v, its sum is of %v", h.id.Short(), micros, h.sum)
	}
	for _, id := range micros {
		r.stepped[h.stage][id] = true
	}
	if len(micros) == 0 || len(micros) > r.plan.batch {
		w.fail("%s makes an inner step of %d", h.id.Short(), len(micros))
	}
}

// died remembers what a process took along that trainers think is counted.
func (r *referee) died(h *host) {
	for _, id := range h.sum {
		r.lost[h.stage][id] = true
	}
}

// released checks a trainer's claim about a micro-batch.
func (r *referee) released(w *world, h *host, e Release) {
	id := MicroID{h.trainer.cfg.Slot, e.Micro}
	if _, twice := r.ended[id]; twice && r.plan.mode == LocalSteps {
		w.fail("%v is released twice", id)
	}
	r.ended[id] = e.Outcome
	switch r.plan.mode {
	case LocalSteps:
		stages := 0
		for s := range r.counted {
			if _, ok := r.counted[s][id]; ok {
				stages++
			}
		}
		if e.Stages > stages {
			w.fail("%v is said to be counted in %d stages, it is in %d", id, e.Stages, stages)
		}
		if e.Outcome == Counted {
			r.progress++
			if stages != r.plan.stages {
				w.fail("%v is said to be counted everywhere, it is in %d of %d stages", id, stages, r.plan.stages)
			}
		}
	case Synchronous:
		if e.Outcome == Counted && !slices.ContainsFunc(r.steps, func(set []MicroID) bool { return slices.Contains(set, id) }) {
			w.fail("%v is said to be counted, no step has it", id)
		}
	}
}

// computes checks that a stage's input is what the stage before made, in an attempt that
// all later ones go on from.
func (r *referee) computes(w *world, h *host, e Compute, input, grad uint64) {
	k := e.Key
	if want := activation(k.Trainer, k.Micro, h.stage); input%anAttempt != want {
		w.fail("%s computes %s on input %d, not %d", h.id.Short(), e, input, want)
	}
	if want := gradient(k.Trainer, k.Micro, h.stage); e.Backward && grad%anAttempt != want {
		w.fail("%s computes %s on gradient %d, not %d", h.id.Short(), e, grad, want)
	}
	k.Attempt = 0
	if had, known := r.inputs[k]; known && had != input {
		w.fail("%s computes %s on the input of attempt %d, others did on that of %d", h.id.Short(), e, input/anAttempt, had/anAttempt)
	}
	r.inputs[k] = input
}

// look checks a host's bounds after every event.
func (r *referee) look(w *world, h *host) {
	if t := h.trainer; t != nil {
		under := 0
		for _, m := range t.micros {
			if !m.done() {
				under++
			}
		}
		if under > r.plan.inFlight && r.plan.mode == LocalSteps || len(t.micros) > max(r.plan.inFlight, r.plan.batch) {
			w.fail("%s has %d micro-batches in flight", h.id.Short(), len(t.micros))
		}
		for s := range t.stages {
			for _, p := range t.stages[s].peers {
				calls, back := 0, 0
				for _, m := range t.micros {
					if m.parts[s].state == partCalling && m.parts[s].holder == p.id {
						if calls++; m.parts[s].backward && m.parts[s].runner == p.id {
							back++
						}
					}
				}
				if p.calls != calls || calls-back > r.plan.perPeer {
					w.fail("%s has %d calls at %s, it thinks %d", h.id.Short(), calls, p.id.Short(), p.calls)
				}
			}
		}
		return
	}
	s := h.server
	if len(s.queue) > r.plan.queue || len(s.held) > r.plan.held {
		w.fail("%s has %d calls waiting and %d held", h.id.Short(), len(s.queue), len(s.held))
	}
	if !s.steps.stepping && !s.adding && !slices.Equal(s.sum, h.sum) {
		w.fail("%s thinks that its sum is of %v, it is of %v", h.id.Short(), s.sum, h.sum)
	}
	if limit := r.plan.queue + r.plan.held + 2; len(h.calls) > limit {
		w.fail("%s keeps %d calls, at most %d are under way", h.id.Short(), len(h.calls), limit)
	}
}

// overdue checks that no machine waits past its own deadline.
func (r *referee) overdue(w *world, h *host) {
	if !h.alive || h.frozen > w.now-time.Second {
		return
	}
	deadline := time.Time{}
	if h.trainer != nil {
		deadline = h.trainer.Deadline()
	} else if h.server != nil {
		deadline = h.server.Deadline()
	}
	if !deadline.IsZero() && deadline.Before(w.time()) {
		w.fail("%s waits since its deadline, %v ago", h.id.Short(), w.time().Sub(deadline))
	}
}

// end checks that no server keeps anything, and that nothing is lost unseen,
// when all is at rest.
func (r *referee) end(w *world) {
	for _, h := range w.servers {
		if h.alive && len(h.calls) > 0 {
			w.fail("%s keeps %d calls that nobody wants", h.id.Short(), len(h.calls))
		}
		if h.alive {
			for _, id := range h.sum {
				r.stepped[h.stage][id] = true // it will be
			}
		}
	}
	for id, outcome := range r.ended {
		for stage := range r.stepped {
			if r.plan.mode == LocalSteps && outcome == Counted && !r.stepped[stage][id] && !r.lost[stage][id] {
				w.fail("%v is said to be counted, but stage %d lost it though nobody died with it", id, stage)
			}
		}
	}
}

// play runs one seed's story.
func play(seed uint64, bug string, record bool) (string, error) {
	plan := newSchedule(seed)
	plan.bug = bug
	w := newWorld(seed, plan)
	if record {
		w.record = &strings.Builder{}
	}
	err := w.run()
	if w.record != nil {
		return w.record.String(), err
	}
	return "", err
}

// number of schedules that go test plays; PIPELINE_SEEDS says otherwise.
const schedules = 1500

// TestSchedules plays schedules of deaths, hangs, cuts, moves and slowness drawn
// from seeds: in forward, in backward, between, during moves and while a step
// closes. No micro-batch counts twice in a stage, none is lost unseen, every step
// is of one set in all stages, all bounds hold, and work goes on when faults end.
func TestSchedules(t *testing.T) {
	from, n := uint64(0), uint64(schedules)
	if s := os.Getenv("PIPELINE_SEEDS"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n = v
	}
	if s := os.Getenv("PIPELINE_FROM"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		from = v
	}
	if testing.Short() {
		n /= 10
	}
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range 2 {
		wg.Go(func() {
			for seed := range next {
				if _, err := play(seed, "", false); err != nil {
					t.Errorf("seed %d: %v\nreplay: PIPELINE_REPLAY=%d go test ./pipeline -run Replay -v", seed, err, seed)
				}
			}
		})
	}
	for seed := from; seed < from+n && !t.Failed(); seed++ {
		next <- seed
	}
	close(next)
	wg.Wait()
}

// TestReplay plays one seed and prints its transcript.
func TestReplay(t *testing.T) {
	s := os.Getenv("PIPELINE_REPLAY")
	if s == "" {
		t.Skip("PIPELINE_REPLAY names no seed")
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	text, err := play(seed, os.Getenv("PIPELINE_BUG"), true)
	t.Logf("%+v\n%s", newSchedule(seed), text)
	if err != nil {
		t.Error(err)
	}
}

// TestReplaysAreEqual plays seeds twice.
func TestReplaysAreEqual(t *testing.T) {
	for seed := range uint64(6) {
		one, _ := play(seed, "", true)
		two, _ := play(seed, "", true)
		if one != two {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}

// TestSeededBugs makes one mistake in the driver after the other: the referee
// must find each.
func TestSeededBugs(t *testing.T) {
	for _, bug := range []string{
		"driver forgets deadlines",
		"trainer's driver forgets a stage's input after its forward pass",
		"decision names another set",
		"server's driver takes every try for the present one",
		"server denies what it counted",
		"server adds at the answer",
		"step is applied on the peer's own sum",
		"server's driver does not clear",
		"adding up forgets the other members",
		"trainer's driver keeps late answers",
		"trainer's driver keeps strangers' answers",
		"server's driver obeys strangers",
		"loading peer's driver takes closes",
	} {
		t.Run(bug, func(t *testing.T) {
			for seed := range uint64(1000) {
				if _, err := play(seed, bug, false); err != nil {
					t.Log(firstLine(fmt.Sprintf("seed %d: %v", seed, err)))
					return
				}
			}
			t.Error("nothing found in 1000 schedules")
		})
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
