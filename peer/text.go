package peer

import (
	"context"
	"fmt"
	"time"

	"dunlin/data"
	"dunlin/wire"
)

// pinData is the store's owner of token shards, which are kept as long as the run.
const pinData = "data"

// shardTries bounds how often a shard is asked for; between two tries the
// donor may reconnect.
const shardTries = 30

// trainingText reads the run's training tokens, fetching the shards that are
// not in the store from donors. It runs on a goroutine of its own.
func (p *Peer) trainingText(ctx context.Context, donors []wire.PeerID) ([]byte, error) {
	var names []wire.Hash
	for _, s := range p.spec.Data.Train {
		names = append(names, s.Hash)
	}
	return p.text(ctx, names, donors)
}

func (p *Peer) text(ctx context.Context, names []wire.Hash, donors []wire.PeerID) ([]byte, error) {
	missing := 0
	for _, n := range names {
		if !p.store.Has(n) {
			missing++
		}
	}
	got := 0
	return data.OpenShards(names, func(name wire.Hash) ([]byte, error) {
		if b, err := p.store.Get(name, data.MaxShard); err == nil {
			return b, nil
		}
		if len(donors) == 0 {
			return nil, fmt.Errorf("token shard %s is missing from the data folder", name.Short())
		}
		b, err := p.fetchShard(ctx, name, donors)
		if err == nil {
			if got++; got%16 == 0 || got == missing {
				p.log.Info("syncing data", "shards", got, "of", missing)
			}
		}
		return b, err
	})
}

func (p *Peer) fetchShard(ctx context.Context, name wire.Hash, donors []wire.PeerID) ([]byte, error) {
	request := wire.Encode(&wire.Request{Class: wire.ClassData, What: wire.WhatBlob, Hash: name})
	var last error
	for try := range shardTries {
		b, err := p.transport.Fetch(ctx, donors[try%len(donors)], wire.ClassData, request, data.MaxShard)
		if err == nil && wire.HashLeaf(b) != name {
			err = errWrongBytes
		}
		if err == nil {
			_, err = p.store.Put(b)
			return b, err
		}
		last = err
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return nil, fmt.Errorf("token shard %s: %w: no peer gives it, the run cannot be joined now", name.Short(), last)
}
