package optimizer

import (
	"fmt"
	"math"
)

// Shape is the course of a schedule after its warm-up.
type Shape string

const (
	// Cosine falls from the peak to the final share along half a cosine
	// (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
	Cosine Shape = "cosine"
	// WSD, warm-up, stable, decay, stays at the peak and falls to the final share
	// over the cool-down with 1 − √x (Hägele et al., arXiv 2405.18392, section 3.1).
	// A run that grows longer before its cool-down has lost nothing.
	WSD Shape = "wsd"
	// Constant stays at the peak.
	Constant Shape = "constant"
)

// Shapes lists the names of all shapes.
func Shapes() []string { return []string{string(Cosine), string(WSD), string(Constant)} }

// Schedule gives a rate for every progress in [0, 1] (protocol, R3a): a linear
// rise over the warm-up, then the course that Shape names.
type Schedule struct {
	Peak     float64 // the largest rate, above 0 (or 0, for a weight decay that is off)
	WarmUp   float64 // progress at which the peak is reached, 0 to 1
	CoolDown float64 // share of the run over which WSD falls, above 0, at most 1 with the warm-up; else 0
	Final    float64 // rate at progress 1 as a share of the peak, 0 to 1; unused when constant
	Shape    Shape
}

// Validate checks the ranges of the fields.
func (s Schedule) Validate() error {
	switch {
	case !(s.Peak >= 0) || math.IsInf(s.Peak, 0):
		return fmt.Errorf("schedule peak %g: allowed are finite values from 0", s.Peak)
	case !(s.WarmUp >= 0 && s.WarmUp <= 1):
		return fmt.Errorf("schedule warm-up %g: allowed are 0 to 1, as a share of the run", s.WarmUp)
	case !(s.Final >= 0 && s.Final <= 1):
		return fmt.Errorf("schedule final share %g: allowed are 0 to 1", s.Final)
	case s.Shape != Cosine && s.Shape != WSD && s.Shape != Constant:
		return fmt.Errorf("unknown schedule shape %q: choose %s, %s or %s", string(s.Shape), Cosine, WSD, Constant)
	case s.Shape == WSD && !(s.CoolDown > 0 && s.WarmUp+s.CoolDown <= 1):
		return fmt.Errorf("schedule cool-down %g after a warm-up of %g: allowed are shares of the run above 0 that are at most 1 together",
			s.CoolDown, s.WarmUp)
	case s.Shape != WSD && s.CoolDown != 0:
		return fmt.Errorf("schedule cool-down %g: only %s has one", s.CoolDown, WSD)
	}
	return nil
}

// At returns the rate at a progress; values outside [0, 1] count as the nearer end.
// During warm-up the rate is proportional to progress, so a caller passes the
// progress at the end of a step: the first step then has a rate above 0.
func (s Schedule) At(progress float64) float64 {
	p := math.Min(1, math.Max(0, progress))
	switch {
	case p < s.WarmUp:
		return s.Peak * (p / s.WarmUp)
	case s.Shape == Constant || s.WarmUp >= 1:
		return s.Peak
	case s.Shape == WSD:
		x := math.Max(0, (p-(1-s.CoolDown))/s.CoolDown)
		return s.Peak * (s.Final + (1-s.Final)*(1-math.Sqrt(x)))
	}
	x := (p - s.WarmUp) / (1 - s.WarmUp)
	return s.Peak * (s.Final + (1-s.Final)*(1+math.Cos(math.Pi*x))/2)
}
