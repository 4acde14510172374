package group

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"dunlin/wire"
)

// Bounds of a call among members.
const (
	maxEntries = 8 // in one append: with commands of the greatest size still one call
	callWithin = 10 * time.Second
)

// transport is Raft's way to the other members.
type transport struct {
	ctx     context.Context //nolint:containedctx // ends every call
	self    raft.ServerAddress
	members map[raft.ServerID]wire.PeerID
	caller  Caller

	configuration raft.Configuration
	quick         time.Duration // for calls that are of no use later
	incoming      chan raft.RPC
	wg            sync.WaitGroup // calls being answered

	mu        sync.Mutex
	heartbeat func(raft.RPC) // answers heartbeats beside the disk's queue
}

func newTransport(ctx context.Context, cfg Config) *transport {
	t := &transport{
		ctx: ctx, self: raft.ServerAddress(serverID(cfg.Self)), members: map[raft.ServerID]wire.PeerID{}, caller: cfg.Caller,
		configuration: cfg.configuration(), quick: cfg.Pace.Heartbeat, incoming: make(chan raft.RPC),
	}
	for _, id := range cfg.Members {
		t.members[serverID(id)] = id
	}
	return t
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.incoming }

// LocalAddr implements raft.Transport: members are called by their keys.
func (t *transport) LocalAddr() raft.ServerAddress { return t.self }

// EncodePeer implements raft.Transport.
func (*transport) EncodePeer(_ raft.ServerID, address raft.ServerAddress) []byte {
	return []byte(address)
}

// DecodePeer implements raft.Transport.
func (*transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(answer func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = answer
}

// AppendEntriesPipeline implements raft.Transport: entries are few.
func (*transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	standing, err := readStanding(data)
	if err != nil {
		return err
	}
	var answer voteAnswer
	if err := t.call(id, callWithin, encodeSnapshot(args, standing), &answer); err != nil {
		return err
	}
	*resp = raft.InstallSnapshotResponse{RPCHeader: answer.Head.header(), Term: answer.Term, Success: answer.Granted}
	return nil
}

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	within := callWithin
	if len(args.Entries) == 0 {
		within = t.quick
	}
	var answer appendAnswer
	if err := t.call(id, within, encodeAppend(args), &answer); err != nil {
		return err
	}
	*resp = raft.AppendEntriesResponse{
		RPCHeader: answer.Head.header(), Term: answer.Term, LastLog: answer.LastLog, Success: answer.Success, NoRetryBackoff: answer.NoBackoff,
	}
	return nil
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	var answer voteAnswer
	request := voteRequest{Head: headOf(args.RPCHeader), Term: args.Term, LastIndex: args.LastLogIndex, LastTerm: args.LastLogTerm, Transfer: args.LeadershipTransfer}
	if err := t.call(id, t.quick, encodeVote(kindVote, &request), &answer); err != nil {
		return err
	}
	*resp = raft.RequestVoteResponse{RPCHeader: answer.Head.header(), Term: answer.Term, Granted: answer.Granted}
	return nil
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	var answer voteAnswer
	request := voteRequest{Head: headOf(args.RPCHeader), Term: args.Term, LastIndex: args.LastLogIndex, LastTerm: args.LastLogTerm}
	if err := t.call(id, t.quick, encodeVote(kindPreVote, &request), &answer); err != nil {
		return err
	}
	*resp = raft.RequestPreVoteResponse{RPCHeader: answer.Head.header(), Term: answer.Term, Granted: answer.Granted}
	return nil
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	var answer voteAnswer
	if err := t.call(id, t.quick, encodeVote(kindTimeoutNow, &voteRequest{Head: headOf(args.RPCHeader)}), &answer); err != nil {
		return err
	}
	*resp = raft.TimeoutNowResponse{RPCHeader: answer.Head.header()}
	return nil
}

var errNoMember = errors.New("not a member of the group")

// call asks a member and decodes its answer.
func (t *transport) call(id raft.ServerID, within time.Duration, request []byte, answer any) error {
	to, ok := t.members[id]
	if !ok {
		return errNoMember
	}
	ctx, cancel := context.WithTimeout(t.ctx, within)
	defer cancel()
	b, err := t.caller.Call(ctx, to, request)
	if err != nil {
		return err
	}
	return wire.Decode(b, answer)
}

// answer serves a member's call.
func (t *transport) answer(ctx context.Context, _ wire.PeerID, b []byte) ([]byte, error) {
	t.wg.Add(1)
	defer t.wg.Done()
	command, standing, err := decodeCall(b)
	if err != nil {
		return nil, err
	}
	answers := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: command, RespChan: answers}
	if r, ok := command.(*raft.InstallSnapshotRequest); ok {
		r.Configuration, rpc.Reader = raft.EncodeConfiguration(t.configuration), bytes.NewReader(standing)
	}
	t.mu.Lock()
	heartbeat := t.heartbeat
	t.mu.Unlock()
	if heartbeat != nil && isHeartbeat(command) {
		heartbeat(rpc)
	} else {
		select {
		case t.incoming <- rpc:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	select {
	case a := <-answers:
		if a.Error != nil {
			return nil, a.Error
		}
		return encodeAnswer(a.Response)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-t.ctx.Done():
		return nil, context.Cause(t.ctx)
	}
}

// isHeartbeat recognises the appends that only say that the leader lives.
func isHeartbeat(command any) bool {
	a, ok := command.(*raft.AppendEntriesRequest)
	return ok && a.Term != 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}
