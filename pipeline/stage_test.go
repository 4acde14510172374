package pipeline

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestSplitIsTheBestOfAll compares with every possible cut of small models.
func TestSplitIsTheBestOfAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		layers := make([]Layer, 2+rng.IntN(7))
		for i := range layers {
			layers[i] = Layer{Cost: float64(rng.IntN(9)), Memory: uint64(rng.IntN(9))}
		}
		stages, memory := 1+rng.IntN(len(layers)), uint64(rng.IntN(30))
		most, squares := math.Inf(1), math.Inf(1)
		var try func(from, left int, worst, sum float64)
		try = func(from, left int, worst, sum float64) {
			if left == 0 {
				if from == len(layers) && (worst < most || (worst == most && sum < squares)) {
					most, squares = worst, sum
				}
				return
			}
			cost, bytes := 0.0, uint64(0)
			for to := from + 1; to <= len(layers); to++ {
				cost += layers[to-1].Cost
				bytes += layers[to-1].Memory
				if c := cost * stagePasses(to == len(layers)); memory == 0 || bytes <= memory {
					try(to, left-1, max(worst, c), sum+c*c)
				}
			}
		}
		try(0, stages, 0, 0)
		spans, err := Split(layers, stages, memory)
		if (err != nil) != math.IsInf(most, 1) {
			t.Fatalf("%v in %d stages of %d bytes: %v, the best is %v", layers, stages, memory, err, most)
		}
		if err != nil {
			continue
		}
		worst, sum, at := 0.0, 0.0, 0
		for _, s := range spans {
			if s.From != at || s.To <= s.From || (memory > 0 && s.Memory > memory) {
				t.Fatalf("%v in %d stages of %d bytes: %v", layers, stages, memory, spans)
			}
			at, worst, sum = s.To, max(worst, s.Cost), sum+s.Cost*s.Cost
		}
		if at != len(layers) || worst != most || sum != squares {
			t.Fatalf("%v in %d stages: %v, costs %v and %v, best are %v and %v", layers, stages, spans, worst, sum, most, squares)
		}
	}
}

