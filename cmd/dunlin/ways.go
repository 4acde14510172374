package main

import (
	"dunlin/status"
	"dunlin/swarm"
)

// showWays says in a snapshot how this peer reaches the others.
func showWays(s *status.Snapshot, host *swarm.Host) {
	ways := make(map[string]swarm.Way, len(s.Peers))
	for id, way := range host.Ways() {
		ways[id.String()] = way
	}
	for i := range s.Peers {
		p := &s.Peers[i]
		way, open := ways[p.ID]
		if !open || !p.Alive {
			continue
		}
		p.Way = "direct"
		if way.Relayed {
			p.Way = "relayed"
		}
		if way.RTT > 0 {
			seconds := float64(way.RTT.Microseconds()) / 1e6
			p.Latency = &seconds
		}
	}
}
