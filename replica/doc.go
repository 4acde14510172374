// Package replica is this peer's copy of the global state: for every fragment
// committed weights, outer momentum and a version. Only commits change it.
//
// Everything here is on the replicated path (protocol, R9): two peers that apply
// the same commits in the same order hold the same bits, whatever their processors.
// State 0 is a pure function of the RunSpec. A commit is applied in two parts:
//
//	Prepare  decodes a result, makes the outer step on a shadow copy, hashes it
//	Promote  makes the shadow the visible state, if the commit names its hash
//
// so that a holder can report the hash before the commit (R6). Apply is both: replay.
//
// Weights and momentum are kept in the layout's block order (package compress) and are
// never written after they became visible: whoever holds a slice of them may read it
// for as long as it likes. The state of a slab as bytes is its weights, then its
// momentum, float32 little-endian; its hash is the leaf of the Merkle tree whose root
// is the fragment's state hash, and its address in a store. Padding is always +0.
//
// A worker's replica is durable through Save (R8): slabs by content hash first, then
// one small head that names them all.
package replica
