package round

import (
	"fmt"
	"strings"
	"time"

	"dunlin/wire"
)

// Event is what happened. Each machine ignores events that are not for it.
//
//sumtype:decl
type Event interface {
	event()
	String() string
}

// Events of all three machines.
type (
	// Tick says that a deadline may have passed.
	Tick struct{}

	// Logged is the next entry of the ledger, in order of height. Table is the
	// table that an attempt or a commit names; it may be missing.
	Logged struct {
		Height uint64
		Term   uint64
		Body   wire.Body
		Table  []byte
	}
)

// Events of the Leader.
type (
	// Members replaces the Leader's list of slots. It is sent at the start and
	// after every change of membership or liveness.
	Members struct{ List []Worker }

	// ReadyFrom is a Ready whose signature is verified already.
	ReadyFrom struct {
		Peer  wire.PeerID
		Ready wire.SignedReady
	}

	// SlabDoneFrom is an owner's word that slabs are summed.
	SlabDoneFrom struct {
		Peer wire.PeerID
		Done wire.SlabDone
	}

	// SlabFailedFrom is an owner's word that a slab is below quorum.
	SlabFailedFrom struct {
		Peer   wire.PeerID
		Failed wire.SlabFailed
	}

	// HaveFrom is a holder's word; the local seed's comes with its own id.
	HaveFrom struct {
		Peer wire.PeerID
		Have wire.Have
	}

	// SeedHas says that the local seed durably holds a result frame.
	SeedHas struct{ Hash wire.Hash }

	// SeedRefused says that the local seed has a result and that the frame of one slab decodes to nothing.
	SeedRefused struct {
		Fragment uint64
		Attempt  wire.AttemptID
		Result   wire.Hash
		Slab     uint64
		Reason   string
	}

	// AppendFailed says that an append was dropped or that its outcome is
	// unknown; only the log tells which.
	AppendFailed struct {
		Kind     wire.Kind
		Fragment uint64
		Attempt  wire.AttemptID
		Reason   string
	}
)

// Worker is one slot as the Leader sees it.
type Worker struct {
	Slot     wire.Slot
	Peer     wire.PeerID
	Addrs    []string
	Upload   uint64 // bytes a second; 0 when unknown or unlimited
	StepTime uint64 // µs; 0 when unknown
	Stage    uint64 // that it holds, in a run with stages
	// Active: it trains, so rounds wait for it. Connected: it can be reached
	// now; a worker that drains or sleeps is connected and not active.
	Active, Connected bool
}

// Events of the Owner.
type (
	// Reassigned is the coordinator's message of that name.
	Reassigned struct{ Message wire.Reassign }

	// SlabFetched says that a slab arrived, was verified and is kept.
	SlabFetched struct {
		Peer wire.PeerID
		Root wire.Hash
		Slab uint64
	}

	// FetchFailed says that a slab did not come: refused, unreachable, wrong
	// bytes, or no byte for Deadlines.Stall.
	FetchFailed struct {
		Peer   wire.PeerID
		Root   wire.Hash
		Slab   uint64
		Reason string
	}

	// PeerUp and PeerDown follow the connection to another peer.
	PeerUp   struct{ Peer wire.PeerID }
	PeerDown struct{ Peer wire.PeerID }

	// Summed answers SumSlab: the frame is durable. Members are the ranks in
	// the sum, without those that the sum refused.
	Summed struct {
		Fragment uint64
		Attempt  wire.AttemptID
		Slab     uint64
		Hash     wire.Hash
		Length   uint64
		Members  uint64
		// Of the owner's error feedback, as in wire.SlabResult.
		Before, After wire.Hash
	}

	// SumFailed answers SumSlab when this peer could not sum or store.
	SumFailed struct {
		Fragment uint64
		Attempt  wire.AttemptID
		Slab     uint64
		Reason   string
	}
)

// Events of the Member.
type (
	// Assigned gives the worker a slot and the versions its live weights start
	// from; every Merge asked for before is void. Inner steps count from 0 again.
	Assigned struct {
		Slot     wire.Slot
		Versions []uint64
	}

	// StepDone ends inner step number Step of the slot. Snapshots are asked for
	// in answer to it and to Merged; Encoded tells at which border one was taken.
	StepDone struct {
		Step     uint64
		Tokens   uint64
		Windows  []wire.Range // positions that the step consumed
		StepTime uint64       // median, µs
	}

	// Encoded answers TakeSnapshot: the frames are kept under Root. Step is the
	// slot's inner step after which the snapshot was taken, which may be later
	// than asked for; 0 means as asked for.
	Encoded struct {
		Fragment uint64
		Base     uint64
		Step     uint64
		Root     wire.Hash
		Norm     float32
	}

	// EncodeFailed answers TakeSnapshot when there is nothing to contribute.
	EncodeFailed struct {
		Fragment uint64
		Base     uint64
		Reason   string
	}

	// Applied says that the replica made a commit its own.
	Applied struct {
		Fragment uint64
		Version  uint64 // after the commit
		Table    *wire.CommitTable
	}

	// Merged answers Merge: the live weights have it.
	Merged struct {
		Fragment uint64
		Version  uint64
	}

	// Suspended stops contributing, for a repair; Resumed starts again from
	// live weights at the given versions.
	Suspended struct{ Reason string }
	Resumed   struct{ Versions []uint64 }
)

