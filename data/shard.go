package data

import (
	"encoding/binary"
	"fmt"

	"dunlin/store"
)

// A shard is a header of 16 bytes and the tokens:
//
//	0  4  magic "DNLT"
//	4  1  version, 1
//	5  1  bytes of a token: 1, 2 or 4, little-endian
//	6  2  zero
//	8  8  number of tokens, little-endian
//
// It is named by its leaf hash, SHA-256(0x00 ‖ bytes).
const (
	shardMagic   = "DNLT"
	shardVersion = 1

	// ShardHeader is the bytes before a shard's tokens.
	ShardHeader = 16
	// MaxShard is the largest shard, in bytes.
	MaxShard = 1 << 20
)

// ShardTokens returns how many tokens of width bytes a full shard holds.
func ShardTokens(width int) int { return (MaxShard - ShardHeader) / width }

// PackShards cuts tokens, width bytes each, into shards of at most MaxShard bytes,
// hands each to put and returns the names in order. put is a store's Put.
func PackShards(tokens []byte, width int, put func(shard []byte) (store.Hash, error)) ([]store.Hash, error) {
	most := ShardTokens(width) * width
	var names []store.Hash
	buf := make([]byte, 0, min(MaxShard, ShardHeader+len(tokens)))
	for from := 0; from < len(tokens); from += most {
		body := tokens[from:min(from+most, len(tokens))]
		buf = append(buf[:0], shardMagic...)
		buf = append(buf, shardVersion, byte(width), 0, 0)
		buf = binary.LittleEndian.AppendUint64(buf, uint64(len(body)/width))
		buf = append(buf, body...)
		name, err := put(buf)
		if err != nil {
			return nil, fmt.Errorf("pack token shard %d: %w", len(names), err)
		}
		names = append(names, name)
	}
	return names, nil
}

// OpenShards gets the named shards in order, checks each against its name and
// joins their tokens. It fails on the first that is missing or altered, and
// when the names stand for more than MaxBytes.
func OpenShards[H ~[32]byte](names []H, width int, get func(H) ([]byte, error)) ([]byte, error) {
	if len(names) > MaxBytes/MaxShard+1 {
		return nil, fmt.Errorf("open token shards: %d shards, at most %d are allowed", len(names), MaxBytes/MaxShard+1)
	}
	var tokens []byte
	for i, name := range names {
		shard, err := get(name)
		if err != nil {
			return nil, fmt.Errorf("open token shard %d of %d: %w", i, len(names), err)
		}
		if store.HashLeaf(shard) != store.Hash(name) {
			return nil, fmt.Errorf("open token shard %d of %d: %w: fetch it from another peer", i, len(names), store.ErrCorrupt)
		}
		body, wide, err := OpenShard(shard)
		if err == nil && wide != width {
			err = fmt.Errorf("its tokens take %d bytes, those of the text %d", wide, width)
		}
		if err != nil {
			return nil, fmt.Errorf("open token shard %d of %d: %w", i, len(names), err)
		}
		tokens = append(tokens, body...)
	}
	return tokens, nil
}

// OpenShard checks a shard's header and returns its tokens, not a copy, and the
// bytes that each takes.
func OpenShard(shard []byte) (tokens []byte, width int, err error) {
	switch {
	case len(shard) < ShardHeader || string(shard[:4]) != shardMagic:
		return nil, 0, fmt.Errorf("not a token shard")
	case len(shard) > MaxShard:
		return nil, 0, fmt.Errorf("token shard of %d bytes, at most %d are allowed", len(shard), MaxShard)
	case shard[4] != shardVersion:
		return nil, 0, fmt.Errorf("token shard of version %d, this program reads %d", shard[4], shardVersion)
	case shard[5] != 1 && shard[5] != 2 && shard[5] != 4 || shard[6] != 0 || shard[7] != 0:
		return nil, 0, fmt.Errorf("token shard of type %d, this program reads tokens of 1, 2 and 4 bytes", shard[5])
	}
	body, width := shard[ShardHeader:], int(shard[5])
	if n := binary.LittleEndian.Uint64(shard[8:]); n > MaxShard || int(n)*width != len(body) || n == 0 {
		return nil, 0, fmt.Errorf("token shard says %d tokens of %d bytes and holds %d bytes", n, width, len(body))
	}
	return body, width, nil
}
