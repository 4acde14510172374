package contact

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"dunlin/recipe"
	"dunlin/wire"
)

// Deaf hears nothing: it stands in for a Peer while the run's spec is fetched.
type Deaf struct{}

// Connected does nothing.
func (Deaf) Connected(wire.PeerID) {}

// Disconnected does nothing.
func (Deaf) Disconnected(wire.PeerID) {}

// Message does nothing.
func (Deaf) Message(wire.PeerID, []byte) {}

// Serve has nothing to give.
func (Deaf) Serve(context.Context, wire.PeerID, []byte) ([]byte, error) { return nil, ErrNotHere }

// specWithin bounds the whole first contact.
const specWithin = 30 * time.Second

// FetchSpec asks a run's coordinators, one after another, for the RunSpec and
// checks that it is the one of the invite, signed, and one that this program can train.
func FetchSpec(ctx context.Context, t Network, coordinators []wire.Known, run wire.Hash) (*wire.SignedSpec, error) {
	ctx, cancel := context.WithTimeout(ctx, specWithin)
	defer cancel()
	var errs []error
	for _, c := range coordinators {
		signed, err := fetchSpec(ctx, t, c.Peer, c.Addrs, run)
		if err == nil {
			return signed, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func fetchSpec(ctx context.Context, t Network, coordinator wire.PeerID, addrs []string, run wire.Hash) (*wire.SignedSpec, error) {
	if err := t.Connect(ctx, coordinator, addrs); err != nil {
		return nil, fmt.Errorf("the coordinator of run %s cannot be reached at %v: %w; check that it runs, that the invite is its newest and that this machine is online, then try again", run.Short(), addrs, err)
	}
	request := wire.Encode(&wire.Request{Class: wire.ClassJoin, What: wire.WhatSpec})
	b, err := t.Fetch(ctx, coordinator, wire.ClassJoin, request, wire.MaxMessage)
	if err != nil {
		return nil, fmt.Errorf("ask for the run spec: %w", err)
	}
	var signed wire.SignedSpec
	if err := wire.Decode(b, &signed); err != nil {
		return nil, fmt.Errorf("run spec: %w", err)
	}
	spec, err := signed.Open(run)
	if err != nil {
		return nil, err
	}
	return &signed, recipe.Check(spec)
}

// FetchStatus asks a run's coordinators, one after another, how the run goes: the answer is a status.Snapshot as JSON.
func FetchStatus(ctx context.Context, t Network, coordinators []wire.Known) ([]byte, error) {
	var errs []error
	for _, c := range coordinators {
		ask, done := context.WithTimeout(ctx, specWithin/3)
		b, err := fetchStatus(ask, t, c)
		if done(); err == nil {
			return b, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func fetchStatus(ctx context.Context, t Network, coordinator wire.Known) ([]byte, error) {
	if err := t.Connect(ctx, coordinator.Peer, coordinator.Addrs); err != nil {
		return nil, fmt.Errorf("the coordinator cannot be reached at %v: %w; check that it runs, that the invite is its newest and that this machine is online", coordinator.Addrs, err)
	}
	request := wire.Encode(&wire.Request{Class: wire.ClassObserver, What: wire.WhatStatus, Hash: wire.HashLeaf([]byte(rand.Text()))})
	b, err := t.Fetch(ctx, coordinator.Peer, wire.ClassObserver, request, wire.MaxStatus)
	if err != nil {
		return nil, fmt.Errorf("the coordinator does not say how the run goes (one of an older release cannot, and one that has just started has nothing to say yet): %w", err)
	}
	return b, nil
}

// FetchStage asks a run's coordinators, one after another, which stage they want this
// peer in. Of several only the one that leads knows: it is looked for until it answers.
func FetchStage(ctx context.Context, t Network, coordinators []wire.Known, spec *wire.RunSpec) (*wire.Offer, error) {
	ctx, cancel := context.WithTimeout(ctx, specWithin)
	defer cancel()
	known := slices.Clone(coordinators)
	for {
		var errs []error
		for i := 0; i < len(known); i++ {
			ask, done := context.WithTimeout(ctx, specWithin/3) // others may be there when this one is not
			offer, err := fetchStage(ask, t, known[i].Peer, known[i].Addrs, spec)
			if err != nil && len(spec.Coordinators) > 1 {
				known = append(known, otherCoordinators(ask, t, known[i].Peer, known, spec)...)
			}
			if done(); err == nil {
				return offer, nil
			}
			errs = append(errs, err)
		}
		if len(spec.Coordinators) == 1 {
			return nil, errors.Join(errs...)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(errs...)
		case <-time.After(time.Second): // they are choosing a leader
		}
	}
}

// otherCoordinators asks one coordinator where those are that are not known.
func otherCoordinators(ctx context.Context, t Network, of wire.PeerID, known []wire.Known, spec *wire.RunSpec) []wire.Known {
	var out []wire.Known
	for _, k := range Hearsay(ctx, t, of) {
		if slices.Contains(spec.Coordinators, k.Peer) && !slices.ContainsFunc(known, func(o wire.Known) bool { return o.Peer == k.Peer }) {
			out = append(out, k)
		}
	}
	return out
}

func fetchStage(ctx context.Context, t Network, coordinator wire.PeerID, addrs []string, spec *wire.RunSpec) (*wire.Offer, error) {
	if err := t.Connect(ctx, coordinator, addrs); err != nil {
		return nil, fmt.Errorf("ask which stage to serve: %w", err)
	}
	request := wire.Encode(&wire.Request{Class: wire.ClassJoin, What: wire.WhatStage, Hash: wire.HashLeaf([]byte(rand.Text()))})
	b, err := t.Fetch(ctx, coordinator, wire.ClassJoin, request, wire.MaxEntry)
	if err != nil {
		return nil, fmt.Errorf("ask which stage to serve: %w", err)
	}
	offer, err := wire.DecodeOffer(b)
	if err == nil && offer.Stage >= uint64(spec.StageCount()) {
		err = fmt.Errorf("the coordinator offers stage %d of %d", offer.Stage, spec.StageCount())
	}
	return offer, err
}
