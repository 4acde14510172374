// Package figures counts what a peer shows of itself and of its run.
//
// Figures follows the ledger and what other peers tell, and makes the status.Snapshot that every view shows. Life is what a
// worker's heartbeat says; OwnRounds are rounds as a worker sees them; Thanks is the leaderboard, which outlives a process.
// The driver feeds them on its goroutine; nothing here decides anything.
package figures
