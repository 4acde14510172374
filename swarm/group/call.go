package group

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"dunlin/wire"
)

// kind is the first byte of a call.
type kind byte

const (
	kindAppend     kind = 1
	kindVote       kind = 2
	kindPreVote    kind = 3
	kindTimeoutNow kind = 4
	kindSnapshot   kind = 5
)

// head is what every request and answer of Raft begins with.
type head struct {
	Version uint64 `cbor:"1,keyasint"`
	ID      []byte `cbor:"2,keyasint"`
	Addr    []byte `cbor:"3,keyasint"`
}

func headOf(h raft.RPCHeader) head { return head{uint64(h.ProtocolVersion), h.ID, h.Addr} }

func (h head) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(h.Version), ID: h.ID, Addr: h.Addr}
}

// appendRequest is the head of an append; count entries follow it.
type appendRequest struct {
	Head      head   `cbor:"1,keyasint"`
	Term      uint64 `cbor:"2,keyasint"`
	PrevIndex uint64 `cbor:"3,keyasint"`
	PrevTerm  uint64 `cbor:"4,keyasint"`
	Commit    uint64 `cbor:"5,keyasint"`
	Count     uint64 `cbor:"6,keyasint"` // at most maxEntries
}

// logEntry is one element of Raft's log.
type logEntry struct {
	Index uint64 `cbor:"1,keyasint"`
	Term  uint64 `cbor:"2,keyasint"`
	Type  uint64 `cbor:"3,keyasint"`
	Data  []byte `cbor:"4,keyasint"`
}

type appendAnswer struct {
	Head      head   `cbor:"1,keyasint"`
	Term      uint64 `cbor:"2,keyasint"`
	LastLog   uint64 `cbor:"3,keyasint"`
	Success   bool   `cbor:"4,keyasint"`
	NoBackoff bool   `cbor:"5,keyasint"`
}

// voteRequest asks for a vote, or whether there would be one; of a demand to
// stand for election it is the head alone.
type voteRequest struct {
	Head      head   `cbor:"1,keyasint"`
	Term      uint64 `cbor:"2,keyasint"`
	LastIndex uint64 `cbor:"3,keyasint"`
	LastTerm  uint64 `cbor:"4,keyasint"`
	Transfer  bool   `cbor:"5,keyasint"`
}

// snapshotRequest is a follower's new beginning. The members, fixed as they are, are
// not in it.
type snapshotRequest struct {
	Head      head   `cbor:"1,keyasint"`
	Term      uint64 `cbor:"2,keyasint"`
	LastIndex uint64 `cbor:"3,keyasint"`
	LastTerm  uint64 `cbor:"4,keyasint"`
	Members   uint64 `cbor:"5,keyasint"` // index at which they were agreed on
	Standing  []byte `cbor:"6,keyasint"` // at most wire.MaxStanding
}

// voteAnswer answers a snapshot as well.
type voteAnswer struct {
	Head    head   `cbor:"1,keyasint"`
	Term    uint64 `cbor:"2,keyasint"`
	Granted bool   `cbor:"3,keyasint"`
}

func appendFrame(b, body []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

func encodeVote(k kind, v *voteRequest) []byte { return appendFrame([]byte{byte(k)}, wire.Encode(v)) }

func encodeSnapshot(r *raft.InstallSnapshotRequest, standing []byte) []byte {
	return appendFrame([]byte{byte(kindSnapshot)}, wire.Encode(&snapshotRequest{
		Head: headOf(r.RPCHeader), Term: r.Term, LastIndex: r.LastLogIndex, LastTerm: r.LastLogTerm, Members: r.ConfigurationIndex, Standing: standing,
	}))
}

func encodeAppend(a *raft.AppendEntriesRequest) []byte {
	b := appendFrame([]byte{byte(kindAppend)}, wire.Encode(&appendRequest{
		Head: headOf(a.RPCHeader), Term: a.Term, PrevIndex: a.PrevLogEntry, PrevTerm: a.PrevLogTerm, Commit: a.LeaderCommitIndex,
		Count: uint64(len(a.Entries)),
	}))
	for _, e := range a.Entries {
		b = appendFrame(b, wire.Encode(&logEntry{e.Index, e.Term, uint64(e.Type), e.Data}))
	}
	return b
}

var (
	errEmpty    = errors.New("call: empty")
	errTrailing = errors.New("call: bytes behind its end")
)

// decodeCall reads and bounds a call, and returns Raft's request and, of a snapshot,
// what it holds.
func decodeCall(b []byte) (request any, standing []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errEmpty
	}
	in := frames{b[1:]}
	switch k := kind(b[0]); k {
	case kindAppend:
		request, err = in.append()
	case kindVote, kindPreVote, kindTimeoutNow:
		request, err = in.vote(k)
	case kindSnapshot:
		request, standing, err = in.snapshot()
	default:
		return nil, nil, fmt.Errorf("call: unknown kind %d: a newer release asks it, upgrade this one", b[0])
	}
	if err != nil {
		return nil, nil, fmt.Errorf("call: %w", err)
	}
	if len(in.rest) > 0 {
		return nil, nil, errTrailing
	}
	return request, standing, nil
}

