// Package core routes events between the pure machines of one peer: those of
// the coordinator's side (coordinator.Machine, round.Leader), of a worker
// (coordinator.Joiner, round.Member, round.Owner) and the one that everybody
// has, catchup.Machine. A Core is a machine itself: Step(now, event) returns
// effects, and nothing else happens. The driver (package peer) and the
// simulator (package sim) carry the effects out.
//
// The data's way through a round: Member asks for a snapshot, its Ready goes to
// the Leader, the Leader's attempt comes back through the log, Owners pull and
// sum, the Leader announces the results, catchup pulls and prepares them, says
// Have, the Leader's commit comes back through the log, catchup promotes it and
// Member merges.
package core
