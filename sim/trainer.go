package sim

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/contribution"
	"dunlin/coordinator"
	"dunlin/round"
	"dunlin/wire"
)

// Orders to the inner loop, carried out between two steps.
type (
	begin struct {
		slot     wire.Slot
		fresh    bool
		versions []uint64
		weights  [][]float32
		leases   []wire.Range
	}
	halt         struct{}
	resume       struct{}
	grant        struct{ ranges []wire.Range }
	takeSnapshot struct{ fragment uint64 }
	takeCommit   struct {
		fragment uint64
		asked    uint64 // version that the round's machine asked to merge
		version  uint64 // of that version or a newer one
		weights  []float32
		included func(slab int) bool
	}
)

// trainer is the inner loop. A step moves the live weights by values that are
// a function of slot and step alone.
type trainer struct {
	p        *process
	trackers []*contribution.Tracker
	live     [][]float32 // by fragment, its one tensor
	books    []book
	orders   []any
	running  bool
	stepping bool
	slot     wire.Slot
	step     uint64
	leases   []wire.Range
}

// book follows one tracker from outside, for R1's law: what was committed of
// this worker, its error feedback and its live drift make up all it moved.
type book struct {
	version   uint64
	base      []float32 // that live drift counts from: anchor or snapshot
	snapshot  []float32 // live parameters after it; nil: none is out
	hidden    []float64 // movement up to it that they do not show
	moved     []float64 // by local steps, since the tracker began
	committed []float64
	roots     map[wire.Hash]bool // own contributions since the tracker began
}

func newTrainer(p *process) *trainer {
	t := &trainer{p: p, books: make([]book, len(p.w.configs))}
	for _, c := range p.w.configs {
		t.live = append(t.live, make([]float32, c.Layout.Parameters()))
	}
	return t
}

func (t *trainer) order(o any) {
	t.orders = append(t.orders, o)
	t.p.w.after(0, t.p, t.turn)
}

// turn carries out orders and makes the next step, unless one is being made.
func (t *trainer) turn() {
	if t.stepping {
		return
	}
	for len(t.orders) > 0 {
		o := t.orders[0]
		t.orders = t.orders[1:]
		if err := t.obey(o); err != nil {
			t.p.w.fail("%s: training: %v", t.p.h.name, err)
			return
		}
	}
	windows, ok := t.next()
	if !ok {
		return
	}
	t.stepping = true
	d := t.p.h.stepTime
	wait := d + t.p.w.between(0, d/8)
	if h := t.p.w.sc.Setup.Hiccup; h.Every > 0 && h.Peer == t.p.h.index && t.step%h.Every == h.Every-1 {
		wait += h.For
	}
	t.p.w.after(wait, t.p, func() {
		t.stepping = false
		t.train(windows, d)
		t.turn()
	})
}

func (t *trainer) next() (wire.Range, bool) {
	batch := t.p.w.spec.Data.Batch
	for len(t.leases) > 0 && t.leases[0].Len() < batch {
		t.leases = t.leases[1:]
	}
	if !t.running || len(t.leases) == 0 {
		return wire.Range{}, false
	}
	r := &t.leases[0]
	windows := wire.Range{From: r.From, To: r.From + batch}
	if r.From += batch; t.p.w.has(BugWindowsTwice) && t.step%5 == 4 {
		r.From -= batch
	}
	return windows, true
}

// train makes one step.
func (t *trainer) train(windows wire.Range, took time.Duration) {
	p := t.p
	t.step++
	rng := rand.New(rand.NewPCG(uint64(t.slot)<<32+t.step, p.w.sc.Seed))
	for f, live := range t.live {
		drift := float32(math.Sin(float64(t.slot)+float64(t.step)/9)) * 1e-3
		for i := range live {
			before := live[i]
			live[i] += drift + (rng.Float32()-0.5)*4e-3
			t.books[f].moved[i] += float64(live[i]) - float64(before)
		}
	}
	step, left := t.step, wire.Windows(t.leases)
	p.w.referee.stepped(p, t.slot, step, windows)
	p.report(func() {
		p.life.step, p.life.left, p.life.stepTime = step, left, uint64(took.Microseconds())
		p.life.tokens += p.w.spec.StepTokens()
		p.next(round.StepDone{Step: step, Tokens: p.w.spec.StepTokens(), Windows: []wire.Range{windows}, StepTime: p.life.stepTime})
		p.next(coordinator.WindowsLeft{Windows: p.life.left})
		if p.life.warming++; p.life.warming == 3 {
			p.next(coordinator.Warmed{StepTime: p.life.stepTime})
		}
	})
}

