// Package peer runs a peer: it drives the pure machines and owns every goroutine, timer and file that they need.
//
// Peer is the driver: one goroutine, the loop, feeds what happens to the machines of peer/core and carries out what they decide
// (do.go; what comes in is in handle.go and network.go). On the loop, too, is peer/reign: which coordinator leads, how entries
// come about and reach all. Beside it work others, each in its package and on its goroutine: peer/worker trains, peer/stage has
// a part in a pipeline, peer/keeper owns the replica, peer/slabs encodes and sums, peer/contact fetches, peer/judge measures.
// They talk through mailboxes. What the page shows is counted in peer/figures.
package peer
