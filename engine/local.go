package engine

import (
	"errors"
	"fmt"

	"dunlin/compute"
	"dunlin/data"
	"dunlin/model"
	"dunlin/recipe"
	"dunlin/training"
	"dunlin/wire"
)

// Local makes a swarm worker's inner steps on a device of this machine.
type Local struct {
	cfg             training.TrainerConfig // of a joiner, whose moments start at zero
	trainer         *training.Trainer      // nil while the device is lost
	device          compute.Device
	windows         data.Windows
	order           data.Order
	live            [][]float32
	inputs, targets []int32
	indices         []int
	apart           bool   // the device has memory of its own: live is a copy
	memory          string // file of the moments; empty for none
}

// NewLocal allocates the run's model on a device, which stays the
// caller's. tokens is the run's training text, packed. A joiner's learning rate ramps
// up, since its moments start at zero in the middle of a run (protocol, R3a).
// memory is a file for the moments, from which a restarted worker goes on
// (R8); one that does not fit is passed over, as if there were none. room is a
// WorkerPlan's, or zero to keep everything.
func NewLocal(spec *wire.RunSpec, device compute.Device, tokens []byte, joiner bool, memory string, room model.Room) (*Local, error) {
	cfg, err := recipe.Trainer(spec, joiner)
	if err != nil {
		return nil, err
	}
	cfg.Room = room
	windows, err := recipe.Windows(spec, tokens)
	if err != nil {
		return nil, err
	}
	trainer, err := training.NewTrainer(device, cfg)
	if err != nil {
		return nil, err
	}
	e := &Local{
		trainer: trainer, device: device, windows: windows, order: data.Order{Seed: spec.Data.Seed, N: windows.Len()},
		inputs: make([]int32, cfg.Batch*cfg.Model.Context), targets: make([]int32, cfg.Batch*cfg.Model.Context),
		indices: make([]int, cfg.Batch), memory: memory,
	}
	again, err := recipe.Trainer(spec, true)
	if err != nil {
		return nil, errors.Join(err, trainer.Close())
	}
	e.cfg, e.cfg.Room = again, room
	flat := trainer.Model().Params().Host
	e.apart = flat == nil
	if e.apart {
		flat = make([]float32, cfg.Model.Parameters())
	}
	for _, p := range trainer.Params() {
		e.live = append(e.live, flat[p.Offset:p.Offset+p.Size:p.Offset+p.Size])
	}
	recallMoments(e.memory, e.trainer.Inner())
	return e, nil
}

// Remember implements Engine: it keeps the moments in one durable step.
func (e *Local) Remember() error {
	if e.trainer == nil {
		return nil
	}
	return keepMoments(e.memory, e.trainer.Inner())
}

// Live implements Engine.
func (e *Local) Live() [][]float32 { return e.live }

// Pull implements Engine.
func (e *Local) Pull(tensors []int) error {
	if !e.apart {
		return nil
	}
	for _, i := range tensors {
		if err := e.trainer.Read(e.live[i], i); err != nil {
			return err
		}
	}
	return nil
}

// Push implements Engine.
func (e *Local) Push(tensors []int) error {
	if !e.apart {
		return nil
	}
	for _, i := range tensors {
		if err := e.trainer.Write(i, e.live[i]); err != nil {
			return err
		}
	}
	return nil
}

// Reopen implements Engine.
func (e *Local) Reopen() error {
	device, ok := e.device.(compute.Reopener)
	if !ok {
		return fmt.Errorf("device %s cannot be opened again", e.device.Name())
	}
	if e.trainer != nil {
		_ = e.trainer.Close() // its memory went with the device
		e.trainer = nil
	}
	if err := device.Reopen(); err != nil {
		return err
	}
	trainer, err := training.NewTrainer(e.device, e.cfg)
	if err != nil {
		return err
	}
	e.trainer = trainer
	recallMoments(e.memory, e.trainer.Inner())
	return nil
}

// Name implements Engine.
func (e *Local) Name() string { return e.device.Name() }

// Step implements Engine.
func (e *Local) Step(positions []uint64, progress float64) (float64, error) {
	for i, p := range positions {
		e.indices[i] = e.order.At(p)
	}
	if err := e.windows.Batch(e.inputs, e.targets, e.indices...); err != nil {
		return 0, err
	}
	result, err := e.trainer.Step(e.inputs, e.targets, progress)
	return result.Loss, err
}

// Close implements Engine.
func (e *Local) Close() error {
	if e.trainer == nil {
		return nil
	}
	return e.trainer.Close()
}
