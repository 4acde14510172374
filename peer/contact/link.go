package contact

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"dunlin/data"
	"dunlin/wire"
)

// A newcomer measures its link against the coordinator before it takes part. Down is what token shards take. Up is what the
// coordinator tells after it has pulled noise from here, since all bulk is pulled.
const (
	pullSlabs = 16       // of noise, at most
	pullBytes = 64 << 10 // of each
	pullAhead = 4        // under way at a time, so that a long way does not look like a narrow one
	pullFor   = 1500 * time.Millisecond
	pullLate  = 4 * time.Second // for those under way then
)

// MeasureDown fetches a run's token shards from one peer, one by one, until so many bytes have come or so much time has
// passed, and returns what came in how long. The bytes are thrown away. With an error it returns what came before it.
func MeasureDown(ctx context.Context, t Network, from wire.PeerID, spec *wire.RunSpec, enough int, within time.Duration) (bytes int, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	for _, s := range spec.Data.Train {
		request := wire.Encode(&wire.Request{Class: wire.ClassData, What: wire.WhatBlob, Hash: s.Hash})
		b, err := t.Fetch(ctx, from, wire.ClassData, request, data.MaxShard)
		if err == nil && wire.HashLeaf(b) != s.Hash {
			err = ErrWrongBytes
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

// Newcomer is what a host calls back while this machine measures its link: it has noise to give, and nothing else.
type Newcomer struct {
	Deaf
	noise []byte
	name  wire.Hash // of what MeasureUp has pulled
}

// NewNewcomer draws the noise.
func NewNewcomer() *Newcomer {
	n := &Newcomer{noise: make([]byte, pullBytes), name: wire.HashLeaf([]byte(rand.Text()))}
	rand.Read(n.noise)
	return n
}

// Serve gives noise to whoever knows its name.
func (n *Newcomer) Serve(_ context.Context, _ wire.PeerID, request []byte) ([]byte, error) {
	r, err := wire.DecodeRequest(request)
	if err != nil {
		return nil, err
	}
	if r.What != wire.WhatSlab || r.Hash != n.name {
		return nil, ErrNotHere
	}
	return n.noise, nil
}

// MeasureUp has the coordinator pull noise from here and returns how much it had in how long. A coordinator of an earlier
// release, or one with other newcomers to measure, refuses.
func (n *Newcomer) MeasureUp(ctx context.Context, t Network, coordinator wire.PeerID) (bytes int, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, pullFor+2*pullLate)
	defer cancel()
	request := wire.Encode(&wire.Request{Class: wire.ClassJoin, What: wire.WhatPull, Hash: n.name})
	b, err := t.Fetch(ctx, coordinator, wire.ClassJoin, request, wire.MaxMessage)
	if err != nil {
		return 0, 0, fmt.Errorf("measure the way up: %w", err)
	}
	p, err := wire.DecodePulled(b)
	if err != nil {
		return 0, 0, fmt.Errorf("measure the way up: %w", err)
	}
	return int(p.Bytes), time.Duration(p.Micros) * time.Microsecond, nil
}

// PullNoise fetches slabs, some at a time, until there are enough or the time is over; nil when nothing came.
func PullNoise(ctx context.Context, t Network, from wire.PeerID, name wire.Hash) *wire.Pulled {
	ctx, cancel := context.WithTimeout(ctx, pullFor+pullLate)
	defer cancel()
	var mu sync.Mutex
	var next, got uint64
	var last time.Duration
	began := time.Now()
	var pulls sync.WaitGroup
	for range pullAhead {
		pulls.Go(func() {
			for {
				mu.Lock()
				index := next
				next++
				mu.Unlock()
				if index >= pullSlabs || time.Since(began) >= pullFor {
					return
				}
				request := wire.Encode(&wire.Request{Class: wire.ClassJoin, What: wire.WhatSlab, Hash: name, Index: index})
				b, err := t.Fetch(ctx, from, wire.ClassJoin, request, pullBytes)
				if err != nil {
					return
				}
				mu.Lock()
				got, last = got+uint64(len(b)), time.Since(began)
				mu.Unlock()
			}
		})
	}
	pulls.Wait()
	if got == 0 {
		return nil
	}
	return &wire.Pulled{Bytes: got, Micros: uint64(max(last.Microseconds(), 1))}
}
