// Package optimizer holds the two optimizers of a run and what joins them.
//
// On a worker, on any compute device:
//
//   - inner.go: [Inner], one local step, and [New], which makes any of them;
//     adamw.go, muon.go, lamb.go, sgd.go, rmsprop.go and adagrad.go are the
//     kinds. Weight decay is decoupled in all of them but LAMB, whose trust
//     ratio covers it. orthogonal.go: what Muon makes of a matrix.
//   - schedule.go: [Schedule], learning rates as pure functions of progress, so
//     that late, slow and resumed workers agree (protocol, R3a).
//   - average.go: [Average], a moving average of the weights, by data read and
//     not by steps.
//   - noise.go: [NoiseScale], how large a batch still pays, from the gradients
//     of micro-batches; batch.go: [BatchSchedule], which follows it.
//   - merge.go: [Merge], how a worker takes a committed version into its live
//     parameters (protocol, R1).
//
// On the replicated path (protocol, R9), plain Go in float32 with products
// rounded explicitly, the same bits on every machine:
//
//   - outer.go: [Outer], the Nesterov step on committed weights.
package optimizer
