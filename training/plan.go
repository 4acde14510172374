package training

import (
	"fmt"

	"dunlin/compute"
	"dunlin/model"
	"dunlin/optimizer"
)

// Plan is how a training fits into memory: what it will take is known before it starts.
type Plan struct {
	Room   model.Room
	Passes int     // of the model, over Room.Batch windows each, that make up a micro-batch
	Extra  float64 // share of work beyond one pass that keeps everything, as estimated
	Model  int64   // bytes of weights, gradients, moments, activations and what computes with them
	Bytes  int64   // that the process will have resident at most
	Apart  bool    // Bytes are of a device with memory of its own instead
}

// Demand is what a plan has to fit.
type Demand struct {
	Limit   int64 // bytes that the process may have resident; 0 for as many as the fastest plan takes
	Used    int64 // bytes that it has resident already
	Beside  int64 // bytes that other work in the process will take
	Micros  int   // micro-batches in a step at most, at least 1
	Average bool  // keep a moving average of the weights
}

// MemoryError says that no plan fits.
type MemoryError struct{ Limit, Least int64 } // bytes

func (e *MemoryError) Error() string {
	return fmt.Sprintf("memory of %s is too little: this training takes at least %s, with one window at a time and all that can be computed again",
		Megabytes(e.Limit), Megabytes(e.Least))
}

// Megabytes writes bytes for people, rounded up, so that what is shown suffices.
func Megabytes(bytes int64) string { return fmt.Sprintf("%d MB", (bytes+999_999)/1_000_000) }

// on returns what a plan has to fit on a device: one with memory of its own bounds it by what is free there, but for what
// its driver takes meanwhile, and has nothing else in it.
func (d Demand) on(device compute.Device) (_ Demand, apart bool, _ error) {
	m, apart := device.(compute.Meter)
	if !apart {
		return d, false, nil
	}
	free, err := m.FreeMemory()
	if err != nil {
		return d, true, err
	}
	const reserve = 64 << 20
	free = max(1, free-free/50-reserve)
	if d.Limit == 0 || free < d.Limit {
		d.Limit = free
	}
	d.Used, d.Beside = 0, 0
	return d, true, nil
}

// Plan returns the fastest way to train within a demand, or a *MemoryError. Windows that do not fit at once pass one
// part after the other, whose gradients add up to the same but for rounding; what is computed again has the same bits.
func (c TrainerConfig) Plan(device compute.Device, d Demand) (Plan, error) {
	if err := c.Validate(); err != nil {
		return Plan{}, err
	}
	if err := c.Model.Suits(device); err != nil {
		return Plan{}, err
	}
	d, apart, err := d.on(device)
	if err != nil {
		return Plan{}, err
	}
	var best Plan
	least := int64(0)
	for passes := 1; passes <= c.Batch; passes++ {
		if c.Batch%passes != 0 {
			continue
		}
		p, err := c.fit(device, d, passes)
		if err != nil {
			return Plan{}, err
		}
		if least == 0 || p.Bytes < least {
			least = p.Bytes
		}
		if (d.Limit == 0 || p.Bytes <= d.Limit) && (best.Passes == 0 || p.Extra < best.Extra) {
			best = p
		}
	}
	if best.Passes == 0 {
		return Plan{}, &MemoryError{Limit: d.Limit, Least: least}
	}
	best.Apart = apart
	return best, nil
}

// PlanPart plans one part of a model that takes so many windows at a time and holds so many gradients beside the newest:
// its blocks keep as much as fits.
func (c TrainerConfig) PlanPart(device compute.Device, part model.Part, windows, gradients int, d Demand) (Plan, error) {
	if err := c.Model.Suits(device); err != nil {
		return Plan{}, err
	}
	d, apart, err := d.on(device)
	if err != nil {
		return Plan{}, err
	}
	var p Plan
	for kept := model.KeptProducts; kept <= model.KeptInput; kept++ {
		p = Plan{Passes: 1, Room: model.Room{Batch: windows, Kept: kept}, Apart: apart}
		var tally compute.Tally
		s, err := model.NewStage(part, p.Room, c.Model, &tally)
		if err != nil {
			return p, err
		}
		for range gradients {
			if _, err := tally.Alloc(s.Params().Len()); err != nil {
				return p, err
			}
		}
		if _, err := optimizer.New(Target(&tally, s.Params(), s.Grads(), c.Model.PartParams(part)), c.Optimizer()); err != nil {
			return p, err
		}
		p.Model = tally.Bytes + scratch(device, c.Model.Sizes(windows*c.Model.Context))
		p.Bytes = d.Used + d.Beside + p.Model + p.Model/128 + garbage
		if d.Limit == 0 || p.Bytes <= d.Limit {
			return p, nil
		}
	}
	return p, &MemoryError{Limit: d.Limit, Least: p.Bytes}
}

