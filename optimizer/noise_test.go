package optimizer_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/optimizer"
)

// TestNoiseScaleByHand is the check of the reference: |small|² = 5 with one window
// and |big|² = 2 with four give |G|² = 1 and tr(Σ) = 4.
func TestNoiseScaleByHand(t *testing.T) {
	n := optimizer.NoiseScale{}.Observe(1, 5, 4, 2)
	windows, ok := n.Windows()
	if n.Signal != 1 || n.Noise != 4 || windows != 4 || !ok {
		t.Errorf("signal %g, noise %g, scale %g", n.Signal, n.Noise, windows)
	}
}

// gradients draws mean gradients of batches around a known true gradient.
type gradients struct {
	rng   *rand.Rand
	truth []float64
	sigma float64 // standard deviation of one window's values
}

func newGradients(seed uint64, length, sigma float64) *gradients {
	g := &gradients{rng: rand.New(rand.NewPCG(seed, 0)), truth: make([]float64, 400), sigma: sigma}
	for i := range g.truth {
		g.truth[i] = length / math.Sqrt(float64(len(g.truth)))
	}
	return g
}

// scale is the true noise scale.
func (g *gradients) scale() float64 {
	var squares float64
	for _, x := range g.truth {
		squares += x * x
	}
	return float64(len(g.truth)) * g.sigma * g.sigma / squares
}

// step returns the squared norms of the first micro-batch's mean gradient and of
// the mean over all.
func (g *gradients) step(micro, micros int) (first, all float64) {
	sum := make([]float64, len(g.truth))
	for m := range micros {
		for i, x := range g.truth {
			v := x + g.rng.NormFloat64()*g.sigma/math.Sqrt(float64(micro))
			sum[i] += v / float64(micros)
			if m == 0 {
				first += v * v
			}
		}
	}
	for _, x := range sum {
		all += x * x
	}
	return first, all
}

// TestNoiseScaleFindsTheTruth: the estimate comes near a known noise scale for any
// two batches.
func TestNoiseScaleFindsTheTruth(t *testing.T) {
	const seed = 41
	for _, batches := range [][2]int{{1, 2}, {4, 8}, {2, 16}} {
		g := newGradients(seed, 1, 0.3)
		n := optimizer.NoiseScale{Decay: 0.99}
		for range 400 {
			first, all := g.step(batches[0], batches[1])
			n = n.Observe(batches[0], first, batches[0]*batches[1], all)
		}
		got, ok := n.Windows()
		if want := g.scale(); !ok || math.Abs(got-want) > 0.1*want {
			t.Errorf("seed %d, batches %v: noise scale %g, want %g within a tenth", seed, batches, got, want)
		}
	}
}

func TestNoiseScaleKnowsWhatItCannotSee(t *testing.T) {
	var n optimizer.NoiseScale
	if _, ok := n.Windows(); ok {
		t.Error("a scale before anything was seen")
	}
	for name, after := range map[string]optimizer.NoiseScale{
		"equal batches": n.Observe(4, 5, 4, 2),
		"no batch":      n.Observe(0, 5, 4, 2),
		"not finite":    n.Observe(1, math.Inf(1), 4, 2),
		"not a number":  n.Observe(1, 5, 4, math.NaN()),
	} {
		if after != n {
			t.Errorf("%s: %+v", name, after)
		}
	}
	if w, ok := n.Observe(1, 8, 4, 2).Windows(); !ok || !math.IsInf(w, 1) {
		t.Errorf("a gradient that is all noise has the scale %g", w)
	}
	if w, ok := n.Observe(1, 2, 4, 3).Windows(); !ok || w != 0 {
		t.Errorf("a gradient without noise has the scale %g", w)
	}
	if n.Validate() != nil || (optimizer.NoiseScale{Decay: 1}).Validate() == nil || (optimizer.NoiseScale{Signal: math.NaN()}).Validate() == nil {
		t.Error("wrong values pass, or right ones do not")
	}
}

func schedule() optimizer.BatchSchedule {
	return optimizer.BatchSchedule{Micro: 4, First: 2, Most: 32, Every: 10, Share: 1, Decay: 0.9}
}

// TestBatchFollowsNoise: the batch doubles up to the noise scale and stays there;
// with little noise it stays where it was.
func TestBatchFollowsNoise(t *testing.T) {
	const seed = 42
	for _, want := range []struct {
		sigma  float64
		lowest int // micro-batches in the end
		most   int
	}{
		{0.05, 2, 2},   // noise scale 1 window
		{0.4, 14, 24},  // 64 windows, 16 micro-batches, and what the largest estimate adds
		{2.0, 32, 32},  // 1,600 windows, more than allowed
		{20.0, 32, 32}, // the gradient drowns
	} {
		g := newGradients(seed, 1, want.sigma)
		c := schedule()
		s := c.Start()
		for step := range 100 {
			before := s
			first, all := g.step(c.Micro, s.Micros)
			s = c.Next(s, first, all)
			if s.Micros < before.Micros || s.Micros > 2*before.Micros || (s.Micros != before.Micros && (step+1)%c.Every != 0) {
				t.Fatalf("seed %d, noise %g, step %d: from %d to %d micro-batches", seed, want.sigma, step, before.Micros, s.Micros)
			}
			if err := c.Check(s); err != nil {
				t.Fatal(err)
			}
		}
		if s.Micros < want.lowest || s.Micros > want.most {
			t.Errorf("seed %d, noise scale %g: ends with %d micro-batches of %d, want %d to %d", seed, g.scale(), s.Micros, c.Micro, want.lowest, want.most)
		}
	}
}

func TestBatchScheduleRefuses(t *testing.T) {
	if err := schedule().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*optimizer.BatchSchedule){
		"micro": func(c *optimizer.BatchSchedule) { c.Micro = 0 },
		"first": func(c *optimizer.BatchSchedule) { c.First = 1 },
		"most":  func(c *optimizer.BatchSchedule) { c.Most = 1 },
		"every": func(c *optimizer.BatchSchedule) { c.Every = 0 },
		"share": func(c *optimizer.BatchSchedule) { c.Share = math.Inf(1) },
		"decay": func(c *optimizer.BatchSchedule) { c.Decay = 1 },
	} {
		c := schedule()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: accepted %+v", name, c)
		}
	}
	for name, change := range map[string]func(*optimizer.BatchState){
		"too few":  func(s *optimizer.BatchState) { s.Micros = 1 },
		"too many": func(s *optimizer.BatchState) { s.Micros = 33 },
		"since":    func(s *optimizer.BatchState) { s.Since = 10 },
		"decay":    func(s *optimizer.BatchState) { s.Noise.Decay = 0.5 },
		"mean":     func(s *optimizer.BatchState) { s.Noise.Signal = math.NaN() },
	} {
		s := schedule().Start()
		change(&s)
		if err := schedule().Check(s); err == nil || (name != "mean" && !errors.Is(err, optimizer.ErrState)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
