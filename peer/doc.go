// Package peer runs a peer: it drives the pure machines and owns every goroutine, timer and file that they need.
//
// Peer is the driver. Its worker trains through an engine.Engine.
package peer
