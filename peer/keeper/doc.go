// Package keeper owns a peer's replica: on one goroutine it computes outer steps in the order that it is told, and reports
// what came of them. Results are durable before it says so (R8).
package keeper
