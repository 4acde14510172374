// Package store keeps bytes under the hash of their content: token shards,
// encoded results, slabs of checkpoints.
//
// The address of a blob is the hash of a Merkle leaf, SHA-256(0x00 ‖ data), so
// that a blob named in a result or state root is found under that same hash.
// A blob is verified on every Get: what does not match its name is removed and
// reported, never handed out.
//
// Disk writes a large blob under a temporary name and renames it, so that a
// crash leaves either a whole file or a temporary one that the next Open
// removes. Small blobs wait in memory for Sync (or PutDurable), which writes
// them all to the end of one file: that is the barrier a peer passes before it
// tells anyone that it holds the bytes, and it costs one flush, however many
// blobs there are.
//
// Owners pin what must stay. Collection removes the unpinned blobs that were
// used longest ago until the quota holds. Pins live in memory: after a start
// their owners set them again from the ledger and then call Collect, and until
// that first call nothing is ever removed to make room.
//
// Memory has the same contract without a disk, for the simulator and for tests
// of pure code.
package store
