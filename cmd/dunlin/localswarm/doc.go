// Package localswarm runs a swarm on this machine: a coordinator and workers, each a process of this same binary with a data
// folder of its own, on loopback. The demo and bench swarm use it; Chaos kills and replaces its processes while it trains.
package localswarm
