// Package engine makes a device train for a peer.
//
// Engine is what a worker drives: Local computes a whole model, Stage one stage of it, a Team is several devices as one.
// WorkerPlan and StagePlan say beforehand what fits into memory, EstimateSpeed how fast it will be. What an inner step is
// lies in package training; here it meets the RunSpec, the data and the moments that outlive a process.
package engine
