package round

import (
	"fmt"
	"strings"

	"dunlin/wire"
)

// Effect is what the driver must do, in the order given.
//
//sumtype:decl
type Effect interface {
	effect()
	String() string
}

// Effects of the Leader.
type (
	// Append proposes an entry; Table is stored and travels with it.
	Append struct {
		Body  wire.Body
		Table []byte
	}

	// ProposeCommit proposes a commit that lacks its Tokens: the coordinator's
	// set of consumed windows fills them in. Table is the CommitTable's bytes.
	ProposeCommit struct {
		Commit wire.Commit
		Table  []byte
	}

	// Send gives a message to peers; the seed's own id means this process.
	Send struct {
		To      []wire.PeerID
		Message wire.Message
	}
)

// Effects of the Owner.
type (
	// FetchSlab asks a member for one slab of its contribution, to be verified
	// as slab number Slab of Slabs under Root and kept. The answer is
	// SlabFetched or FetchFailed, always one of them.
	FetchSlab struct {
		Peer  wire.PeerID
		Addrs []string
		Root  wire.Hash
		Slab  uint64
		Slabs int
	}

	// SumSlab asks for the sum of one slab over the members whose bits are set,
	// in rank order; their slabs are kept or, of this peer's own, local. The
	// answer is Summed or SumFailed.
	SumSlab struct {
		Fragment uint64
		Base     uint64
		Attempt  wire.AttemptID
		Slab     uint64
		Ranks    uint64
		Members  []wire.AttemptMember // of the whole attempt, read only
	}

	// Settle tells the owner's error feedback which sums a commit made part of
	// the run; the others never were (R10).
	Settle struct {
		Fragment uint64
		Base     uint64
		Table    *wire.CommitTable
	}

	// DropSlabs frees what is kept of these contributions of other members.
	DropSlabs struct{ Roots []wire.Hash }

	// Report gives a message to the coordinator.
	Report struct{ Message wire.Message }
)

// Effects of the Member.
type (
	// TakeSnapshot asks for the outer gradient of a fragment at a step's border,
	// best after step To, encoded and kept. The answer is Encoded or EncodeFailed.
	TakeSnapshot struct {
		Fragment uint64
		Base     uint64
		From, To uint64 // steps that it covers
	}

	// SendReady asks to sign and send a Ready.
	SendReady struct{ Ready wire.Ready }

	// Merge asks to merge a commit into the live weights at the next border.
	// Contributed: a snapshot of this base is outstanding and decided by this;
	// Included then says for each slab whether the sum has it (all false: a
	// miss). The answer is Merged.
	Merge struct {
		Fragment    uint64
		Version     uint64
		Contributed bool
		Included    []bool
	}

	// Rejoin says that this worker fell more than two versions behind (R2).
	Rejoin struct{ Reason string }
)

// Note is a decision and its reason, for logs and the page.
type Note struct{ Text string }

func (Append) effect()        {}
func (ProposeCommit) effect() {}
func (Send) effect()          {}
func (FetchSlab) effect()     {}
func (SumSlab) effect()       {}
func (Settle) effect()        {}
func (DropSlabs) effect()     {}
func (Report) effect()        {}
func (TakeSnapshot) effect()  {}
func (SendReady) effect()     {}
func (Merge) effect()         {}
func (Rejoin) effect()        {}
func (Note) effect()          {}

func (e Append) String() string { return "append " + bodyString(e.Body) }

func (e ProposeCommit) String() string { return "propose " + bodyString(&e.Commit) }

func (e Send) String() string {
	to := make([]string, len(e.To))
	for i, p := range e.To {
		to[i] = p.Short()
	}
	return fmt.Sprintf("send to %s: %s", strings.Join(to, " "), messageString(e.Message))
}

func (e FetchSlab) String() string {
	return fmt.Sprintf("fetch %s/%d from %s", e.Root.Short(), e.Slab, e.Peer.Short())
}

func (e SumSlab) String() string {
	return fmt.Sprintf("sum f%d@%d %s slab %d of %b", e.Fragment, e.Base, e.Attempt, e.Slab, e.Ranks)
}

func (e Settle) String() string { return fmt.Sprintf("settle f%d@%d", e.Fragment, e.Base) }

func (e DropSlabs) String() string {
	roots := make([]string, len(e.Roots))
	for i, r := range e.Roots {
		roots[i] = r.Short()
	}
	return "drop " + strings.Join(roots, " ")
}

func (e Report) String() string { return "report " + messageString(e.Message) }

func (e TakeSnapshot) String() string {
	return fmt.Sprintf("snapshot f%d@%d (%d, %d]", e.Fragment, e.Base, e.From, e.To)
}

func (e SendReady) String() string { return "send " + readyString(&e.Ready) }

func (e Merge) String() string {
	if !e.Contributed {
		return fmt.Sprintf("merge f%d@%d", e.Fragment, e.Version)
	}
	bits := make([]byte, len(e.Included))
	for i, in := range e.Included {
		bits[i] = '.'
		if in {
			bits[i] = 'x'
		}
	}
	return fmt.Sprintf("merge f%d@%d included %s", e.Fragment, e.Version, bits)
}

func (e Rejoin) String() string { return "rejoin: " + e.Reason }
func (e Note) String() string   { return "note: " + e.Text }

func bodyString(b wire.Body) string {
	switch b := b.(type) {
	case *wire.Attempt:
		return fmt.Sprintf("attempt f%d@%d %s", b.Fragment, b.Base, b.ID)
	case *wire.Commit:
		return fmt.Sprintf("commit f%d@%d %s result %s state %s weight %d", b.Fragment, b.Base, b.Attempt, b.Result.Short(), b.State.Short(), b.Weight)
	case *wire.Settings:
		return fmt.Sprintf("settings %s solo=%t", b.Phase, b.Solo)
	case nil:
		return "nothing"
	default:
		return b.Kind().String()
	}
}

func messageString(m wire.Message) string {
	switch m := m.(type) {
	case *wire.SlabDone:
		parts := make([]string, len(m.Slabs))
		for i, s := range m.Slabs {
			parts[i] = fmt.Sprintf("%d=%s of %b", s.Slab, s.Hash.Short(), s.Members)
		}
		return fmt.Sprintf("done f%d %s: %s", m.Fragment, m.Attempt, strings.Join(parts, ", "))
	case *wire.SlabFailed:
		return fmt.Sprintf("failed f%d %s slab %d, missing %b: %s", m.Fragment, m.Attempt, m.Slab, m.Missing, m.Reason)
	case *wire.Reassign:
		return fmt.Sprintf("reassign f%d %s slabs %d to rank %d: %s", m.Fragment, m.Attempt, m.Slabs, m.Owner, m.Reason)
	case *wire.Results:
		return fmt.Sprintf("results f%d@%d %s root %s", m.Fragment, m.Base, m.Attempt, m.Table.ResultRoot().Short())
	case *wire.Have:
		return fmt.Sprintf("have f%d@%d %s result %s state %s", m.Fragment, m.Base, m.Attempt, m.Result.Short(), m.State.Short())
	default:
		return fmt.Sprintf("%T", m)
	}
}

func readyString(r *wire.Ready) string {
	return fmt.Sprintf("ready slot %d f%d@%d %s (%d, %d] %d tokens of %s", r.Slot, r.Fragment, r.Base, r.Root.Short(), r.From, r.To, r.Tokens, rangesString(r.Windows))
}

func rangesString(rs []wire.Range) string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = fmt.Sprintf("%d-%d", r.From, r.To)
	}
	return strings.Join(parts, ",")
}
