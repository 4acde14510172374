package peer

import (
	"context"

	"dunlin/wire"
)

// Transport is what a peer needs of the network; *swarm.Host is one. The
// network calls the peer back through Connected, Disconnected, Message and
// Serve (see Peer).
type Transport interface {
	// ID is this peer.
	ID() wire.PeerID
	// Addrs tells where others reach it.
	Addrs() []string
	// AddrsOf tells where a peer with a session listens, as it says itself.
	AddrsOf(id wire.PeerID) []string
	// Connect dials a peer and keeps the connection up until Forget.
	Connect(ctx context.Context, id wire.PeerID, addrs []string) error
	// Forget lets a peer go.
	Forget(id wire.PeerID)
	// Await names the peers of whom something is awaited, in place of those named before: one that gives no sign of
	// life is disconnected. A Fetch awaits by itself.
	Await(peers []wire.PeerID)
	// Send queues one control message; it never blocks.
	Send(to wire.PeerID, message []byte) error
	// Pass queues one message between stages; it never blocks.
	Pass(to wire.PeerID, message []byte) error
	// Fetch asks a connected peer for bytes, at most limit of them.
	Fetch(ctx context.Context, from wire.PeerID, class wire.Class, request []byte, limit int) ([]byte, error)
	// Traffic returns bytes sent and received, by class and on the sockets.
	Traffic() Traffic
}

// Traffic counts bytes since the start.
type Traffic struct {
	Sent, Received           uint64 // on the sockets
	ClassSent, ClassReceived [wire.Classes]uint64
}
