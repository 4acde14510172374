// Package ledger checks, chains and stores a run's entries: the only log there
// is. Replaying its commits gives the global model, bit for bit.
//
// Chain is the rules without a disk: heights without gaps, each entry on the
// hash of the one below, terms that never fall, signatures of a majority of the
// run's coordinator keys, and compare-and-append (protocol, R7): a commit counts
// only if its base version is the head of its fragment, its attempt the newest
// opened there and its settings the ones in force. What breaks such a rule is
// dropped with a reason. Two certified entries at one height are a fork: it
// stops the chain, and both are named.
//
// Log is a Chain whose entries are on disk (bbolt) before a call returns. It is
// also the log of a run with one coordinator: Propose builds, signs, stores and
// returns an entry, in a term that RaiseTerm made durable before (R8).
//
// An outcome is known only from the log, never from an error: a disk that fails
// in mid-write leaves it open whether the entry is there, so the Log refuses
// everything until it is opened again.
package ledger
