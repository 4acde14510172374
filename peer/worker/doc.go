// Package worker is the inner loop of a peer that trains: one goroutine that makes steps on an engine, takes snapshots of
// the live weights and merges commits into them. It takes orders between two steps and reports what it did. In a run with
// stages it computes passes and steps on what counts, as the pipe of package stage orders.
package worker
