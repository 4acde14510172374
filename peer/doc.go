// Package peer runs a peer: it drives the pure machines and owns every goroutine, timer and file that they need.
//
// Peer is the driver. Its worker trains on a device through an Engine: LocalEngine for a whole model, a Team of them for
// several devices, a StageEngine for one stage.
package peer
