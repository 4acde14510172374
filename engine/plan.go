package engine

import (
	"dunlin/compute"
	"dunlin/recipe"
	"dunlin/training"
	"dunlin/wire"
)

// WorkerPlan plans the inner steps of a swarm's worker within limit bytes (0 for no limit), of which used are resident
// already, the replica among them. What the worker's part in rounds takes is an estimate: it depends on who else is there.
func WorkerPlan(spec *wire.RunSpec, device compute.Device, limit, used int64) (training.Plan, error) {
	cfg, err := recipe.Trainer(spec, false)
	if err != nil {
		return training.Plan{}, err
	}
	return cfg.Plan(device, training.Demand{Limit: limit, Used: used, Beside: roundsBytes(spec, cfg.Model.Parameters()), Micros: 1})
}

// StagePlan is WorkerPlan for a peer that serves a stage: blocks keep as much as fits.
func StagePlan(spec *wire.RunSpec, stage int, device compute.Device, limit, used int64) (training.Plan, error) {
	cfg, err := recipe.Trainer(spec, false)
	if err != nil {
		return training.Plan{}, err
	}
	parts, err := recipe.Parts(spec)
	if err != nil {
		return training.Plan{}, err
	}
	values := int(recipe.StageSize(spec, stage))
	gradients := HeldGradients(values) // what counts, and those that wait for their trainer's word but the newest
	if spec.Synchronous {
		gradients++
	}
	return cfg.PlanPart(device, parts[stage], int(spec.Micro), gradients, training.Demand{Limit: limit, Used: used, Beside: roundsBytes(spec, values) + borderBytes(spec, cfg.Model)})
}

// roundsBytes is what a worker holds for rounds beside the replica: error feedback, a snapshot, anchors that commits have
// replaced, a fragment's sum and its shadow, encoded contributions and results, and connections.
func roundsBytes(spec *wire.RunSpec, parameters int) int64 {
	const connections = 32 << 20
	n := int64(parameters)
	return 4*(3*n+4*n/int64(spec.Fragments)) + n + connections
}

// Bounds of the gradients of a stage that wait for their trainer's word.
const (
	heldMost  = 8
	heldBytes = 256 << 20
)

// HeldGradients is how many of so many values may wait: one where they are large.
func HeldGradients(values int) int { return min(max(1, heldBytes/(4*values)), heldMost) }