func TestSplitSaysWhatDoesNotFit(t *testing.T) {
	layers := []Layer{{1, 4}, {1, 4}, {1, 4}}
	for name, c := range map[string]struct {
		stages int
		memory uint64
		want   string
	}{
		"no stages": {0, 0, "split 3 layers into 0 stages: 1 to 3 are possible"},
		"too many":  {4, 0, "split 3 layers into 4 stages: 1 to 3 are possible"},
		"a layer":   {3, 3, "split: layer 0 alone takes 4 bytes, a peer has 3"},
		"a stage":   {2, 7, "split: 2 stages of 7 bytes do not hold 12 bytes; take 3 or more"},
	} {
		if _, err := Split(layers, c.stages, c.memory); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := Split([]Layer{{math.NaN(), 1}}, 1, 0); err == nil {
		t.Error("a cost that is no number passes")
	}
}

// TestShapesHaveTheirParameters checks the formulas against published counts, with heads of their own.
func TestShapesHaveTheirParameters(t *testing.T) {
	for name, c := range map[string]struct {
		shape Shape
		want  uint64
	}{
		"GPT-2 124M": {GPT2Shape(12, 768, 1024, 50257), 124_439_808 + 50257*768},
		"Llama 7B":   {LlamaShape(32, 4096, 11008, 4096, 2048, 32000), 6_738_415_616},
		"Llama 3 8B": {LlamaShape(32, 4096, 14336, 1024, 8192, 128256), 8_030_261_248},
	} {
		layers, err := c.shape.Layers(1, 1)
		if err != nil {
			t.Fatal(err)
		}
		var sum uint64
		for _, l := range layers {
			sum += l.Memory
		}
		if sum != c.want {
			t.Errorf("%s: %d parameters, want %d", name, sum, c.want)
		}
	}
	tied := GPT2Shape(2, 8, 8, 8)
	tied.Tied = true
	if _, err := tied.Layers(1, 1); err == nil {
		t.Error("a tied head passes")
	}
}

// TestShapesSplitEvenly splits real shapes: the head weighs as much as some blocks.
func TestShapesSplitEvenly(t *testing.T) {
	for name, c := range map[string]struct {
		shape  Shape
		stages int
		blocks []int // of each stage
	}{
		"GPT-2 124M in 3": {GPT2Shape(12, 768, 1024, 50257), 3, []int{5, 5, 2}},
		"Llama 7B in 4":   {LlamaShape(32, 4096, 11008, 4096, 2048, 32000), 4, []int{8, 7, 7, 10}},
	} {
		layers, err := c.shape.Layers(1024, 16)
		if err != nil {
			t.Fatal(err)
		}
		spans, err := Split(layers, c.stages, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range spans {
			blocks := min(s.To, c.shape.Blocks+1) - max(s.From, 1)
			t.Logf("%s: stage %d has %d blocks, %.3g operations, %.2f GB", name, i, blocks, s.Cost, float64(s.Memory)/1e9)
			if blocks != c.blocks[i] {
				t.Errorf("%s: stage %d has %d blocks, want %v", name, i, blocks, c.blocks)
			}
		}
	}
}

func worker(ms int, mbit float64, rtt time.Duration) Worker {
	return Worker{Forward: time.Duration(ms) * time.Millisecond, Link: Link{RTT: rtt, Bandwidth: mbit * 1e6 / 8}}
}

func TestForecastNamesWhatHoldsItUp(t *testing.T) {
	fast := worker(100, 1000, time.Millisecond)
	even := Outlook{Stages: [][]Worker{{fast, fast}, {fast, fast}, {fast, fast}}, Bytes: 1 << 19, Tokens: 512, InFlight: 64}
	for name, c := range map[string]struct {
		change func(*Outlook)
		bound  string
		micros float64
	}{
		"computing":       {func(*Outlook) {}, "stage 1: computing", 2 / 0.4},
		"a peer less":     {func(o *Outlook) { o.Stages[1] = o.Stages[1][:1] }, "stage 2: computing", 1 / 0.4},
		"slow links":      {func(o *Outlook) { o.Stages[1] = []Worker{worker(100, 10, 0), worker(100, 10, 0)} }, "stage 2: links of its peers", 2 * 10e6 / 8 / (3 << 19)},
		"slow trainers":   {func(o *Outlook) { o.Trainers = []Link{{Bandwidth: 1e6}} }, "links of the trainers", 1e6 / (5 << 19)},
		"few under way":   {func(o *Outlook) { o.InFlight = 1 }, "micro-batches under way", 0},
		"one stage alone": {func(o *Outlook) { o.Stages = o.Stages[2:] }, "stage 1: computing", 2 / 0.3},
	} {
		o := even
		o.Stages = append([][]Worker(nil), even.Stages...)
		c.change(&o)
		f, err := o.Forecast()
		if err != nil {
			t.Fatal(err)
		}
		if f.Bound != c.bound || (c.micros > 0 && math.Abs(f.Micros/c.micros-1) > 0.001) {
			t.Errorf("%s: %.4f micro-batches/s by %s, want %.4f by %s", name, f.Micros, f.Bound, c.micros, c.bound)
		}
		if f.Tokens != f.Micros*512 || f.Micros > f.Compute*1.0001 {
			t.Errorf("%s: %+v", name, f)
		}
		enough, err := o.Enough()
		if err != nil {
			t.Fatal(err)
		}
		o.InFlight = enough
		if f, _ := o.Forecast(); f.Bound == "micro-batches under way" {
			t.Errorf("%s: %d micro-batches under way are said to be enough", name, enough)
		}
	}
	for _, o := range []Outlook{
		{},
		{Stages: [][]Worker{{}}, Tokens: 1, InFlight: 1},
		{Stages: [][]Worker{{{}}}, Tokens: 1, InFlight: 1},
		{Stages: [][]Worker{{fast}}, Tokens: 1, InFlight: 1, Bytes: math.Inf(1)},
	} {
		if _, err := o.Forecast(); err == nil {
			t.Errorf("%+v passes", o)
		}
	}
}
