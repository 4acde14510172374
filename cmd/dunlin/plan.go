package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"

	"dunlin/compute"
	"dunlin/engine"
	"dunlin/folder"
	"dunlin/replica"
	"dunlin/training"
	"dunlin/wire"
)

// within plans and builds, first within the limit, 0 for none. A device that has less memory than it told, or that
// others fill meanwhile, gets a plan of half the size, and again.
func within(limit int64, plan func(limit int64) (training.Plan, error), build func(training.Plan) error, halved func(limit int64, err error)) error {
	for {
		fits, err := plan(limit)
		if err != nil {
			return err
		}
		err = build(fits)
		if !errors.Is(err, compute.ErrMemory) {
			return err
		}
		limit = max(1, fits.Bytes/2)
		halved(limit, err)
	}
}

// halved tells of such a plan.
func (p *progress) halved(limit int64, err error) {
	p.say(fmt.Sprintf("memory         there is less than was told: planning for %s (%v)", training.Megabytes(limit), err), "memory halved",
		slog.Int64("limit_bytes", limit), slog.String("error", err.Error()))
}

// fit plans a training within a limit of memory, 0 for none, and holds Go's heap to the plan, so that garbage does not add
// to it.
func (c *Config) fit(device compute.Device, trainer *training.TrainerConfig, limit int64, d training.Demand) (training.Plan, error) {
	debug.FreeOSMemory() // of what reading the data took
	d.Limit, d.Used = limit, residentBytes()
	plan, err := trainer.Plan(device, d)
	if err != nil {
		return plan, err
	}
	trainer.Room = plan.Room
	if plan.Apart {
		return plan, nil
	}
	limitHeap(plan.Bytes + plan.Bytes/100 - d.Used)
	plan.Bytes = max(plan.Bytes, maxResidentBytes())
	return plan, nil
}

// fitStage is fitWorker for a worker that serves a stage.
func (c *Config) fitStage(spec *wire.RunSpec, stage int, device compute.Device, limit int64) (training.Plan, error) {
	used := c.used()
	plan, err := engine.StagePlan(spec, stage, device, limit, used)
	if err == nil && c.Memory > 0 {
		limitHeap(c.Memory - used)
	}
	return plan, err
}

// fitWorker plans a worker's inner steps within a limit. Only --memory holds its heap, since what rounds take is not known
// as well.
func (c *Config) fitWorker(spec *wire.RunSpec, device compute.Device, limit int64) (training.Plan, error) {
	debug.FreeOSMemory() // of what reading the data took
	used := c.used()
	plan, err := engine.WorkerPlan(spec, device, limit, used)
	switch {
	case err != nil:
	case c.Memory > 0:
		limitHeap(c.Memory - used)
	default:
		debug.SetMemoryLimit(math.MaxInt64) // an earlier stay may have had one
	}
	return plan, err
}

// used returns the memory that this process cannot give back: what files hold is not of it.
func (c *Config) used() int64 {
	if c.Paged {
		return anonymousBytes()
	}
	return residentBytes()
}

// momentum returns where a run's outer momentum lies: nil for memory.
func (c *Config) momentum(dir string) (replica.Room, error) {
	if !c.Paged {
		return nil, nil //nolint:nilnil // as peer.Config says
	}
	return folder.Paged(dir)
}

// limitHeap lets Go's heap grow by so many bytes from now on; near that it collects garbage more often.
func limitHeap(more int64) {
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	debug.SetMemoryLimit(int64(heap.Sys-heap.HeapReleased) + more)
}

// planned shows a plan.
func (p *progress) planned(plan training.Plan) {
	p.say("memory         "+plan.String(), "memory", slog.Int64("predicted_bytes", plan.Bytes), slog.Int("windows_a_pass", plan.Room.Batch),
		slog.Int("passes", plan.Passes), slog.String("computed_again", fmt.Sprint(plan.Room.Kept)), slog.Int("one_kind_more_in_blocks", plan.Room.Thrifty))
}
