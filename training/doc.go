// Package training is one machine's training: the step that serves `dunlin train` and the workers of a swarm alike
// (Trainer), what it takes of memory, known before it starts (Plan), how much of its time a machine gives (Duty,
// Governor), how fast it is (MeasureSpeed), and a whole training with its checkpoints and their use (Solo, Saved).
// Nothing here knows of other machines.
//
//	cfg.Plan(device, demand) → NewTrainer(device, cfg) → Step, Step, …
package training
