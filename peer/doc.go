// Package peer runs a peer: it drives the pure machines and owns every goroutine, timer and file that they need.
//
// Trainer is one inner step of training (gradients of a batch, then AdamW) for workers of a swarm and for Solo, the
// loop of `dunlin train`, which keeps checkpoints and goes on from them bit for bit. Saved is a checkpoint's model for
// evaluation and sampling; MeasureSpeed times a device.
package peer
