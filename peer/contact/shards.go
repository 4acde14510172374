package contact

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/data"
	"dunlin/peer/figures"
	"dunlin/store"
	"dunlin/wire"
)

// Shards reads a run's token shards, which every worker of it keeps, and fetches those that are not here. Any goroutine may
// use it.
type Shards struct {
	Self    wire.PeerID
	Data    *wire.DataSpec
	Store   store.Store
	Network Network
	Log     *slog.Logger
	Report  func(any) // takes figures.TransferBegun and TransferMoved
}

// Bounds of fetching shards.
const (
	shardRounds  = 30 // of asking every donor for one; between two a donor may reconnect
	shardsAtOnce = 4
	maxDonors    = 8
	donorsWithin = 3 * time.Second // to find them
)

// TextFrom reads shards once all are here, fetched from donors where they were not.
func (s *Shards) TextFrom(ctx context.Context, shards []wire.ShardSpec, from []wire.PeerID) ([]byte, error) {
	if err := s.Fetch(ctx, shards, from); err != nil {
		return nil, err
	}
	return s.Text(shards)
}

// Text reads token shards that are here, of training or held-out text or of the vocabulary.
func (s *Shards) Text(shards []wire.ShardSpec) ([]byte, error) {
	names := make([]wire.Hash, len(shards))
	for i := range shards {
		names[i] = shards[i].Hash
	}
	width := 1
	if len(shards) > 0 {
		width = s.width(shards[0])
	}
	return data.OpenShards(names, width, func(name wire.Hash) ([]byte, error) {
		b, err := s.Store.Get(name, data.MaxShard)
		if err != nil {
			return nil, fmt.Errorf("token shard %s is missing from the data folder: %w; restore the folder from a backup, or let a worker begin with an empty one", name.Short(), err)
		}
		return b, nil
	})
}

// width is what a token takes in a shard, in bytes.
func (s *Shards) width(shard wire.ShardSpec) int {
	if slices.Contains(s.Data.Vocabulary, shard) {
		return 1
	}
	return s.Data.TokenBytes()
}

// Fetch has all shards here when it returns nil; each donor is asked for
// some of them first.
func (s *Shards) Fetch(ctx context.Context, shards []wire.ShardSpec, from []wire.PeerID) error {
	var missing []wire.Hash
	var bytes uint64
	for _, shard := range shards {
		if !s.Store.Has(shard.Hash) {
			missing = append(missing, shard.Hash)
			bytes += shard.Tokens*uint64(s.width(shard)) + data.ShardHeader
		}
	}
	if len(missing) == 0 {
		return nil
	}
	s.Report(figures.TransferBegun{What: figures.TransferData, Total: bytes})
	donors := s.donors(ctx, from)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	var got atomic.Int64
	slots := make(chan struct{}, shardsAtOnce)
	for i, name := range missing {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := s.fetchShard(ctx, name, donors, i+int(s.Self[0])); err != nil {
				stop(err)
			} else if n := got.Add(1); n%16 == 0 || int(n) == len(missing) {
				s.Log.Info("syncing data", "shards", n, "of", len(missing))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// donors are who may give token shards: the coordinators, first, and peers that
// one of them knows and that can be reached soon, since every worker keeps the
// shards of its run.
func (s *Shards) donors(ctx context.Context, from []wire.PeerID) []wire.PeerID {
	out := slices.Clone(from)
	ctx, cancel := context.WithTimeout(ctx, donorsWithin)
	defer cancel()
	var known []wire.Known
	for _, id := range from {
		if known = Hearsay(ctx, s.Network, id); known != nil {
			break
		}
	}
	up := make([]bool, len(known))
	var all sync.WaitGroup
	for i, k := range known {
		if slices.Contains(from, k.Peer) || k.Peer == s.Self || i >= maxDonors {
			continue
		}
		all.Go(func() {
			if up[i] = s.Network.Connect(ctx, k.Peer, k.Addrs) == nil; !up[i] {
				s.Network.Forget(k.Peer)
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
func (s *Shards) fetchShard(ctx context.Context, name wire.Hash, donors []wire.PeerID, from int) error {
	request := wire.Encode(&wire.Request{Class: wire.ClassData, What: wire.WhatBlob, Hash: name})
	var last error
	for range shardRounds {
		for i := range donors {
			donor := donors[(from+i)%len(donors)]
			b, err := s.Network.Fetch(ctx, donor, wire.ClassData, request, data.MaxShard)
			if err == nil && wire.HashLeaf(b) != name {
				err = ErrWrongBytes
			}
			if err == nil {
				s.Report(figures.TransferMoved{What: figures.TransferData, From: donor, Bytes: len(b)})
				_, err = s.Store.Put(b)
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
