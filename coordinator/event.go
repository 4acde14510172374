package coordinator

import (
	"fmt"

	"dunlin/wire"
)

// Event is something that happened to a coordinator.
//
//sumtype:decl
type Event interface {
	event()
	String() string
}

// Logged says that an entry stands in the log. The same event replays the log
// at a start and brings news later; heights rise by one.
type Logged struct {
	Height uint64
	Term   uint64
	Body   wire.Body
	Table  []byte // the commit or attempt table that the body names; nil when it is not at hand
}

// Started ends the replay: the ledger's own entries have been fed as Logged. Of
// several coordinators it comes to the one that is to lead, each time.
type Started struct {
	Term    uint64 // the newest durable term, 0 before the first reign
	Current bool   // a coordinator that led before has brought this ledger to its end
}

// Deposed says that another of the run's coordinators is to lead. What this one
// proposed may still come as Logged.
type Deposed struct{ Reason string }

// TermRaised says that a term is durable: the coordinator leads in it.
type TermRaised struct{ Term uint64 }

// AppendFailed says that a proposal was dropped or that its outcome is
// unknown; whether it stands in the log is known from Logged alone.
type AppendFailed struct {
	Body   wire.Body
	Reason string
}

// Connected says that a peer has a control connection.
type Connected struct{ Peer wire.PeerID }

// Disconnected says that a peer's control connection is gone.
type Disconnected struct {
	Peer   wire.PeerID
	Reason string
}

// HelloFrom is a peer's first word. Fork says that its HeadHash is not the
// hash of the entry at that height in the ledger here.
type HelloFrom struct {
	Peer  wire.PeerID
	Hello wire.Hello
	Fork  bool
}

// HeartbeatFrom is a peer's sign of life.
type HeartbeatFrom struct {
	Peer      wire.PeerID
	Heartbeat wire.Heartbeat
}

// LeaseAsked is a worker's request for windows.
type LeaseAsked struct {
	Peer    wire.PeerID
	Request wire.LeaseRequest
}

// LeaveFrom is a worker's wish to go.
type LeaveFrom struct {
	Peer  wire.PeerID
	Leave wire.Leave
}

// StageAsked is a peer's question which stage it should serve.
type StageAsked struct{ Peer wire.PeerID }

// Placed says that a peer is to come back in a stage.
type Placed struct {
	Peer  wire.PeerID
	Stage int
}

// SeedHolds says that this coordinator's own seed durably holds a checkpoint.
type SeedHolds struct{ At uint64 }

// Organised is the organiser's word: pause, resume, end, or other settings.
type Organised struct{ Change Change }

// Banned is the organiser's word against a peer.
type Banned struct {
	Peer   wire.PeerID
	Reason string
}

// ForkFound says that two certified entries of one height exist: the run stops.
type ForkFound struct {
	Height uint64
	Reason string
}

// Tick says that the deadline has come.
type Tick struct{}

func (Logged) event()        {}
func (Started) event()       {}
func (Deposed) event()       {}
func (TermRaised) event()    {}
func (AppendFailed) event()  {}
func (Connected) event()     {}
func (Disconnected) event()  {}
func (HelloFrom) event()     {}
func (HeartbeatFrom) event() {}
func (LeaseAsked) event()    {}
func (LeaveFrom) event()     {}
func (StageAsked) event()    {}
func (Placed) event()        {}
func (SeedHolds) event()     {}
func (Organised) event()     {}
func (Banned) event()        {}
func (ForkFound) event()     {}
func (Tick) event()          {}

func (e Logged) String() string {
	return fmt.Sprintf("logged %d term %d: %s", e.Height, e.Term, describe(e.Body))
}
func (e Started) String() string    { return fmt.Sprintf("started after term %d", e.Term) }
func (e Deposed) String() string    { return "deposed: " + e.Reason }
func (e TermRaised) String() string { return fmt.Sprintf("term %d is durable", e.Term) }
func (e AppendFailed) String() string {
	return fmt.Sprintf("append failed: %s: %s", describe(e.Body), e.Reason)
}
func (e Connected) String() string { return e.Peer.Short() + " connected" }
func (e Disconnected) String() string {
	return fmt.Sprintf("%s disconnected: %s", e.Peer.Short(), e.Reason)
}

