package contact

import (
	"context"
	"crypto/rand"
	"errors"

	"dunlin/wire"
)

// Network is what it takes to ask other peers; a Transport is one.
type Network interface {
	// Connect dials a peer and keeps the connection up.
	Connect(ctx context.Context, id wire.PeerID, addrs []string) error
	// Forget lets a peer go.
	Forget(id wire.PeerID)
	// Fetch asks a connected peer for bytes, at most limit of them.
	Fetch(ctx context.Context, from wire.PeerID, class wire.Class, request []byte, limit int) ([]byte, error)
}

// ErrNotHere is what a requester is told of what is not here.
var ErrNotHere = errors.New("not here")

// ErrWrongBytes says that an answer is not what was asked for.
var ErrWrongBytes = errors.New("the bytes are not those asked for")

// Hearsay asks a connected peer whom it knows; nil when it does not say.
func Hearsay(ctx context.Context, t Network, id wire.PeerID) []wire.Known {
	request := wire.Request{Class: wire.ClassControl, What: wire.WhatPeers}
	rand.Read(request.Hash[:])
	b, err := t.Fetch(ctx, id, request.Class, wire.Encode(&request), wire.MaxMessage)
	if err != nil {
		return nil
	}
	known, err := wire.DecodePeers(b)
	if err != nil {
		return nil
	}
	return known.Known
}
