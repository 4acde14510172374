package peer

import (
	"context"
	"fmt"
	"time"

	"dunlin/data"
	"dunlin/wire"
)

// MeasureDown fetches a run's token shards from one peer, one by one, until so many bytes have come or so much time has
// passed, and returns what came in how long. The bytes are thrown away. With an error it returns what came before it.
func MeasureDown(ctx context.Context, t Transport, from wire.PeerID, spec *wire.RunSpec, enough int, within time.Duration) (bytes int, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	for _, s := range spec.Data.Train {
		request := wire.Encode(&wire.Request{Class: wire.ClassData, What: wire.WhatBlob, Hash: s.Hash})
		b, err := t.Fetch(ctx, from, wire.ClassData, request, data.MaxShard)
		if err == nil && wire.HashLeaf(b) != s.Hash {
			err = errWrongBytes
		}
		if err != nil {
			return bytes, took, fmt.Errorf("token shard %s: %w", s.Hash.Short(), err)
		}
		bytes, took = bytes+len(b), time.Since(began)
		if bytes >= enough || took >= within {
			break
		}
	}
	return bytes, took, nil
}
