package catchup

import (
	"fmt"

	"dunlin/wire"
)

// Effect is something that a replica wants done. Effects are carried out in
// order.
//
//sumtype:decl
type Effect interface {
	effect()
	String() string
}

// GetEntries asks a peer for ledger entries from a height on. The driver
// checks what comes, appends it and feeds it as Logged, then HeadHint with the
// head that the answer names.
type GetEntries struct {
	Peer wire.PeerID
	From uint64
}

// Fetch asks a peer for bytes. The driver answers at once when its store has
// them. It verifies a blob by its address; a manifest is verified here.
type Fetch struct {
	Ref    Ref
	Peer   wire.PeerID
	Class  wire.Class
	Size   uint64 // bytes expected, 0 when unknown
	Inline bool   // hand the bytes over in Fetched
}

// Request returns the bulk request to send.
func (f Fetch) Request() wire.Request {
	return wire.Request{Class: f.Class, What: f.Ref.What, Hash: f.Ref.Hash}
}

// Prepare asks for the outer step of a result on a shadow. All frames are in
// the store.
type Prepare struct {
	Fragment uint64
	Base     uint64
	Attempt  wire.AttemptID
	Table    *wire.CommitTable
}

// SendHave tells the coordinator that a result is held and prepared.
type SendHave struct{ Have wire.Have }

// Promote makes a prepared shadow the state of its fragment.
type Promote struct {
	Height uint64
	Commit *wire.Commit
}

// Apply computes a commit from its frames, all of which are in the store.
type Apply struct {
	Height uint64
	Commit *wire.Commit
	Table  *wire.CommitTable
}

// DropShadow forgets a prepared result.
type DropShadow struct {
	Fragment uint64
	Attempt  wire.AttemptID
	Result   wire.Hash
}

// Advanced says that a commit is applied and its state is the commit's.
type Advanced struct {
	Height uint64
	Commit *wire.Commit
	Table  *wire.CommitTable
}

// Follow says that a commit of a fragment that is not held is passed: only its
// version and state are to be noted.
type Follow struct {
	Height uint64
	Commit *wire.Commit
}

// SaveCheckpoint asks that the present state be kept as the one of a height. Commits are
// applied meanwhile; another is not saved before the answer.
type SaveCheckpoint struct{ At uint64 }

// LoadCheckpoint asks that the replica be set to a checkpoint, all of whose
// slabs are in the store. At 0 it is state 0, computed from the run spec.
type LoadCheckpoint struct {
	At        uint64
	Fragments []wire.FragmentHead
	Manifests []*wire.Manifest // by fragment; nil where the replica has that state already
}

// Jumped says that the replica stands at a checkpoint without having applied
// the commits below it.
type Jumped struct {
	At        uint64
	Fragments []wire.FragmentHead
}

// Reread asks the driver to feed its own ledger's entries from a height on
// again, as Logged.
type Reread struct{ From uint64 }

// Holds says which checkpoint is durable here, for the next heartbeat.
type Holds struct{ At uint64 }

// CaughtUp answers Sync.
type CaughtUp struct{ Height uint64 }

// Repair says that this replica differs from the run's: stop contributing and
// say so loudly. It reloads a checkpoint and replays; CaughtUp ends it.
type Repair struct{ Reason string }

// Note is a decision and its reason, for people.
type Note struct{ Text string }

func (GetEntries) effect()     {}
func (Follow) effect()         {}
func (Fetch) effect()          {}
func (Prepare) effect()        {}
func (SendHave) effect()       {}
func (Promote) effect()        {}
func (Apply) effect()          {}
func (DropShadow) effect()     {}
func (Advanced) effect()       {}
func (SaveCheckpoint) effect() {}
func (LoadCheckpoint) effect() {}
func (Jumped) effect()         {}
func (Reread) effect()         {}
func (Holds) effect()          {}
func (CaughtUp) effect()       {}
func (Repair) effect()         {}
func (Note) effect()           {}

func (e GetEntries) String() string {
	return fmt.Sprintf("get entries from %d of %s", e.From, e.Peer.Short())
}

func (e Fetch) String() string {
	return fmt.Sprintf("fetch %s from %s (%s)", e.Ref, e.Peer.Short(), e.Class)
}

func (e Prepare) String() string {
	return fmt.Sprintf("prepare attempt %s: fragment %d version %d", e.Attempt, e.Fragment, e.Base+1)
}

func (e SendHave) String() string {
	h := e.Have
	return fmt.Sprintf("have attempt %s: fragment %d, result %s, state %s", h.Attempt, h.Fragment, h.Result.Short(), h.State.Short())
}

func (e Promote) String() string {
	return fmt.Sprintf("promote %d: fragment %d to version %d", e.Height, e.Commit.Fragment, e.Commit.Base+1)
}

func (e Apply) String() string {
	return fmt.Sprintf("apply %d: fragment %d to version %d", e.Height, e.Commit.Fragment, e.Commit.Base+1)
}

func (e DropShadow) String() string {
	return fmt.Sprintf("drop shadow of attempt %s, fragment %d", e.Attempt, e.Fragment)
}

func (e Advanced) String() string {
	return fmt.Sprintf("advanced to %d: fragment %d version %d", e.Height, e.Commit.Fragment, e.Commit.Base+1)
}

func (e Follow) String() string {
	return fmt.Sprintf("follow %d: fragment %d version %d", e.Height, e.Commit.Fragment, e.Commit.Base+1)
}
func (e SaveCheckpoint) String() string { return fmt.Sprintf("save checkpoint %d", e.At) }
func (e LoadCheckpoint) String() string { return fmt.Sprintf("load checkpoint %d", e.At) }
func (e Jumped) String() string         { return fmt.Sprintf("jumped to %d", e.At) }
func (e Reread) String() string         { return fmt.Sprintf("reread entries from %d", e.From) }
func (e Holds) String() string          { return fmt.Sprintf("holds checkpoint %d", e.At) }
func (e CaughtUp) String() string       { return fmt.Sprintf("caught up at %d", e.Height) }
func (e Repair) String() string         { return "repair: " + e.Reason }
func (e Note) String() string           { return "note: " + e.Text }
