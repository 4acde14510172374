package core

import (
	"fmt"

	"dunlin/wire"
)

// Event is one of the events below, which concern several machines, or an
// event of one machine, which goes to that machine: round's for Member and
// Owner, catchup's, coordinator's (both ends).
type Event = fmt.Stringer

// Effect is one of the effects below or an effect of a machine that the driver
// carries out as it is.
type Effect = fmt.Stringer

type (
	// Logged is the next entry of this peer's ledger, in order of height, at
	// the start and later. Table is the table that it names, if at hand.
	Logged struct {
		Height uint64
		Term   uint64
		Body   wire.Body
		Table  []byte
	}

	// PeerUp and PeerDown follow the sessions with other peers.
	PeerUp   struct{ Peer wire.PeerID }
	PeerDown struct {
		Peer   wire.PeerID
		Reason string
	}

	// Leads says that a coordinator's reign has begun, and whether there is a
	// session with it. Whoever works says hello to it, also when it led before.
	Leads struct {
		Peer wire.PeerID
		Up   bool
	}

	// Message is a control message. Hello, Entries, GetEntries, Signatures
	// and Leads are the driver's, since they need the ledger.
	Message struct {
		From    wire.PeerID
		Message wire.Message
	}

	// DataReady says that the run's training text is here and a device to train
	// on it. DeviceLost says that there is none until the next DataReady.
	DataReady  struct{}
	DeviceLost struct{ Reason string }

	// StateHashed says to which state the replica of a run that has ended was
	// hashed from memory; a worker leaves when that is its last one.
	StateHashed struct{ Heads []wire.FragmentHead }

	// AppendFailed says that a proposal was dropped, or that its outcome is unknown.
	AppendFailed struct {
		Body   wire.Body
		Reason string
	}

	// Tick says that the deadline has come.
	Tick struct{}
)

type (
	// Send gives a control message to other peers, never to this one.
	Send struct {
		To      []wire.PeerID
		Message wire.Message
	}

	// Append proposes an entry, with the table that it names. The driver stores
	// the table, appends, broadcasts the entry to everyone connected and feeds
	// it back as Logged, or answers AppendFailed.
	Append struct {
		Body  wire.Body
		Table []byte
	}

	// SendReady asks to sign a Ready and give it to the coordinator; when that
	// is this process, to feed it back as a Message.
	SendReady struct{ Ready wire.Ready }

	// Moved says, at the coordinator, that a peer was sent to another stage.
	Moved struct {
		Peer     wire.PeerID
		From, To int
		Reason   string
	}

	// MoveTo says that this peer is to come back in another stage once it has left.
	MoveTo struct {
		Stage  int
		Reason string
	}

	// Note is a decision and its reason.
	Note struct{ Text string }
)

func (e Logged) String() string {
	return fmt.Sprintf("logged %d, term %d, %s", e.Height, e.Term, e.Body.Kind())
}
func (e PeerUp) String() string   { return "up " + e.Peer.Short() }
func (e PeerDown) String() string { return "down " + e.Peer.Short() + ": " + e.Reason }
func (e Leads) String() string {
	return fmt.Sprintf("%s leads, connected: %t", e.Peer.Short(), e.Up)
}
func (e Message) String() string    { return fmt.Sprintf("from %s: %T", e.From.Short(), e.Message) }
func (DataReady) String() string    { return "data ready" }
func (e DeviceLost) String() string { return "device lost: " + e.Reason }
func (Tick) String() string         { return "tick" }
func (StateHashed) String() string  { return "state hashed" }
func (e Send) String() string       { return fmt.Sprintf("send %T to %d peers", e.Message, len(e.To)) }
func (e Append) String() string     { return "append " + e.Body.Kind().String() }
func (e SendReady) String() string  { return fmt.Sprintf("send ready of fragment %d", e.Ready.Fragment) }
func (e Note) String() string       { return "note: " + e.Text }
func (e MoveTo) String() string     { return fmt.Sprintf("move to stage %d: %s", e.Stage, e.Reason) }
func (e Moved) String() string      { return fmt.Sprintf("%s moves: %s", e.Peer.Short(), e.Reason) }

func (e AppendFailed) String() string {
	return fmt.Sprintf("append of %s failed: %s", e.Body.Kind(), e.Reason)
}