// frames reads one frame after another.
type frames struct{ rest []byte }

func (f *frames) next(v any) error {
	size, n := binary.Uvarint(f.rest)
	if n <= 0 || size > wire.MaxMessage || size > uint64(len(f.rest)-n) || n != len(binary.AppendUvarint(nil, size)) {
		return errors.New("a frame's length is wrong")
	}
	body := f.rest[n : n+int(size)]
	f.rest = f.rest[n+int(size):]
	return wire.Decode(body, v)
}

func (f *frames) append() (*raft.AppendEntriesRequest, error) {
	var r appendRequest
	if err := f.next(&r); err != nil {
		return nil, err
	}
	if r.Count > maxEntries {
		return nil, fmt.Errorf("%d entries, at most %d are allowed", r.Count, maxEntries)
	}
	out := &raft.AppendEntriesRequest{
		RPCHeader: r.Head.header(), Term: r.Term, PrevLogEntry: r.PrevIndex, PrevLogTerm: r.PrevTerm, LeaderCommitIndex: r.Commit,
	}
	for range r.Count {
		var e logEntry
		if err := f.next(&e); err != nil {
			return nil, err
		}
		if e.Type > uint64(raft.LogConfiguration) {
			return nil, fmt.Errorf("entry of type %d", e.Type)
		}
		out.Entries = append(out.Entries, &raft.Log{Index: e.Index, Term: e.Term, Type: raft.LogType(e.Type), Data: e.Data})
	}
	return out, nil
}

func (f *frames) snapshot() (*raft.InstallSnapshotRequest, []byte, error) {
	var r snapshotRequest
	if err := f.next(&r); err != nil {
		return nil, nil, err
	}
	if len(r.Standing) > wire.MaxStanding || r.LastIndex == 0 {
		return nil, nil, fmt.Errorf("a snapshot of %d bytes at index %d", len(r.Standing), r.LastIndex)
	}
	return &raft.InstallSnapshotRequest{
		RPCHeader: r.Head.header(), SnapshotVersion: raft.SnapshotVersionMax, Term: r.Term, Leader: r.Head.Addr,
		LastLogIndex: r.LastIndex, LastLogTerm: r.LastTerm, ConfigurationIndex: r.Members, Size: int64(len(r.Standing)),
	}, r.Standing, nil
}

func (f *frames) vote(k kind) (any, error) {
	var v voteRequest
	if err := f.next(&v); err != nil {
		return nil, err
	}
	switch k {
	case kindVote:
		return &raft.RequestVoteRequest{
			RPCHeader: v.Head.header(), Term: v.Term, LastLogIndex: v.LastIndex, LastLogTerm: v.LastTerm, LeadershipTransfer: v.Transfer,
		}, nil
	case kindPreVote:
		return &raft.RequestPreVoteRequest{RPCHeader: v.Head.header(), Term: v.Term, LastLogIndex: v.LastIndex, LastLogTerm: v.LastTerm}, nil
	default:
		return &raft.TimeoutNowRequest{RPCHeader: v.Head.header()}, nil
	}
}

// encodeAnswer returns Raft's answer as it travels.
func encodeAnswer(response any) ([]byte, error) {
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		return wire.Encode(&appendAnswer{headOf(r.RPCHeader), r.Term, r.LastLog, r.Success, r.NoRetryBackoff}), nil
	case *raft.RequestVoteResponse:
		return wire.Encode(&voteAnswer{headOf(r.RPCHeader), r.Term, r.Granted}), nil
	case *raft.RequestPreVoteResponse:
		return wire.Encode(&voteAnswer{headOf(r.RPCHeader), r.Term, r.Granted}), nil
	case *raft.InstallSnapshotResponse:
		return wire.Encode(&voteAnswer{headOf(r.RPCHeader), r.Term, r.Success}), nil
	case *raft.TimeoutNowResponse:
		return wire.Encode(&voteAnswer{Head: headOf(r.RPCHeader)}), nil
	}
	return nil, fmt.Errorf("call: no answer of type %T", response)
}
