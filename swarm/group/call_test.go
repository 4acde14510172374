package group

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"dunlin/wire"
)

func examples() []any {
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a"), Addr: []byte("a")}
	return []any{
		&raft.AppendEntriesRequest{RPCHeader: header, Term: 3},
		&raft.AppendEntriesRequest{
			RPCHeader: header, Term: 3, PrevLogEntry: 7, PrevLogTerm: 2, LeaderCommitIndex: 6,
			Entries: []*raft.Log{{Index: 8, Term: 3, Type: raft.LogNoop, Data: []byte{}}, {Index: 9, Term: 3, Data: []byte("command")}},
		},
		&raft.RequestVoteRequest{RPCHeader: header, Term: 4, LastLogIndex: 9, LastLogTerm: 3, LeadershipTransfer: true},
		&raft.RequestPreVoteRequest{RPCHeader: header, Term: 4, LastLogIndex: 9, LastLogTerm: 3},
		&raft.TimeoutNowRequest{RPCHeader: header},
		&raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: 1, Term: 4, Leader: []byte("a"), LastLogIndex: 9, LastLogTerm: 3, ConfigurationIndex: 1, Size: int64(len(standing)),
		},
	}
}

const standing = "in place of nine"

func encode(t testing.TB, request any) []byte {
	switch r := request.(type) {
	case *raft.AppendEntriesRequest:
		return encodeAppend(r)
	case *raft.RequestVoteRequest:
		return encodeVote(kindVote, &voteRequest{headOf(r.RPCHeader), r.Term, r.LastLogIndex, r.LastLogTerm, r.LeadershipTransfer})
	case *raft.RequestPreVoteRequest:
		return encodeVote(kindPreVote, &voteRequest{headOf(r.RPCHeader), r.Term, r.LastLogIndex, r.LastLogTerm, false})
	case *raft.InstallSnapshotRequest:
		return encodeSnapshot(r, []byte(standing))
	case *raft.TimeoutNowRequest:
		return encodeVote(kindTimeoutNow, &voteRequest{Head: headOf(r.RPCHeader)})
	}
	t.Fatalf("%T", request)
	return nil
}

func TestCallsComeBackAsTheyWent(t *testing.T) {
	for _, want := range examples() {
		b := encode(t, want)
		got, held, err := decodeCall(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%T: %+v, %v, want %+v", want, got, err, want)
		}
		if _, is := want.(*raft.InstallSnapshotRequest); is && string(held) != standing {
			t.Errorf("%T holds %q", want, held)
		}
		if _, _, err := decodeCall(append(b, 0)); err == nil {
			t.Errorf("%T: a byte behind its end is taken", want)
		}
		if _, _, err := decodeCall(b[:len(b)-1]); err == nil {
			t.Errorf("%T: a cut one is taken", want)
		}
	}
	many := &raft.AppendEntriesRequest{Entries: make([]*raft.Log, maxEntries+1)}
	for i := range many.Entries {
		many.Entries[i] = &raft.Log{}
	}
	if _, _, err := decodeCall(encodeAppend(many)); err == nil {
		t.Error("too many entries are taken")
	}
	if _, _, err := decodeCall(encodeSnapshot(&raft.InstallSnapshotRequest{LastLogIndex: 1}, make([]byte, wire.MaxStanding+1))); err == nil {
		t.Error("a large snapshot is taken")
	}
}

func TestGreatestCallFits(t *testing.T) {
	a := &raft.AppendEntriesRequest{}
	for range maxEntries {
		a.Entries = append(a.Entries, &raft.Log{Index: 1 << 60, Term: 1 << 60, Data: make([]byte, wire.MaxCommand)})
	}
	if b := encodeAppend(a); len(b) > 8*wire.MaxMessage+64<<10 {
		t.Fatalf("%d bytes", len(b))
	} else if _, _, err := decodeCall(b); err != nil {
		t.Fatal(err)
	}
}

func FuzzCall(f *testing.F) {
	for _, e := range examples() {
		f.Add(encode(f, e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		request, _, err := decodeCall(b)
		if err != nil {
			return
		}
		if a, ok := request.(*raft.AppendEntriesRequest); ok && !bytes.Equal(encodeAppend(a), b) {
			t.Fatal("an append has two encodings")
		}
	})
}
