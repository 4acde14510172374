package peer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/data"
	"dunlin/peer/contact"
	"dunlin/peer/figures"
	"dunlin/wire"
)

// pinData is the store's owner of token shards, which are kept as long as the run.
const pinData = "data"

// Bounds of fetching shards.
const (
	shardRounds  = 30 // of asking every donor for one; between two a donor may reconnect
	shardsAtOnce = 4
	maxDonors    = 8
	donorsWithin = 3 * time.Second // to find them
)

// trainingText reads the run's training tokens, fetching the shards that are
// not in the store from donors. It runs on a goroutine of its own.
func (p *Peer) trainingText(ctx context.Context, from []wire.PeerID) ([]byte, error) {
	if err := p.fetchShards(ctx, p.spec.Data.Train, from); err != nil {
		return nil, err
	}
	return p.text(p.spec.Data.Train)
}

// text reads token shards that are here.
func (p *Peer) text(shards []wire.ShardSpec) ([]byte, error) {
	names := make([]wire.Hash, len(shards))
	for i, s := range shards {
		names[i] = s.Hash
	}
	return data.OpenShards(names, func(name wire.Hash) ([]byte, error) {
		b, err := p.store.Get(name, data.MaxShard)
		if err != nil {
			return nil, fmt.Errorf("token shard %s is missing from the data folder: %w; restore the folder from a backup, or let a worker begin with an empty one", name.Short(), err)
		}
		return b, nil
	})
}

// fetchShards has all shards here when it returns nil; each donor is asked for
// some of them first.
func (p *Peer) fetchShards(ctx context.Context, shards []wire.ShardSpec, from []wire.PeerID) error {
	var missing []wire.Hash
	var bytes uint64
	for _, s := range shards {
		if !p.store.Has(s.Hash) {
			missing = append(missing, s.Hash)
			bytes += s.Tokens + data.ShardHeader // a byte a token
		}
	}
	if len(missing) == 0 {
		return nil
	}
	p.inbox.Put(figures.TransferBegun{What: figures.TransferData, Total: bytes})
	donors := p.donors(ctx, from)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	var got atomic.Int64
	slots := make(chan struct{}, shardsAtOnce)
	for i, name := range missing {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := p.fetchShard(ctx, name, donors, i+int(p.self[0])); err != nil {
				stop(err)
			} else if n := got.Add(1); n%16 == 0 || int(n) == len(missing) {
				p.log.Info("syncing data", "shards", n, "of", len(missing))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// donors are who may give token shards: the coordinators, first, and peers that
// one of them knows and that can be reached soon, since every worker keeps the
// shards of its run.
func (p *Peer) donors(ctx context.Context, from []wire.PeerID) []wire.PeerID {
	out := slices.Clone(from)
	ctx, cancel := context.WithTimeout(ctx, donorsWithin)
	defer cancel()
	var known []wire.Known
	for _, id := range from {
		if known = contact.Hearsay(ctx, p.transport, id); known != nil {
			break
		}
	}
	up := make([]bool, len(known))
	var all sync.WaitGroup
	for i, k := range known {
		if slices.Contains(from, k.Peer) || k.Peer == p.self || i >= maxDonors {
			continue
		}
		all.Go(func() {
			if up[i] = p.transport.Connect(ctx, k.Peer, k.Addrs) == nil; !up[i] {
				p.transport.Forget(k.Peer)
			}
		})
	}
	all.Wait()
	for i, k := range known {
		if up[i] {
			out = append(out, k.Peer)
		}
	}
	return out
}

// fetchShard asks one donor after another, from the one that is meant on.
func (p *Peer) fetchShard(ctx context.Context, name wire.Hash, donors []wire.PeerID, from int) error {
	request := wire.Encode(&wire.Request{Class: wire.ClassData, What: wire.WhatBlob, Hash: name})
	var last error
	for range shardRounds {
		for i := range donors {
			donor := donors[(from+i)%len(donors)]
			b, err := p.transport.Fetch(ctx, donor, wire.ClassData, request, data.MaxShard)
			if err == nil && wire.HashLeaf(b) != name {
				err = contact.ErrWrongBytes
			}
			if err == nil {
				p.inbox.Put(figures.TransferMoved{What: figures.TransferData, From: donor, Bytes: len(b)})
				_, err = p.store.Put(b)
				return err
			}
			last = err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	return fmt.Errorf("token shard %s: %w: no peer gives it, the run cannot be joined now", name.Short(), last)
}