func (t *trainer) obey(order any) error {
	switch o := order.(type) {
	case begin:
		return t.begin(o)
	case halt:
		t.running = false
	case resume:
		t.running = t.trackers != nil
	case grant:
		t.leases = append(t.leases, o.ranges...)
	case takeSnapshot:
		return t.takeSnapshot(o.fragment)
	case takeCommit:
		return t.merge(o)
	}
	return nil
}

// begin takes the committed weights over as live ones.
func (t *trainer) begin(o begin) error {
	first := t.trackers == nil
	for f := range t.live {
		if first {
			tracker, err := contribution.New(t.p.w.configs[f], o.versions[f], o.weights[f])
			if err != nil {
				return err
			}
			t.trackers = append(t.trackers, tracker)
		}
		live := [][]float32{t.live[f]}
		if first || !t.p.w.has(BugFeedbackKept) {
			if err := t.trackers[f].Restart(live, o.versions[f], o.weights[f]); err != nil {
				return err
			}
		} else if o.versions[f] > t.trackers[f].Version() {
			if _, err := t.trackers[f].Merge(live, contribution.Commit{Version: o.versions[f], Weights: o.weights[f]}); err != nil {
				return err
			}
		}
		t.books[f] = t.newBook(f, o.versions[f], o.weights[f])
	}
	if o.fresh {
		t.slot, t.step, t.leases = o.slot, 0, nil
	}
	t.leases = append(t.leases, o.leases...)
	t.running = true
	if !t.p.w.has(BugAssignedEarly) {
		t.p.report(func() { t.p.started(o.slot, o.fresh, o.versions) })
	}
	return nil
}

func (t *trainer) newBook(f int, version uint64, weights []float32) book {
	n := t.p.w.configs[f].Layout.Values()
	return book{version: version, base: weights, moved: make([]float64, n), committed: make([]float64, n), roots: map[wire.Hash]bool{}}
}

// gather returns a fragment's live weights in block order.
func (t *trainer) gather(f int) []float32 {
	out := make([]float32, t.p.w.configs[f].Layout.Values())
	t.p.w.configs[f].Layout.Gather(out, [][]float32{t.live[f]})
	return out
}

func (t *trainer) takeSnapshot(fragment uint64) error {
	f := int(fragment)
	before := t.gather(f)
	if err := t.trackers[f].Snapshot([][]float32{t.live[f]}); err != nil {
		if errors.Is(err, contribution.ErrUndecided) {
			return nil // the round's machine asked twice; the first one stands
		}
		return err
	}
	b := &t.books[f]
	b.snapshot, b.hidden = t.gather(f), make([]float64, len(before))
	for i, x := range before {
		b.hidden[i] = float64(x) - float64(b.snapshot[i])
	}
	p, step, tracker := t.p, t.step, t.trackers[f]
	base := tracker.Version()
	p.report(func() {
		p.codecs.do(p, p.w.between(2*time.Millisecond, 60*time.Millisecond), func() {
			c, err := tracker.Encode()
			if err == nil {
				b.roots[c.Root] = true
				p.w.referee.encoded(p, fragment, step, c)
			}
			p.report(func() { p.encoded(fragment, base, step, c, err) })
		})
	})
	return nil
}

func (p *process) encoded(fragment, base, step uint64, c *contribution.Contribution, err error) {
	if err != nil {
		p.next(round.EncodeFailed{Fragment: fragment, Base: base, Reason: err.Error()})
		return
	}
	delete(p.own, p.newest[fragment])
	p.own[c.Root], p.newest[fragment] = c, c.Root
	if p.w.has(BugStepUntold) {
		step = 0
	}
	p.next(round.Encoded{Fragment: fragment, Base: c.Base, Step: step, Root: c.Root, Norm: c.Norm})
}

