// Package compress turns the values of a fragment into bytes and back.
//
// A [Layout] fixes, once for a run, where every parameter of a fragment stands
// (protocol, R4): 2-D tensors are cut into tiles of 64×64 values, 1-D tensors
// are joined and cut by 4,096 values, and every tile or cut is one block. Edge
// blocks are filled up with zeros. The sequence of all blocks is the "block
// order" in which weights, momentum, error feedback and outer gradients are kept.
// Slabs are runs of whole blocks and the unit that has one owner in a round.
//
// A [Codec] encodes the values of one slab as one frame. Frames describe
// themselves (magic, version, codec, count), so that a frame of another codec or
// of another length is refused before a value is read. Every decoder refuses
// what would give a value that is not finite.
//
// Decoding a result is on the replicated path (protocol, R9): plain Go, float32,
// every product rounded explicitly, the same bits on every machine. Encoders
// are free in principle; these are written the same way, so that an owner's
// work can be recomputed.
//
// Layouts and codecs are immutable and safe for concurrent use.
package compress
