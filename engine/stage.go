package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"dunlin/compute"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/recipe"
	"dunlin/training"
	"dunlin/wire"
)

// Stage computes one stage of a run's model on a device of this machine. The
// gradient of each micro-batch is kept apart until it counts, so that one that a
// trainer gives up leaves nothing behind. One goroutine uses it.
type Stage struct {
	stage  *model.Stage
	inner  optimizer.Inner
	device compute.Device
	cfg    training.TrainerConfig
	border border
	most   int // windows in a micro-batch
	live   [][]float32
	apart  []compute.Buffer // by tensor: where live's values are, on a device with memory of its own; else nil
	memory string           // file of the moments; empty for none

	sum    compute.Buffer                   // of the gradients that count
	count  int                              // of them
	all    compute.Buffer                   // of all members' sums, in a run whose peers step together; else empty
	kept   map[wire.StageKey]compute.Buffer // but the newest's
	spare  []compute.Buffer
	newest wire.StageKey  // whose gradient lies where the backward pass left it
	there  bool           // it does
	stream []float32      // scratch of one micro-batch's rows
	other  []float32      // likewise
	desk   []float32      // values of a sum on their way to or from the device, a piece at a time
	landed compute.Buffer // a piece of another member's sum, there
}

// deskValues are those of a piece of a sum that crosses over at a time, 1 MiB.
const deskValues = 1 << 18

// NewStage allocates a stage of a run's model on a device, which stays the
// caller's. joiner, memory and room are as for NewLocal; room is a StagePlan's.
func NewStage(spec *wire.RunSpec, stage int, device compute.Device, joiner bool, memory string, room model.Room) (*Stage, error) {
	cfg, err := recipe.Trainer(spec, joiner)
	if err != nil {
		return nil, err
	}
	parts, err := recipe.Parts(spec)
	if err != nil {
		return nil, err
	}
	between, err := newBorder(spec, cfg.Model)
	if err != nil {
		return nil, err
	}
	e := &Stage{device: device, cfg: cfg, border: between, most: int(spec.Micro), kept: map[wire.StageKey]compute.Buffer{}}
	if room == (model.Room{}) {
		room.Batch = int(spec.Micro)
	}
	if e.stage, err = model.NewStage(parts[stage], room, cfg.Model, device); err != nil {
		return nil, err
	}
	fail := func(err error) (*Stage, error) { return nil, errors.Join(err, e.Close()) }
	if e.sum, err = device.Alloc(e.stage.Grads().Len()); err != nil {
		return fail(err)
	}
	e.desk = make([]float32, min(deskValues, e.sum.Len()))
	steps := e.sum // what the optimizer steps on
	if spec.Synchronous {
		if e.all, err = device.Alloc(e.sum.Len()); err != nil {
			return fail(err)
		}
		if e.landed, err = device.Alloc(len(e.desk)); err != nil {
			return fail(err)
		}
		steps = e.all
	}
	params := cfg.Model.PartParams(parts[stage])
	if e.inner, err = optimizer.New(training.Target(device, e.stage.Params(), steps, params), cfg.Optimizer()); err != nil {
		return fail(err)
	}
	e.bind(spec, params)
	rows := int(spec.Micro) * cfg.Model.Context
	e.stream, e.other = make([]float32, rows*cfg.Model.Width), make([]float32, rows*cfg.Model.Width)
	if err := e.rehearse(); err != nil {
		return fail(fmt.Errorf("rehearse a pass: %w", err))
	}
	e.memory = memory
	recallMoments(memory, e.inner)
	return e, nil
}

// rehearse passes zeros through a stage on a device with memory of its own, which then takes what it takes for itself: if
// there is too little, that shows while there can still be another plan.
func (e *Stage) rehearse() error {
	if e.apart == nil {
		return nil
	}
	part, rows := e.stage.Part(), e.most*e.cfg.Model.Context
	in := model.Pass{Windows: e.most, Stream: e.stream}
	var dIn, dOut []float32
	if part.First() {
		in.Stream, in.Tokens = nil, make([]int32, rows)
	} else {
		dIn = e.other
	}
	if part.Last(e.cfg.Model) {
		in.Targets = make([]int32, rows)
	} else {
		dOut = e.other
	}
	_, err := e.stage.Backward(dIn, in, dOut)
	return errors.Join(err, e.device.Sync())
}

// bind finds the run's tensors among the stage's parameters.
func (e *Stage) bind(spec *wire.RunSpec, params []model.Param) {
	flat := e.stage.Params()
	e.live = make([][]float32, len(spec.Tensors))
	host := flat.Host
	if host == nil {
		host = make([]float32, flat.Len())
		e.apart = make([]compute.Buffer, len(spec.Tensors))
	}
	for _, p := range params {
		for i, t := range spec.Tensors {
			if t.Name != p.Name {
				continue
			}
			e.live[i] = host[p.Offset : p.Offset+p.Size : p.Offset+p.Size]
			if e.apart != nil {
				e.apart[i] = flat.Slice(p.Offset, p.Offset+p.Size)
			}
		}
	}
}