func (t *trainer) merge(o takeCommit) error {
	f, p := int(o.fragment), t.p
	tracker, b := t.trackers[f], &t.books[f]
	merged := func() {
		p.report(func() { p.next(round.Merged{Fragment: o.fragment, Version: o.asked}) })
	}
	if o.version <= tracker.Version() || p.w.has(BugMissNotMerged) && o.included == nil {
		merged() // begin or a newer commit took it along
		return nil
	}
	before, base := t.gather(f), b.base
	if b.snapshot != nil {
		base = b.snapshot
	}
	outcome, err := tracker.Merge([][]float32{t.live[f]}, contribution.Commit{Version: o.version, Weights: o.weights, Included: o.included})
	if err != nil {
		return err
	}
	if p.w.has(BugMergedTwice) {
		for i := range t.live[f] {
			t.live[f][i] += o.weights[i] - b.base[i]
		}
	}
	for v := b.version; v < o.version; v++ {
		p.w.referee.share(o.fragment, v, b)
	}
	if outcome.Dropped || (p.w.sc.Setup.Rules.Merge == "reset" && b.snapshot != nil) {
		for i := range b.moved { // this drift is gone by rule
			b.moved[i] -= float64(before[i]) - float64(base[i])
		}
	}
	b.version, b.base, b.snapshot = o.version, o.weights, nil
	p.w.referee.law(t, f)
	merged()
	return nil
}

// balance returns by how much R1's law is off, and the size of what moved.
func (t *trainer) balance(f int) (off, size float64) {
	b := &t.books[f]
	if t.trackers == nil || b.moved == nil {
		return 0, 0
	}
	feedback := make([]float32, len(b.base))
	t.trackers[f].Feedback(feedback)
	base, unseen := b.base, 0.0 // what a preview hides is not in the error feedback before it is encoded
	encoded := t.trackers[f].Pending() != nil
	if encoded {
		base = b.snapshot
	}
	for i, live := range t.gather(f) {
		if b.snapshot != nil && !encoded {
			unseen = b.hidden[i]
		}
		have := b.committed[i] + float64(feedback[i]) - (float64(live) - float64(base[i])) - unseen
		off, size = max(off, math.Abs(have+b.moved[i])), max(size, math.Abs(b.moved[i]), math.Abs(float64(live)))
	}
	return off, size
}

// sumKey names a slab of a round whatever the attempt.
type sumKey struct{ fragment, base, slab uint64 }

// sum sums one slab of an attempt for everyone.
func (p *process) sum(e round.SumSlab) {
	var shares []contribution.Share
	var ranks []int
	for rank, m := range e.Members {
		if e.Ranks>>uint(rank)&1 == 0 {
			continue
		}
		ranks = append(ranks, rank)
		shares = append(shares, contribution.Share{
			Frame: p.frame(m.Ready.Ready.Root, e.Slab), Weight: m.Weight, Clip: m.Clip.Value(), Norm: m.Ready.Ready.Norm.Value(),
		})
	}
	if p.w.has(BugOrderReversed) {
		slices.Reverse(shares)
		slices.Reverse(ranks)
	}
	from, to := p.w.configs[e.Fragment].Layout.SlabValues(int(e.Slab))
	work := contribution.Work{Fragment: e.Fragment, Base: e.Base, Slab: e.Slab, Values: to - from}
	sum, err := p.owner.Sum(work, p.w.tamperShares(shares))
	if err == nil && p.w.has(BugOwnerSettlesAtSum) {
		p.settleAtSum(work, &sum)
	}
	switch p.h.bad {
	case sumsGarbage:
		sum.Frame = bytes.Repeat([]byte{0xa5}, len(sum.Frame))
	case vetoesSums:
		clear(sum.Included)
	case neverSums:
		return
	default:
	}
	var hash wire.Hash
	if err == nil {
		hash, err = p.h.put(sum.Frame)
	}
	if err == nil && !p.w.has(BugDoneBeforeSync) {
		err = p.h.sync()
	}
	p.report(func() {
		if err != nil {
			p.next(round.SumFailed{Fragment: e.Fragment, Attempt: e.Attempt, Slab: e.Slab, Reason: err.Error()})
			return
		}
		done := round.Summed{Fragment: e.Fragment, Attempt: e.Attempt, Slab: e.Slab, Hash: hash, Length: uint64(len(sum.Frame)), Before: sum.Before, After: sum.After}
		for i, in := range sum.Included {
			if in && i < len(ranks) {
				done.Members |= 1 << uint(ranks[i])
			}
		}
		key := sumKey{e.Fragment, e.Base, e.Slab}
		if old, ok := p.lastSum[key]; ok && p.w.has(BugLateSum) {
			done.Hash, done.Length, done.Before, done.After = old.Hash, old.Length, old.Before, old.After
		}
		p.lastSum[key] = done
		p.next(done)
	})
}