// Reconnected, for Owner and Member, says that the coordinator is reachable
// again and may have lost what was sent before.
type Reconnected struct{}

func (Tick) event()           {}
func (Logged) event()         {}
func (Members) event()        {}
func (ReadyFrom) event()      {}
func (SlabDoneFrom) event()   {}
func (SlabFailedFrom) event() {}
func (HaveFrom) event()       {}
func (SeedHas) event()        {}
func (SeedRefused) event()    {}
func (AppendFailed) event()   {}
func (Reassigned) event()     {}
func (SlabFetched) event()    {}
func (FetchFailed) event()    {}
func (PeerUp) event()         {}
func (PeerDown) event()       {}
func (Summed) event()         {}
func (SumFailed) event()      {}
func (Assigned) event()       {}
func (StepDone) event()       {}
func (Encoded) event()        {}
func (EncodeFailed) event()   {}
func (Applied) event()        {}
func (Merged) event()         {}
func (Suspended) event()      {}
func (Resumed) event()        {}
func (Reconnected) event()    {}

func (Tick) String() string { return "tick" }

func (e Logged) String() string {
	return fmt.Sprintf("logged %d term %d %s", e.Height, e.Term, bodyString(e.Body))
}

func (e Members) String() string {
	parts := make([]string, len(e.List))
	for i, w := range e.List {
		mark := ""
		switch {
		case !w.Connected:
			mark = "-"
		case !w.Active:
			mark = "~"
		}
		parts[i] = fmt.Sprintf("%d%s", w.Slot, mark)
	}
	return "members " + strings.Join(parts, " ")
}

func (e ReadyFrom) String() string {
	return fmt.Sprintf("from %s: %s", e.Peer.Short(), readyString(&e.Ready.Ready))
}

func (e SlabDoneFrom) String() string {
	return fmt.Sprintf("from %s: %s", e.Peer.Short(), messageString(&e.Done))
}

func (e SlabFailedFrom) String() string {
	return fmt.Sprintf("from %s: %s", e.Peer.Short(), messageString(&e.Failed))
}

func (e HaveFrom) String() string {
	return fmt.Sprintf("from %s: %s", e.Peer.Short(), messageString(&e.Have))
}

func (e SeedHas) String() string { return "seed has " + e.Hash.Short() }

func (e SeedRefused) String() string {
	return fmt.Sprintf("seed refused f%d %s slab %d of %s: %s", e.Fragment, e.Attempt, e.Slab, e.Result.Short(), e.Reason)
}

func (e AppendFailed) String() string {
	return fmt.Sprintf("append of %s f%d %s failed: %s", e.Kind, e.Fragment, e.Attempt, e.Reason)
}

func (e Reassigned) String() string { return messageString(&e.Message) }

func (e SlabFetched) String() string {
	return fmt.Sprintf("fetched %s/%d from %s", e.Root.Short(), e.Slab, e.Peer.Short())
}

func (e FetchFailed) String() string {
	return fmt.Sprintf("fetch of %s/%d from %s failed: %s", e.Root.Short(), e.Slab, e.Peer.Short(), e.Reason)
}

func (e PeerUp) String() string   { return "up " + e.Peer.Short() }
func (e PeerDown) String() string { return "down " + e.Peer.Short() }

func (e Summed) String() string {
	return fmt.Sprintf("summed f%d %s slab %d of %b: %s, %d bytes", e.Fragment, e.Attempt, e.Slab, e.Members, e.Hash.Short(), e.Length)
}

func (e SumFailed) String() string {
	return fmt.Sprintf("sum f%d %s slab %d failed: %s", e.Fragment, e.Attempt, e.Slab, e.Reason)
}

func (e Assigned) String() string { return fmt.Sprintf("assigned slot %d at %d", e.Slot, e.Versions) }

func (e StepDone) String() string {
	return fmt.Sprintf("step %d, %d tokens of %s, %d µs", e.Step, e.Tokens, rangesString(e.Windows), e.StepTime)
}

func (e Encoded) String() string {
	return fmt.Sprintf("encoded f%d@%d %s norm %g", e.Fragment, e.Base, e.Root.Short(), e.Norm)
}

func (e EncodeFailed) String() string {
	return fmt.Sprintf("encode f%d@%d failed: %s", e.Fragment, e.Base, e.Reason)
}

func (e Applied) String() string     { return fmt.Sprintf("applied f%d@%d", e.Fragment, e.Version) }
func (e Merged) String() string      { return fmt.Sprintf("merged f%d@%d", e.Fragment, e.Version) }
func (e Suspended) String() string   { return "suspended: " + e.Reason }
func (e Resumed) String() string     { return fmt.Sprintf("resumed at %d", e.Versions) }
func (e Reconnected) String() string { return "reconnected" }

// earliest returns the earlier time; the zero time means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
