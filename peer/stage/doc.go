// Package stage drives a worker's part in a pipeline. Pipe, on one goroutine, feeds the pure machines of package pipeline:
// the server of its stage and, at the first stage, a trainer, which reads windows of the training text. What is computed is
// computed by package worker, which takes a pipe's orders and reports to it.
package stage