// fit returns the plan with so many passes that computes least again and fits, or the smallest one when none does.
func (c TrainerConfig) fit(device compute.Device, d Demand, passes int) (Plan, error) {
	layers := c.Model.Layers
	low, high := 0, layers*int(model.KeptInput) // of what is tried, high is the first that may fit
	for low < high {
		p, err := c.weigh(device, d, passes, (low+high)/2)
		if err != nil {
			return Plan{}, err
		}
		if d.Limit == 0 || p.Bytes <= d.Limit {
			high = (low + high) / 2
		} else {
			low = (low+high)/2 + 1
		}
	}
	return c.weigh(device, d, passes, high)
}

// weigh predicts a plan in which blocks, taken together, keep so many kinds less: one block after the other drops the
// first kind, then the next.
func (c TrainerConfig) weigh(device compute.Device, d Demand, passes, thrift int) (Plan, error) {
	layers, micros := c.Model.Layers, max(1, d.Micros)
	p := Plan{Passes: passes, Room: model.Room{
		Batch: c.Batch / passes, Kept: model.Kept(thrift / layers), Thrifty: thrift % layers, Lend: passes*micros == 1,
	}}
	var tally compute.Tally
	m, err := model.NewIn(p.Room, c.Model, &tally)
	if err != nil {
		return p, err
	}
	t := Target(&tally, m.Params(), m.Grads(), c.Model.Params())
	if _, err := optimizer.New(t, c.Optimizer()); err != nil {
		return p, err
	}
	if d.Average {
		if _, err := optimizer.NewAverage(t, optimizer.AverageConfig{Decay: 0.5, Windows: 1}); err != nil {
			return p, err
		}
	}
	rows, tokens := p.Room.Batch*c.Model.Context, micros*c.Batch*c.Model.Context
	p.Model = tally.Bytes + 4*int64(rows) + 8*int64(tokens) + scratch(device, c.Model.Sizes(rows))
	p.Bytes = d.Used + d.Beside + p.Model + p.Model/128 + garbage
	// Each pass reads and writes all gradients once: ten operations a byte on a processor with AVX-512.
	const pass = 80
	work := c.Model.FLOPPerToken(c.Model.Context) * float64(c.Batch*c.Model.Context)
	p.Extra = c.Model.Again(p.Room, c.Model.Context) + float64(passes-1)*pass*float64(c.Model.Parameters())/work
	return p, nil
}

// garbage is what Go's heap holds beside the model: small objects and what waits to be collected. Each kB of model
// costs it some bytes of account too.
const garbage = 1_500_000

// scratch is what a device takes for itself.
func scratch(device compute.Device, s compute.Sizes) int64 {
	if d, ok := device.(interface{ Scratch(s compute.Sizes) int64 }); ok {
		return d.Scratch(s)
	}
	return 0
}

// String says the plan for people: "8 windows = 2 x 4, …".
func (p Plan) String() string {
	text := "a micro-batch at once"
	if p.Passes > 1 {
		text = fmt.Sprintf("%d passes of %d windows a micro-batch", p.Passes, p.Room.Batch)
	}
	text += ", "
	switch next := p.Room.Kept + 1; {
	case p.Room.Thrifty > 0 && p.Room.Kept > 0:
		text += fmt.Sprintf("%v computed again, in %d blocks %v", p.Room.Kept, p.Room.Thrifty, next)
	case p.Room.Thrifty > 0:
		text += fmt.Sprintf("%v computed again in %d blocks", next, p.Room.Thrifty)
	default:
		text += fmt.Sprintf("%v computed again", p.Room.Kept)
	}
	if p.Apart {
		return fmt.Sprintf("%s, %s on the card", text, Megabytes(p.Bytes))
	}
	return fmt.Sprintf("%s, %s", text, Megabytes(p.Bytes))
}
