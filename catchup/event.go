package catchup

import (
	"fmt"

	"dunlin/wire"
)

// Event is something that happened to a replica or to the peers around it.
//
//sumtype:decl
type Event interface {
	event()
	String() string
}

// Opened says how far this peer's ledger reached when it was opened: its entries
// follow, and nothing is decided before the last, which may name a newer checkpoint.
type Opened struct{ Height uint64 }

// Logged says that an entry stands in this peer's ledger. Heights rise by one.
type Logged struct {
	Height uint64
	Term   uint64
	Body   wire.Body
	Table  []byte // the table that a commit names; nil when it is not at hand
}

// Sync asks for CaughtUp once everything up to a height is applied.
type Sync struct{ Head uint64 }

// HeadHint says that a peer's ledger reaches a height.
type HeadHint struct {
	Peer   wire.PeerID
	Height uint64
}

// ResultsFrom is the coordinator's announcement of a summed attempt.
type ResultsFrom struct {
	Peer    wire.PeerID
	Results wire.Results
}

// PeerUp says that a peer can be reached.
type PeerUp struct{ Peer wire.PeerID }

// PeerDown says that a peer is gone; what it was serving has failed.
type PeerDown struct{ Peer wire.PeerID }

// Leads says whose reign it is: who is asked first and hears what is held.
type Leads struct{ Peer wire.PeerID }

// Reconnected says that the control connection to the coordinator is new.
type Reconnected struct{}

// Ref names something that is fetched.
type Ref struct {
	What wire.What
	Hash wire.Hash
}

// Fetched says that something is here, verified against its name and, unless
// it is Inline, durable in the store.
type Fetched struct {
	Ref  Ref
	Body []byte // of what was asked for Inline, else nil
}

// FetchFailed says that a peer did not deliver.
type FetchFailed struct {
	Ref    Ref
	Peer   wire.PeerID
	Reason string
	Gone   bool // the peer answered that it does not have it
}

// Prepared says that the state which follows from a result is computed on a
// shadow and durable.
type Prepared struct {
	Fragment uint64
	Base     uint64
	Attempt  wire.AttemptID
	Result   wire.Hash // of the table that Prepare named: an attempt may be summed anew
	State    wire.Hash
}

// PrepareFailed says that a result could not be prepared.
type PrepareFailed struct {
	Fragment uint64
	Base     uint64
	Attempt  wire.AttemptID
	Result   wire.Hash
	Garbage  bool   // the frame of Slab decodes to nothing, whoever gives it
	Slab     uint64 // then
	Reason   string
}

// Applied says that the commit at a height is applied and durable, and which
// state its fragment has.
type Applied struct {
	Height uint64
	State  wire.Hash
}

// ApplyFailed says that a commit could not be applied; nothing changed.
type ApplyFailed struct {
	Height uint64
	Reason string
}

// CheckpointSaved says that the state at a height is pinned and durable.
type CheckpointSaved struct{ At uint64 }

// SaveFailed says that it is not.
type SaveFailed struct {
	At     uint64
	Reason string
}

// Loaded says that the replica stands at a checkpoint.
type Loaded struct{ At uint64 }

// LoadFailed says that it does not; nothing changed.
type LoadFailed struct {
	At     uint64
	Reason string
}

// Tick says that the deadline has come.
type Tick struct{}

func (Opened) event()          {}
func (Logged) event()          {}
func (Sync) event()            {}
func (HeadHint) event()        {}
func (ResultsFrom) event()     {}
func (PeerUp) event()          {}
func (PeerDown) event()        {}
func (Reconnected) event()     {}
func (Leads) event()           {}
func (Fetched) event()         {}
func (FetchFailed) event()     {}
func (Prepared) event()        {}
func (PrepareFailed) event()   {}
func (Applied) event()         {}
func (ApplyFailed) event()     {}
func (CheckpointSaved) event() {}
func (SaveFailed) event()      {}
func (Loaded) event()          {}
func (LoadFailed) event()      {}
func (Tick) event()            {}

func (r Ref) String() string {
	names := map[wire.What]string{wire.WhatBlob: "blob", wire.WhatManifest: "manifest"}
	return names[r.What] + " " + r.Hash.Short()
}

func (e Logged) String() string {
	what := "nothing"
	switch b := e.Body.(type) {
	case *wire.Commit:
		what = fmt.Sprintf("commit of fragment %d to version %d by attempt %s", b.Fragment, b.Base+1, b.Attempt)
	case *wire.Checkpoint:
		what = fmt.Sprintf("checkpoint of height %d", b.At)
		if b.Complete {
			what += " is complete"
		}
	case *wire.Member, *wire.Lease, *wire.Attempt, *wire.Settings:
		what = b.Kind().String()
	}
	return fmt.Sprintf("logged %d: %s", e.Height, what)
}

func (e Opened) String() string   { return fmt.Sprintf("the ledger here reaches height %d", e.Height) }
func (e Sync) String() string     { return fmt.Sprintf("sync to height %d", e.Head) }
func (e HeadHint) String() string { return fmt.Sprintf("%s is at height %d", e.Peer.Short(), e.Height) }

func (e ResultsFrom) String() string {
	r := e.Results
	return fmt.Sprintf("results of attempt %s: fragment %d version %d, %d slabs", r.Attempt, r.Fragment, r.Base, len(r.Table.Slabs))
}
func (e PeerUp) String() string    { return e.Peer.Short() + " is up" }
func (e PeerDown) String() string  { return e.Peer.Short() + " is down" }
func (Reconnected) String() string { return "reconnected" }
func (e Leads) String() string     { return e.Peer.Short() + " leads" }
func (e Fetched) String() string   { return "fetched " + e.Ref.String() }
func (e FetchFailed) String() string {
	return fmt.Sprintf("fetch failed: %s from %s: %s", e.Ref, e.Peer.Short(), e.Reason)
}

func (e Prepared) String() string {
	return fmt.Sprintf("prepared attempt %s: fragment %d version %d, state %s", e.Attempt, e.Fragment, e.Base+1, e.State.Short())
}

func (e PrepareFailed) String() string {
	return fmt.Sprintf("prepare failed: attempt %s of fragment %d: %s", e.Attempt, e.Fragment, e.Reason)
}

func (e Applied) String() string {
	return fmt.Sprintf("applied %d: state %s", e.Height, e.State.Short())
}

func (e ApplyFailed) String() string {
	return fmt.Sprintf("apply failed: height %d: %s", e.Height, e.Reason)
}
func (e CheckpointSaved) String() string { return fmt.Sprintf("saved checkpoint %d", e.At) }
func (e SaveFailed) String() string {
	return fmt.Sprintf("save failed: checkpoint %d: %s", e.At, e.Reason)
}
func (e Loaded) String() string { return fmt.Sprintf("loaded checkpoint %d", e.At) }
func (e LoadFailed) String() string {
	return fmt.Sprintf("load failed: checkpoint %d: %s", e.At, e.Reason)
}
func (Tick) String() string { return "tick" }
