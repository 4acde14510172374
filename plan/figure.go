package plan

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Size of the figure in pixels, and its frame.
const (
	figureWidth, figureHeight = 760, 430
	left, right, top, bottom  = 64, 16, 64, 96
)

// curve is the share of the time in steps by bandwidth of one way of training.
type curve struct {
	name   string
	colour string // of a set that colour-blind people tell apart
	dash   string // so that colour is not all
	table  Timetable
}

// SVG draws the share of the time in inner steps against the bandwidth of the links, of this plan and of what it is
// compared with, with the plan's own links marked.
func (p *Plan) SVG() string {
	fp32 := Timetable{Layers: p.timetable.Layers, Step: p.StepSeconds, Bits: 64 * p.Parameters, H: p.H}
	parallel := fp32
	parallel.H = 1
	curves := []curve{
		{fmt.Sprintf("this plan (%s, H %d, %d fragments)", p.Recipe, p.H, p.Fragments), "#0072b2", "", p.timetable},
		{fmt.Sprintf("fp32 DiLoCo that waits, H %d", p.H), "#d55e00", "7 4", fp32},
		{"fp32 data-parallel", "#555555", "2 4", parallel},
	}
	low := math.Pow(10, math.Floor(math.Log10(p.LinkRate))-2)
	high := low * 1e6
	x := func(rate float64) float64 {
		return left + (figureWidth-left-right)*math.Log10(rate/low)/math.Log10(high/low)
	}
	y := func(share float64) float64 { return top + (figureHeight-top-bottom)*(1-share) }
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	words := func(at string, px, py float64, size int, text string) {
		put(`<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s">%s</text>`, px, py, size, at, html.EscapeString(text))
	}
	put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui,sans-serif" fill="#222" role="img">`, figureWidth, figureHeight, figureWidth, figureHeight)
	put(`<title>Share of the time in inner steps by bandwidth</title><rect width="100%%" height="100%%" fill="#fff"/>`)
	words("start", left, 24, 16, fmt.Sprintf("%s, %s parameters, %s", p.Model, si(p.Parameters), count(p.Peers, "peer")))
	words("start", left, 44, 13, "share of the time in inner steps, by the bandwidth of a peer's link")
	for s := 0.0; s <= 1.001; s += 0.25 {
		put(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`, left, figureWidth-right, y(s), y(s))
		words("end", left-8, y(s)+4, 12, fmt.Sprintf("%.0f %%", 100*s))
	}
	for rate := low; rate <= high*1.01; rate *= 10 {
		put(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#ddd"/>`, x(rate), x(rate), top, figureHeight-bottom)
		words("middle", x(rate), figureHeight-bottom+18, 12, bits(rate))
	}
	for i, c := range curves {
		var points []string
		for k := 0; k <= 60; k++ {
			c.table.Rate = low * math.Pow(high/low, float64(k)/60)
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(c.table.Rate), y(c.table.Utilisation())))
		}
		put(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`, strings.Join(points, " "), c.colour, c.dash)
		line := float64(figureHeight - bottom + 40 + 17*i)
		put(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`, left, left+28, line-4, line-4, c.colour, c.dash)
		words("start", left+36, line, 12, c.name)
	}
	put(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#222"/>`, x(p.LinkRate), x(p.LinkRate), top, figureHeight-bottom)
	words("start", x(p.LinkRate)+4, top+12, 12, "the peers' links: "+bits(p.LinkRate))
	put(`</svg>`)
	return b.String()
}
