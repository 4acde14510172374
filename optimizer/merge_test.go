package optimizer_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/optimizer"
)

func TestMerge(t *testing.T) {
	committed, base := []float32{10, 20, 30}, []float32{1, 2, 3}
	live := []float32{1.5, 2, 2}
	optimizer.Rebase.Apply(live, committed, base, 0)
	if !slices.Equal(live, []float32{10.5, 20, 29}) {
		t.Errorf("rebase gives %v", live)
	}
	optimizer.Reset.Apply(live, committed, nil, 0)
	if !slices.Equal(live, committed) {
		t.Errorf("reset gives %v", live)
	}
	live = []float32{2, 4, 6}
	optimizer.Lerp.Apply(live, committed, nil, 0.25)
	if !slices.Equal(live, []float32{8, 16, 24}) {
		t.Errorf("lerp gives %v", live)
	}
}

func TestMergeValidate(t *testing.T) {
	for _, c := range []struct {
		merge        optimizer.Merge
		decay, alpha float32
		fault        string
	}{
		{optimizer.Rebase, 1, 0, ""},
		{optimizer.Reset, 0.95, 0, ""},
		{optimizer.Lerp, 0, 0.5, ""},
		{optimizer.Eager, 1, 0.7, ""},
		{optimizer.Eager, 0, 0.7, "decay"},
		{optimizer.Eager, 1, 1, "alpha"},
		{optimizer.Rebase, 0, 0, "decay"},
		{optimizer.Reset, 1.5, 0, "decay"},
		{optimizer.Rebase, float32(math.NaN()), 0, "decay"},
		{optimizer.Rebase, 1, 0.5, "alpha"},
		{optimizer.Lerp, 0.95, 0.5, "keeps no error feedback"},
		{optimizer.Lerp, 0, 1, "alpha"},
		{optimizer.Lerp, 0, 0, "alpha"},
		{"mean", 1, 0, "choose rebase, reset, lerp or eager"},
		{"", 1, 0, "choose rebase, reset, lerp or eager"},
	} {
		err := c.merge.Validate(c.decay, c.alpha)
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s with decay %g and alpha %g: %v", c.merge, c.decay, c.alpha, err)
		}
	}
}

func TestSchedule(t *testing.T) {
	s := optimizer.Schedule{Peak: 2, WarmUp: 0.1, Final: 0.1, Shape: optimizer.Cosine}
	for _, c := range []struct{ progress, want float64 }{
		{-1, 0}, {0, 0}, {0.05, 1}, {0.1, 2}, {0.55, 1.1}, {1, 0.2}, {7, 0.2},
	} {
		if got := s.At(c.progress); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("cosine at %g: %g, want %g", c.progress, got, c.want)
		}
	}
	for p := 0.1; p < 0.99; p += 0.01 {
		if s.At(p+0.01) >= s.At(p) {
			t.Errorf("cosine does not fall at %g", p)
		}
	}
	flat := optimizer.Schedule{Peak: 3, WarmUp: 0.5, Shape: optimizer.Constant}
	if flat.At(0.25) != 1.5 || flat.At(0.5) != 3 || flat.At(1) != 3 {
		t.Errorf("constant: %g, %g, %g", flat.At(0.25), flat.At(0.5), flat.At(1))
	}
	if all := (optimizer.Schedule{Peak: 2, WarmUp: 1, Shape: optimizer.Cosine}); all.At(0.5) != 1 || all.At(1) != 2 {
		t.Errorf("warm-up over the whole run: %g, %g", all.At(0.5), all.At(1))
	}
	none := optimizer.Schedule{Peak: 3, Shape: optimizer.Constant}
	if none.At(0) != 3 {
		t.Errorf("without warm-up the rate at 0 is %g", none.At(0))
	}
}

// TestWSD: up, level, and down with 1 − √x over the last fifth.
func TestWSD(t *testing.T) {
	s := optimizer.Schedule{Peak: 2, WarmUp: 0.1, CoolDown: 0.2, Final: 0.1, Shape: optimizer.WSD}
	for progress, want := range map[float64]float64{
		0: 0, 0.05: 1, 0.1: 2, 0.5: 2, 0.8: 2, 0.85: 2 * (0.1 + 0.9*0.5), 0.95: 2 * (0.1 + 0.9*(1-math.Sqrt(0.75))), 1: 0.2, 2: 0.2,
	} {
		if got := s.At(progress); math.Abs(got-want) > 1e-9 {
			t.Errorf("at %g: %g, want %g", progress, got, want)
		}
	}
	all := optimizer.Schedule{Peak: 1, CoolDown: 1, Shape: optimizer.WSD}
	if all.Validate() != nil || all.At(0) != 1 || all.At(0.25) != 0.5 || all.At(1) != 0 {
		t.Errorf("a cool-down from the start: %g, %g, %g", all.At(0), all.At(0.25), all.At(1))
	}
	for name, change := range map[string]func(*optimizer.Schedule){
		"none":         func(s *optimizer.Schedule) { s.CoolDown = 0 },
		"not a number": func(s *optimizer.Schedule) { s.CoolDown = math.NaN() },
		"too long":     func(s *optimizer.Schedule) { s.CoolDown = 0.95 },
		"of a cosine":  func(s *optimizer.Schedule) { s.Shape = optimizer.Cosine },
	} {
		bad := s
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s: accepted %+v", name, bad)
		}
	}
}

func TestScheduleValidate(t *testing.T) {
	good := optimizer.Schedule{Peak: 1, WarmUp: 0.1, Final: 0.1, Shape: optimizer.Cosine}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*optimizer.Schedule){
		"peak":    func(s *optimizer.Schedule) { s.Peak = math.Inf(1) },
		"warm-up": func(s *optimizer.Schedule) { s.WarmUp = 1.5 },
		"final":   func(s *optimizer.Schedule) { s.Final = 2 },
		"shape":   func(s *optimizer.Schedule) { s.Shape = "linear" },
	} {
		s := good
		change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
