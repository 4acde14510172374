// Package wire holds what peers of a run must agree on to the byte: ids and
// hashes, the RunSpec, the entries of the ledger, the tables that entries name
// by hash, control messages, bulk requests, and the bounds of each.
//
// Everything is RFC 8949 core deterministic CBOR with integer keys; float32
// travels as its bits. Decoding refuses unknown keys, duplicate keys,
// indefinite lengths, trailing bytes and anything beyond the stated bounds
// before it allocates. Signed things are also refused when their bytes are not
// the canonical ones, so that a hash names one meaning.
//
// The formats are described for readers in docs/formats.md; testdata/*.hex
// pins one example of each.
package wire
