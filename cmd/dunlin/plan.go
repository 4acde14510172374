package main

import (
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"

	"dunlin/compute"
	"dunlin/peer"
	"dunlin/wire"
)

// fit plans a training within --memory and holds Go's heap to the plan, so that garbage does not add to it.
func (c *Config) fit(device compute.Device, trainer *peer.TrainerConfig, d peer.Demand) (peer.Plan, error) {
	debug.FreeOSMemory() // of what reading the data took
	d.Limit, d.Used = c.Memory, residentBytes()
	plan, err := trainer.Plan(device, d)
	if err != nil {
		return plan, err
	}
	trainer.Room = plan.Room
	limitHeap(plan.Bytes + plan.Bytes/100 - d.Used)
	plan.Bytes = max(plan.Bytes, maxResidentBytes())
	return plan, nil
}

// fitWorker plans a worker's inner steps within --memory. Only that limit holds its heap, since what rounds take is not
// known as well.
func (c *Config) fitWorker(spec *wire.RunSpec, device compute.Device) (peer.Plan, error) {
	debug.FreeOSMemory() // of what reading the data took
	used := residentBytes()
	plan, err := peer.WorkerPlan(spec, device, c.Memory, used)
	switch {
	case err != nil:
	case c.Memory > 0:
		limitHeap(c.Memory - used)
	default:
		debug.SetMemoryLimit(math.MaxInt64) // an earlier stay may have had one
	}
	return plan, err
}

// limitHeap lets Go's heap grow by so many bytes from now on; near that it collects garbage more often.
func limitHeap(more int64) {
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	debug.SetMemoryLimit(int64(heap.Sys-heap.HeapReleased) + more)
}

// planned shows a plan.
func (p *progress) planned(plan peer.Plan) {
	p.say("memory         "+plan.String(), "memory", slog.Int64("predicted_bytes", plan.Bytes), slog.Int("windows_a_pass", plan.Room.Batch),
		slog.Int("passes", plan.Passes), slog.String("computed_again", fmt.Sprint(plan.Room.Kept)), slog.Int("one_kind_more_in_blocks", plan.Room.Thrifty))
}
