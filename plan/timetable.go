package plan

import "math"

// Timetable is a training whose layers are computed one after the other on a serial processor and averaged over one
// serial link, after the simulator of Streaming DiLoCo (Douillard et al. 2025, section 3.1): forward, backward by
// activations and backward by parameters of a layer each take Step ÷ 3·Layers, and a layer's bits are queued for the
// link when its last backward is done. Latency is not modelled.
type Timetable struct {
	Layers   int
	Step     float64 // seconds of computing in a step
	Bits     float64 // that one synchronisation of the whole model sends
	Rate     float64 // bits a second
	H        int     // steps between two synchronisations of a layer; 1 is data-parallel
	Fragment int     // layers that are sent together, strided; 0 is all
	// Overlap is how many steps later than the next one a layer's forward pass waits for its average; negative is
	// never.
	Overlap int
}

// windows of H steps that are simulated; the first is a warm-up that the drain balances.
const windows = 3

// Utilisation returns the time spent computing as a share of the time until computing and link are done, in (0, 1].
func (t Timetable) Utilisation() float64 {
	steps := windows * t.H
	if t.H < 4 { // few steps settle no queue
		steps = 24
	}
	op, bits := t.Step/float64(3*t.Layers), t.Bits/float64(t.Layers)
	fragments, offset := t.fragments()
	// arrived[d][l] is when layer l's average of step s is there, d being s modulo the steps that it may take.
	ring := max(t.Overlap, 0) + 2
	arrived := make([][]float64, ring)
	for i := range arrived {
		arrived[i] = make([]float64, t.Layers)
	}
	var now, link, busy float64
	run := func() { now, busy = now+op, busy+op }
	for s := 1; s <= steps; s++ {
		due := t.due(s, fragments, offset)
		wanted := arrived[(s+1)%ring] // of step s-1-Overlap
		for l := range t.Layers {
			if t.Overlap >= 0 {
				now = math.Max(now, wanted[l])
			}
			run()
		}
		sent := arrived[s%ring]
		for l := t.Layers - 1; l >= 0; l-- {
			if l > 0 {
				run()
			}
			run()
			sent[l] = 0
			if due >= 0 && l%fragments == due {
				link = math.Max(link, now) + bits/t.Rate
				sent[l] = link
			}
		}
	}
	return busy / math.Max(now, link)
}

// fragments returns how many there are and how many steps lie between two of them.
func (t Timetable) fragments() (count, offset int) {
	if t.Fragment < 1 || t.Fragment >= t.Layers {
		return 1, 0
	}
	count = t.Layers / t.Fragment
	return count, t.H / (count + 1)
}

// due returns the fragment that is sent after step s, or -1.
func (t Timetable) due(s, fragments, offset int) int {
	phase := s % t.H
	switch {
	case fragments == 1 && phase == 0:
		return 0
	case fragments == 1:
		return -1
	case offset > 0 && phase%offset == 0 && phase/offset >= 1 && phase/offset <= fragments:
		return phase/offset - 1
	case offset == 0 && phase < fragments: // more fragments than steps: the first ones go with each step
		return phase
	}
	return -1
}