// Live implements Engine; tensors of other stages are nil.
func (e *Stage) Live() [][]float32 { return e.live }

// Pull implements Engine.
func (e *Stage) Pull(tensors []int) error {
	if e.apart == nil {
		return nil
	}
	for _, i := range tensors {
		if err := e.device.Download(e.live[i], e.apart[i]); err != nil {
			return fmt.Errorf("read weights: %w", err)
		}
	}
	return nil
}

// Push implements Engine.
func (e *Stage) Push(tensors []int) error {
	if e.apart == nil {
		return nil
	}
	for _, i := range tensors {
		e.device.Upload(e.apart[i], e.live[i])
	}
	return e.device.Sync()
}

// Remember implements Engine.
func (e *Stage) Remember() error { return keepMoments(e.memory, e.inner) }

// Reopen implements Engine: other peers count on what a stage holds, so that one
// whose device is lost leaves and comes back as another.
func (e *Stage) Reopen() error {
	return fmt.Errorf("device %s: what a stage held on it is lost", e.device.Name())
}

// Name implements Engine.
func (e *Stage) Name() string { return e.device.Name() }

// Step implements Engine: a stage alone makes none from tokens.
func (e *Stage) Step([]uint64, float64) (float64, error) {
	return 0, errors.New("a stage steps on gradients that other stages bring")
}

// Close implements Engine.
func (e *Stage) Close() error {
	if e.inner != nil {
		e.inner.Close()
	}
	for _, b := range e.kept {
		e.device.Free(b)
	}
	for _, b := range e.spare {
		e.device.Free(b)
	}
	for _, b := range []compute.Buffer{e.sum, e.all, e.landed} {
		if b.Len() > 0 {
			e.device.Free(b)
		}
	}
	return e.stage.Close()
}

// Forward runs one micro-batch forward and returns the encoded output.
func (e *Stage) Forward(c *wire.Cargo) ([]byte, error) {
	in, err := e.pass(c)
	if err != nil {
		return nil, err
	}
	out := e.other[:e.rows(in)*e.cfg.Model.Width]
	if err := e.stage.Forward(out, in); err != nil {
		return nil, err
	}
	return e.border.encode(out, in.Tokens)
}

// Backward runs one micro-batch forward and back and returns the encoded gradient of
// its input, empty at the first stage, and the loss at the last. The weight gradient is
// kept under the key until Add or Drop.
func (e *Stage) Backward(key wire.StageKey, c *wire.Cargo) (gradient []byte, loss float32, err error) {
	in, err := e.pass(c)
	if err != nil {
		return nil, 0, err
	}
	n := e.rows(in) * e.cfg.Model.Width
	part := e.stage.Part()
	var dOut, dIn []float32
	if part.Last(e.cfg.Model) {
		in.Targets, err = decodeTokens(c.Gradient, e.rows(in))
	} else {
		dOut = e.other[:n]
		err = e.border.decodeGradient(dOut, c.Gradient)
	}
	if err != nil {
		return nil, 0, err
	}
	if !part.First() {
		dIn = e.other[:n] // of the output's gradient nothing is needed once it is on the device
	}
	if err := e.clear(); err != nil {
		return nil, 0, err
	}
	if loss, err = e.stage.Backward(dIn, in, dOut); err != nil {
		return nil, 0, err
	}
	if !part.First() {
		if gradient, err = e.border.encodeGradient(dIn); err != nil {
			return nil, 0, err
		}
	}
	e.Drop(key) // of an earlier call
	e.newest, e.there = key, true
	return gradient, loss, nil
}

// clear makes room for the next gradient: one that is still waited for is put aside.
func (e *Stage) clear() error {
	if e.there {
		var b compute.Buffer
		if n := len(e.spare); n > 0 {
			b, e.spare = e.spare[n-1], e.spare[:n-1]
		} else {
			var err error
			if b, err = e.device.Alloc(e.sum.Len()); err != nil {
				return err
			}
		}
		e.device.Copy(b, e.stage.Grads())
		e.kept[e.newest], e.there = b, false
	}
	e.stage.ZeroGrad()
	return nil
}

// Drop forgets a kept gradient.
func (e *Stage) Drop(key wire.StageKey) {
	if e.there && e.newest == key {
		e.there = false
	}
	if b, ok := e.kept[key]; ok {
		delete(e.kept, key)
		e.spare = append(e.spare, b)
	}
}

// Add makes a kept gradient count.
func (e *Stage) Add(key wire.StageKey) error {
	b, ok := e.kept[key]
	if e.there && e.newest == key {
		b, ok = e.stage.Grads(), true
	}
	if !ok {
		return fmt.Errorf("add %v: its gradient is not here", key)
	}
	if e.count == 0 {
		e.device.Copy(e.sum, b)
	} else {
		e.device.Combine(e.sum, 1, e.sum, 1, b)
	}
	e.count++
	e.Drop(key)
	return nil
}

