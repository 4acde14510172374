//go:build race

package swarmtest

const raceEnabled = true