func (e HelloFrom) String() string {
	return fmt.Sprintf("hello from %s: slot %d, head %d of term %d", e.Peer.Short(), e.Hello.Slot, e.Hello.Head, e.Hello.HeadTerm)
}

func (e HeartbeatFrom) String() string {
	h := e.Heartbeat
	return fmt.Sprintf("heartbeat from %s: slot %d, %s, height %d, step %d", e.Peer.Short(), h.Slot, h.State, h.Height, h.Step)
}

func (e LeaseAsked) String() string {
	return fmt.Sprintf("%s asks for %d windows for slot %d", e.Peer.Short(), e.Request.Windows, e.Request.Slot)
}

func (e LeaveFrom) String() string {
	return fmt.Sprintf("%s leaves slot %d: %s", e.Peer.Short(), e.Leave.Slot, e.Leave.Reason)
}
func (e StageAsked) String() string { return e.Peer.Short() + " asks for a stage" }
func (e Placed) String() string {
	return fmt.Sprintf("%s is to serve stage %d", e.Peer.Short(), e.Stage)
}
func (e SeedHolds) String() string { return fmt.Sprintf("seed holds checkpoint %d", e.At) }
func (e Organised) String() string {
	c := &e.Change
	text := "organiser:"
	if c.Phase != 0 {
		text += fmt.Sprintf(" %s", c.Phase)
	}
	if c.H != 0 || c.OuterLR != 0 {
		text += fmt.Sprintf(" h %d, outer lr %v", c.H, c.OuterLR.Value())
	}
	if c.Workers != 0 {
		text += fmt.Sprintf(" at most %d workers", c.Workers)
	}
	if c.Access != nil {
		text += fmt.Sprintf(" %d secrets", len(c.Access.Secrets))
	}
	return text + ": " + c.Reason
}

func (e Banned) String() string {
	return fmt.Sprintf("organiser bans %s: %s", e.Peer.Short(), e.Reason)
}

func (e ForkFound) String() string { return fmt.Sprintf("fork at height %d: %s", e.Height, e.Reason) }
func (Tick) String() string        { return "tick" }

// describe is an entry's body in a few words.
func describe(b wire.Body) string {
	switch b := b.(type) {
	case *wire.Member:
		verb := map[wire.MemberOp]string{wire.MemberAdmit: "admit", wire.MemberLeave: "leave", wire.MemberBan: "ban"}[b.Op]
		return fmt.Sprintf("%s slot %d, %s: %s", verb, b.Slot, b.Peer.Short(), b.Reason)
	case *wire.Lease:
		return fmt.Sprintf("lease to slot %d: %s", b.Slot, ranges(b.Ranges))
	case *wire.Attempt:
		return fmt.Sprintf("attempt %s of fragment %d version %d", b.ID, b.Fragment, b.Base)
	case *wire.Commit:
		return fmt.Sprintf("commit of fragment %d to version %d by attempt %s, %d tokens", b.Fragment, b.Base+1, b.Attempt, b.Tokens)
	case *wire.Settings:
		text := fmt.Sprintf("settings: %s: %s", b.Phase, b.Reason)
		if b.Tuning != nil {
			text += fmt.Sprintf(", h %d and outer lr %v from versions %d", b.Tuning.H, b.Tuning.OuterLR.Value(), b.Tuning.From)
		}
		return text
	case *wire.Checkpoint:
		if b.Complete {
			return fmt.Sprintf("checkpoint of height %d is complete", b.At)
		}
		return fmt.Sprintf("checkpoint of height %d, %d tokens", b.At, b.Tokens)
	}
	return "nothing"
}

// ranges prints ranges as people write them, the first few.
func ranges(rs []wire.Range) string {
	s := ""
	for i, r := range rs {
		if i == 4 {
			return s + fmt.Sprintf(" and %d more", len(rs)-i)
		}
		if i > 0 {
			s += " "
		}
		s += fmt.Sprintf("[%d,%d)", r.From, r.To)
	}
	return s
}