// Clear forgets what counts.
func (e *Stage) Clear() { e.count = 0 }

// Apply makes an inner step on the mean of what counts, and clears it.
func (e *Stage) Apply(progress float64) error {
	if e.count == 0 {
		return errors.New("inner step on no gradient")
	}
	return e.step(progress, e.count)
}

// step makes an inner step on a sum over so many micro-batches.
func (e *Stage) step(progress float64, micros int) error {
	_, err := e.inner.Step(e.cfg.LR.At(progress), e.cfg.WeightDecay.At(progress), 1/float64(micros))
	if errors.Is(err, optimizer.ErrNotFinite) {
		// The norm of a device that failed meanwhile is not a number either.
		if failed := e.device.Sync(); failed != nil {
			err = failed
		}
	}
	e.count = 0
	return err
}

// Sum returns the bytes of what counts, for other members of the stage.
func (e *Stage) Sum() ([]byte, error) {
	out := make([]byte, 4*e.sum.Len())
	if e.count == 0 {
		return out, nil
	}
	for from := 0; from < e.sum.Len(); from += len(e.desk) {
		part := e.desk[:min(len(e.desk), e.sum.Len()-from)]
		if err := e.device.Download(part, e.sum.Slice(from, from+len(part))); err != nil {
			return nil, fmt.Errorf("read a sum of gradients: %w", err)
		}
		for i, x := range part {
			binary.LittleEndian.PutUint32(out[4*(from+i):], math.Float32bits(x))
		}
	}
	return out, nil
}

// Reduce adds up the sums of a step's members in their order, of which nil is its own,
// and returns the squared norm of the mean over so many micro-batches.
func (e *Stage) Reduce(sums [][]byte, micros int) (float64, error) {
	e.device.Zero(e.all)
	for _, sum := range sums {
		switch {
		case sum == nil && e.count == 0:
		case sum == nil:
			e.device.Combine(e.all, 1, e.all, 1, e.sum)
		case len(sum) != 4*e.all.Len():
			return 0, fmt.Errorf("a member's sum of %d bytes, want %d", len(sum), 4*e.all.Len())
		default:
			e.addForeign(sum)
		}
	}
	n := float64(micros)
	normSq := e.device.SumSquares(e.all) / (n * n)
	return normSq, e.device.Sync()
}

// addForeign adds another member's sum to that of all, value by value as Combine does.
func (e *Stage) addForeign(sum []byte) {
	for from := 0; from < e.all.Len(); from += len(e.desk) {
		part := e.desk[:min(len(e.desk), e.all.Len()-from)]
		for i := range part {
			part[i] = math.Float32frombits(binary.LittleEndian.Uint32(sum[4*(from+i):]))
		}
		landed, to := e.landed.Slice(0, len(part)), e.all.Slice(from, from+len(part))
		e.device.Upload(landed, part)
		e.device.Combine(to, 1, to, 1, landed)
	}
}

// ApplyReduced makes an inner step on the mean that Reduce made, clipped by the norm of
// the whole model's gradient (R12), and clears what counts.
func (e *Stage) ApplyReduced(micros int, normSq, progress float64) error {
	n := float64(micros)
	e.inner.Squares(normSq * n * n)
	return e.step(progress, micros)
}

// pass decodes the input of a call.
func (e *Stage) pass(c *wire.Cargo) (model.Pass, error) {
	windows := wire.Windows(c.Windows)
	if windows < 1 || windows > uint64(e.most) {
		return model.Pass{}, fmt.Errorf("a micro-batch of %d windows: 1 to %d are taken", windows, e.most)
	}
	in := model.Pass{Windows: int(windows)}
	rows := in.Windows * e.cfg.Model.Context
	var err error
	if e.stage.Part().First() {
		in.Tokens, err = decodeTokens(c.Input, rows)
		return in, err
	}
	in.Stream = e.stream[:rows*e.cfg.Model.Width]
	in.Tokens, err = e.border.decode(in.Stream, c.Input)
	return in, err
}

func (e *Stage) rows(in model.Pass) int { return in.Windows * e.cfg.Model.Context }

// EncodeTokens is how tokens travel to a stage, four bytes each, little endian.
func EncodeTokens(tokens []int32) []byte {
	out := make([]byte, 0, 4*len(tokens))
	for _, t := range tokens {
		out = binary.LittleEndian.AppendUint32(out, uint32(t))
	}
	return out
}

func decodeTokens(b []byte, n int) ([]int32, error) {
	if len(b) != 4*n {
		return nil, fmt.Errorf("%d bytes of tokens, want %d", len(b), 4*n)
	}
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out, nil
}
