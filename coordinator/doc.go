// Package coordinator decides who is in a run, which windows of data each
// worker may train on, when checkpoints are taken and when the run ends; and,
// at the worker's end, how a worker gets in, stays in and leaves.
//
// Machine is the coordinator's side. It keeps members (members.go), leases of
// windows (leases.go), checkpoints and retention (checkpoint.go), and the start
// of a reign (reign.go: ask peers for a higher ledger, adopt it, raise the
// term, lead). Its state moves only when an entry stands in the log: it
// proposes with Append and waits for Logged, so replaying the log rebuilds it.
// After every event it compares what should stand in the log with what does
// and proposes the difference; a proposal that is lost is made again.
//
// Joiner is one worker's life: dialling, syncing, warming, training, draining.
//
// Both are pure: time, events and seeds come in, effects go out in the order
// in which they must be carried out. The String form of events and effects is
// the line of a transcript.
package coordinator
