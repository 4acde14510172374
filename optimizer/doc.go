// Package optimizer holds the two optimizers of a run and what joins them.
//
//   - inner.go: [AdamW], a worker's local step, on any compute device.
//   - schedule.go: [Schedule], learning rates as pure functions of progress, so
//     that late, slow and resumed workers agree (protocol, R3a).
//   - outer.go: [Outer], the Nesterov step on committed weights. It is on the
//     replicated path (protocol, R9): plain Go, float32, products rounded
//     explicitly, the same bits on every machine.
//   - merge.go: [Merge], how a worker takes a committed version into its live
//     parameters (protocol, R1).
package optimizer
