package pipeline

import (
	"errors"
	"fmt"
	"math"
	"time"

	"dunlin/wire"
)

// Outlook is a pipeline whose throughput is wanted.
type Outlook struct {
	Stages   [][]Worker    // peers by stage
	Bytes    float64       // of a boundary's activations, of one micro-batch, as encoded
	Gradient float64       // of their gradient; 0: as many
	Tokens   int           // of a micro-batch
	InFlight int           // micro-batches that all trainers have under way together
	Trainers []Link        // of each trainer; none: links of the peers alone count
	Accept   time.Duration // between an answer and the word that it counts, beyond the round trip
	Batch    int           // micro-batches of a peer's inner step; 0: what inner steps cost is left out
}

// Worker is one peer of a stage.
type Worker struct {
	Forward time.Duration // its forward pass of one micro-batch
	Step    time.Duration // its optimizer's part of an inner step
	Link    Link
}

// Forecast is what a pipeline does.
type Forecast struct {
	Micros   float64 // micro-batches a second
	Tokens   float64 // a second
	Latency  time.Duration
	Bound    string    // what holds it up
	Stage    int       // that holds it up; -1 when none does
	Use      []float64 // by stage: share of its time that it computes
	Up, Down float64   // bytes of one micro-batch that its trainer sends and receives
	Compute  float64   // micro-batches a second if links took no time
	Steps    float64   // share that inner steps cost: optimizers, and passes that wait for a step
}

// gradient returns the bytes of a boundary's gradient.
func (o Outlook) gradient() float64 {
	if o.Gradient == 0 {
		return o.Bytes
	}
	return o.Gradient
}

// passes returns a stage's calls on one micro-batch in forward passes of
// computing, and the bytes that a server receives and sends. The first stage is
// sent tokens, which are small.
func (o Outlook) passes(stage int) (compute, receives, sends float64) {
	first, last := stage == 0, stage == len(o.Stages)-1
	gradient := o.gradient()
	compute = stagePasses(last)
	if !last {
		sends += o.Bytes
		receives += gradient
	}
	if !first {
		receives += o.Bytes
		if !last {
			receives += o.Bytes // with the forward call and again with the backward call
		}
		sends += gradient
	}
	return compute, receives, sends
}

// Forecast returns the throughput that bounds allow: of each stage the sum of
// what its peers compute or their links carry, of trainers their links, and by
// Little's law the micro-batches under way over the time that one takes. What
// bounds least gives is an upper limit, of which inner steps cost some (lane.go).
func (o Outlook) Forecast() (Forecast, error) {
	if err := o.validate(); err != nil {
		return Forecast{}, err
	}
	f := Forecast{Micros: math.Inf(1), Compute: math.Inf(1), Stage: -1}
	var latency float64
	slowest := 0
	capacity := make([]float64, len(o.Stages))
	for s, peers := range o.Stages {
		compute, receives, sends := o.passes(s)
		f.Up += receives // from the trainer's side
		f.Down += sends
		pure, bound, mean := 0.0, "computing", 0.0
		linked := 0.0
		for _, p := range peers {
			alone := 1 / (compute * p.Forward.Seconds())
			pure += alone
			rate := alone
			if p.Link.Bandwidth > 0 {
				rate = min(rate, p.Link.Bandwidth/max(receives, sends, 1))
			}
			linked += rate
			calls := 2.0
			if s == len(o.Stages)-1 {
				calls = 1
			}
			carry := 0.0
			if p.Link.Bandwidth > 0 {
				carry = (receives + sends) / p.Link.Bandwidth
			}
			// Waited for: forward, and of backward all but the weight gradient.
			mean += rate * ((compute-1)*p.Forward.Seconds() + carry + calls*p.Link.RTT.Seconds())
		}
		capacity[s] = pure
		latency += mean / linked
		if linked < pure*0.999 {
			bound = "links of its peers"
		}
		if pure < f.Compute {
			f.Compute, slowest = pure, s
		}
		if linked < f.Micros {
			f.Micros, f.Stage, f.Bound = linked, s, fmt.Sprintf("stage %d: %s", s+1, bound)
		}
	}
	trainers := 0.0
	for _, l := range o.Trainers {
		if l.Bandwidth <= 0 {
			trainers = math.Inf(1)
			break
		}
		trainers += l.Bandwidth / max(f.Up, f.Down, 1)
	}
	if len(o.Trainers) > 0 && trainers < f.Micros {
		f.Micros, f.Stage, f.Bound = trainers, -1, "links of the trainers"
	}
	if under := float64(o.InFlight) / (latency + o.Accept.Seconds()); under < f.Micros {
		f.Micros, f.Stage, f.Bound = under, -1, "micro-batches under way"
	}
	if o.Batch > 0 {
		without := f.Micros
		lanes := len(o.Stages[slowest])
		f.Micros = min(f.Micros, float64(lanes)*o.lane(lanes).rate())
		f.Steps = 1 - f.Micros/without
	}
	f.Latency = time.Duration(min(latency, 1e9) * float64(time.Second))
	f.Tokens = f.Micros * float64(o.Tokens)
	for _, c := range capacity {
		f.Use = append(f.Use, f.Micros/c)
	}
	return f, nil
}

// Enough returns the least number of micro-batches under way that leaves
// another bound than their number.
func (o Outlook) Enough() (int, error) {
	o.InFlight, o.Batch = 1<<30, 0
	f, err := o.Forecast()
	if err != nil {
		return 0, err
	}
	return int(math.Ceil(f.Micros * (f.Latency + o.Accept).Seconds())), nil
}

func (o Outlook) validate() error {
	if len(o.Stages) < 1 || len(o.Stages) > wire.MaxStages || o.InFlight < 1 || o.Tokens < 1 {
		return fmt.Errorf("forecast: %d stages, %d micro-batches under way of %d tokens; at least one each", len(o.Stages), o.InFlight, o.Tokens)
	}
	if !(o.Bytes >= 0 && o.Gradient >= 0) || math.IsInf(o.Bytes+o.Gradient, 0) || o.Accept < 0 || o.Batch < 0 || o.Batch > wire.MaxMicroBatches {
		return errors.New("forecast: bytes of activations, waits and inner steps must be positive numbers, and within bounds")
	}
	links := append([]Link(nil), o.Trainers...)
	for s, peers := range o.Stages {
		if len(peers) == 0 {
			return fmt.Errorf("forecast: stage %d has no peers: take fewer stages or more peers", s+1)
		}
		for _, p := range peers {
			if p.Forward <= 0 || p.Step < 0 {
				return fmt.Errorf("forecast: a peer of stage %d takes %v for a forward pass, %v for an inner step", s+1, p.Forward, p.Step)
			}
			links = append(links, p.Link)
		}
	}
	for _, l := range links {
		if l.RTT < 0 || !(l.Bandwidth >= 0) || math.IsInf(l.Bandwidth, 0) {
			return fmt.Errorf("forecast: a link of %v and %v bytes/s", l.RTT, l.Bandwidth)
		}
	}
	return nil
}
