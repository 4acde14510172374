// Package catchup decides what a peer fetches, from whom and in which order,
// to bring its replica to the head of the ledger and keep it there.
//
// One machine serves every case, since all of them are replay: following a run
// (pull the frames of announced results, prepare them, say Have, promote them
// when the commit stands), having missed a commit, joining, waking from sleep,
// and repairing a state that diverged. Commits are applied in strict order of
// height, each once. A joiner takes the cheaper of replaying what it lacks and
// a checkpoint with the entries above it.
//
// Everything is named by content, so any peer may serve it: the owner first,
// then the other members, then the coordinator, then whoever is connected
// (fetch.go). What nobody has any more waits, with its reason, until a holder
// returns or a newer checkpoint makes it unnecessary. Whoever serves joiners serves a
// few at a time (donor.go).
//
// The machine is pure: time and events come in, effects go out in the order in
// which they must be carried out. Events are in event.go, effects in effect.go.
package catchup
