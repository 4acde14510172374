package plan

import (
	"fmt"
	"math"
	"strings"
)

// Text is the plan as a table for a terminal. Each line ends in a newline.
func (p *Plan) Text() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-18s%s\n", name, fmt.Sprintf(format, args...))
	}
	row("run", "%s, %s parameters, %s", p.Model, si(p.Parameters), count(p.Peers, "peer"))
	if p.Works {
		row("verdict", "works")
	} else {
		row("verdict", "CANNOT WORK")
	}
	for _, r := range p.Reasons {
		row("  because", "%s", r)
	}
	for _, a := range p.Advice {
		row("  note", "%s", a)
	}
	if p.Pipeline != nil {
		p.Pipeline.text(row)
	}
	row("choose", "dunlin coordinator %s --recipe %s --h %d --fragments %d --worker-batch %d --outer-lr %.3g --lr %.3g", p.given, p.Recipe, p.H, p.Fragments, p.Batch, p.OuterLR, p.InnerLR)
	row("inner step", "%s of the median worker; the links allow a round every %d", seconds(p.StepSeconds), p.LeastH)
	row("a round", "%.2g inner steps on its way; rounds take %.0f %% of a link of %s", p.Overlap, 100*p.Load, bits(p.LinkRate))
	row("in steps", "%.1f %% of the time (fp32 DiLoCo that waits %.1f %%, fp32 data-parallel %.2g %%)", 100*p.Utilisation, 100*p.BlockingDiLoCo, 100*p.DataParallel)
	row("efficiency", "%.2f of the tokens that the same peers make without rounds", p.Efficiency)
	row("speed", "%s tokens a second, %.0f %% of the time after leaving and coming back (%s to load)", si(p.TokensPerSec), 100*p.Available, seconds(p.JoinSeconds))
	if p.BitsSent == 0 {
		row("sends", "nothing: there is nobody to send to")
	} else {
		row("sends", "%.2f bits a parameter and outer step, %s a day and peer, %.0f times less than fp32 data-parallel", p.BitsSent, bytesOf(p.BytesPerDay), p.FP32Ratio)
	}
	row("token budget", "committed after %s", seconds(p.Days*86400))
	if p.Loss == nil {
		row("loss", "– (published laws hold from %s to %s parameters)", si(lawFrom), si(lawTo))
	} else {
		row("loss", "%.2f nats a token, as C4 with a vocabulary of 32,768 would show it", *p.Loss)
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// si prints three significant figures with an SI step.
func si(v float64) string {
	for _, step := range []struct {
		from float64
		sign string
	}{{1e12, " T"}, {1e9, " B"}, {1e6, " M"}, {1e3, " k"}} {
		if v >= step.from {
			return fmt.Sprintf("%.3g%s", v/step.from, step.sign)
		}
	}
	return fmt.Sprintf("%.3g", v)
}

// bits prints a rate.
func bits(v float64) string {
	if v >= 1e9 {
		return fmt.Sprintf("%.3g Gbit/s", v/1e9)
	}
	if v >= 1e6 {
		return fmt.Sprintf("%.3g Mbit/s", v/1e6)
	}
	return fmt.Sprintf("%.3g kbit/s", v/1e3)
}

func bytesOf(v float64) string {
	switch {
	case v >= 1e12:
		return fmt.Sprintf("%.3g TB", v/1e12)
	case v >= 1e9:
		return fmt.Sprintf("%.3g GB", v/1e9)
	}
	return fmt.Sprintf("%.3g MB", v/1e6)
}

func seconds(v float64) string {
	switch {
	case math.IsInf(v, 0) || v > 1e5*86400*365:
		return "more than a hundred thousand years"
	case v >= 2*86400:
		return fmt.Sprintf("%.3g days", v/86400)
	case v >= 2*3600:
		return fmt.Sprintf("%.3g hours", v/3600)
	case v >= 120:
		return fmt.Sprintf("%.3g minutes", v/60)
	case v >= 1:
		return fmt.Sprintf("%.3g s", v)
	}
	return fmt.Sprintf("%.3g ms", v*1000)
}
