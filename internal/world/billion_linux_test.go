package world

import (
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"dunlin/compute/cpu"
	"dunlin/model"
	"dunlin/optimizer"
)

// TestBillion is `make bench-billion`: a model of 1.0 billion parameters makes three inner steps on one window of 256 tokens,
// once in one process and once in four, each of which holds a stage. Each of the four takes at most 32 % of the one's memory,
// all together at most 1.1 times, and losses are equal to rounding. LAYERS and WIDTH change the shape. Between processes
// values travel as they are; moments, gradients and weights are float32: 16 bytes a parameter.
func TestBillion(t *testing.T) {
	if os.Getenv("BENCH_BILLION") == "" {
		t.Skip("make bench-billion runs this measurement")
	}
	began := time.Now()
	shape := billion()
	whole := train(t, shape, 1)
	four := train(t, shape, 4)
	sum := 0
	for i, kb := range four.memory {
		share := float64(kb) / float64(whole.memory[0])
		t.Logf("stage %d of 4: %d MB at most, %.1f %% of the one process", i+1, kb/1000, 100*share)
		if share > 0.32 {
			t.Errorf("stage %d takes %.1f %% of what the whole model takes", i+1, 100*share)
		}
		sum += kb
	}
	t.Logf("%d parameters: one process %d MB at most, four %d MB together (%.2f times); in all %v", shape.Parameters(), whole.memory[0]/1000, sum/1000,
		float64(sum)/float64(whole.memory[0]), time.Since(began).Round(time.Second))
	if float64(sum) > 1.1*float64(whole.memory[0]) {
		t.Error("the stages take more than 1.1 times the memory of the whole model")
	}
	for i := range whole.losses {
		t.Logf("step %d: loss %.6f in one process, %.6f in four", i+1, whole.losses[i], four.losses[i])
		if math.Abs(float64(whole.losses[i]-four.losses[i])) > 1e-4 {
			t.Errorf("step %d: losses %v and %v", i+1, whole.losses[i], four.losses[i])
		}
	}
	if whole.losses[2] >= whole.losses[0] {
		t.Errorf("nothing was learned: losses %v", whole.losses)
	}
}

func billion() model.Config {
	width := count("WIDTH", 2048)
	return model.Config{Layers: count("LAYERS", 20), Heads: 16, Width: width, Context: 256, Vocab: 256, Untied: true}
}

// stageOrder asks a process for a pass or a step, stageDone answers. Fields that an order does not need are empty.
type (
	stageOrder struct {
		Backward, Step  bool
		Tokens, Targets []int32
		Stream          []float32 // input
		Gradient        []float32 // of the output
		Squares         float64   // of the whole model's gradient
	}
	stageDone struct {
		Stream  []float32 // output, or gradient of the input
		Loss    float32
		Squares float64 // of this stage's gradient
		Fault   string
	}
)

// trained is what three steps came to.
type trained struct {
	losses []float32
	memory []int // by process: kB resident at most
}

// train makes three steps in so many processes.
func train(t *testing.T, shape model.Config, stages int) trained {
	t.Helper()
	procs := make([]*stageProcess, stages)
	for i := range procs {
		procs[i] = startStage(t, i, stages)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	tokens := make([]int32, shape.Context+1)
	for i := range tokens {
		tokens[i] = rng.Int32N(int32(shape.Vocab))
	}
	var out trained
	for range 3 {
		input := make([][]float32, stages)
		for i := range stages - 1 {
			input[i+1] = procs[i].ask(t, &stageOrder{Tokens: tokens[:shape.Context], Stream: input[i]}).Stream
		}
		var gradient []float32
		squares := 0.0
		for i := stages - 1; i >= 0; i-- {
			done := procs[i].ask(t, &stageOrder{Backward: true, Tokens: tokens[:shape.Context], Targets: tokens[1:], Stream: input[i], Gradient: gradient})
			if i == stages-1 {
				out.losses = append(out.losses, done.Loss)
			}
			gradient, squares = done.Stream, squares+done.Squares
		}
		for _, p := range procs {
			p.ask(t, &stageOrder{Step: true, Squares: squares})
		}
	}
	for _, p := range procs {
		out.memory = append(out.memory, p.memory(t))
		p.end()
	}
	return out
}

// stageProcess is this test's binary, as a process that holds a stage.
type stageProcess struct {
	cmd *exec.Cmd
	in  *os.File
	enc *gob.Encoder
	dec *gob.Decoder
}

func startStage(t *testing.T, stage, stages int) *stageProcess {
	t.Helper()
	ordersOut, ordersIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answersOut, answersIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &stageProcess{cmd: exec.Command(os.Args[0], "-test.run", "^TestStageProcess$"), in: ordersIn, enc: gob.NewEncoder(ordersIn), dec: gob.NewDecoder(answersOut)}
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("STAGE_PROCESS=%d/%d", stage, stages))
	p.cmd.ExtraFiles, p.cmd.Stderr = []*os.File{ordersOut, answersIn}, os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	for _, f := range []*os.File{ordersOut, answersIn} { // the process has them
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *stageProcess) ask(t *testing.T, o *stageOrder) *stageDone {
	t.Helper()
	var done stageDone
	if err := errors.Join(p.enc.Encode(o), p.dec.Decode(&done)); err != nil || done.Fault != "" {
		t.Fatalf("a stage's process: %v %s", err, done.Fault)
	}
	return &done
}

// memory returns the most kB that the process had resident.
func (p *stageProcess) memory(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if err != nil || m == nil {
		t.Fatalf("no memory of the process: %v", err)
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb
}

// end has the process end and waits for it.
func (p *stageProcess) end() {
	_ = p.in.Close() // that it has ended before shows in ask
	_ = p.cmd.Wait()
}

// TestStageProcess is a process that startStage starts.
func TestStageProcess(t *testing.T) {
	var stage, stages int
	if _, err := fmt.Sscanf(os.Getenv("STAGE_PROCESS"), "%d/%d", &stage, &stages); err != nil {
		t.Skip("TestBillion starts it as a process")
	}
	in, out := gob.NewDecoder(os.NewFile(3, "orders")), gob.NewEncoder(os.NewFile(4, "answers"))
	shape := billion()
	part := model.Part{From: stage * shape.Layers / stages, To: (stage + 1) * shape.Layers / stages}
	device, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	s, err := model.NewStage(part, model.Room{Batch: 1, Kept: model.KeptInput}, shape, device)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, p := range shape.PartParams(part) {
		p.Fill(s.Params().Host[p.Offset:p.Offset+p.Size], 1)
	}
	inner, err := optimizer.New(optimizer.Target{Device: device, Params: s.Params(), Grads: s.Grads(), Tensors: s.Shapes()},
		optimizer.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	values := make([]float32, shape.Context*shape.Width)
	for {
		var o stageOrder
		if in.Decode(&o) != nil { // the test has closed its end
			return
		}
		var done stageDone
		pass := model.Pass{Windows: 1, Tokens: o.Tokens, Stream: o.Stream, Targets: o.Targets}
		switch {
		case o.Step:
			inner.Squares(o.Squares)
			_, err = inner.Step(1e-4, 0, 1)
		case o.Backward:
			s.ZeroGrad()
			dIn := values
			if part.First() {
				dIn = nil
			}
			done.Loss, err = s.Backward(dIn, pass, o.Gradient)
			done.Stream, done.Squares = slices.Clone(dIn), s.Squares()
		default:
			err = s.Forward(values, pass)
			done.Stream = values
		}
		if err != nil {
			done.Fault = err.Error()
		}
		if err := out.Encode(&done); err != nil {
			t.Fatal(err)
		}
	}
}
