package contact

import (
	"context"
	"time"

	"dunlin/folder"
	"dunlin/wire"
)

// Bounds of a search for the coordinator.
const (
	MaxAsked   = 8 // peers asked at most, newest first
	AskWithin  = 5 * time.Second
	DialWithin = 20 * time.Second
)

// Merged returns addresses of both lists, each once, those of the first in front.
func Merged(a, b []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, addr := range append(a[:len(a):len(a)], b...) {
		if !seen[addr] {
			seen[addr] = true
			out = append(out, addr)
		}
	}
	return out
}

// Reach connects to a coordinator: where it was last reached, where the
// invite says, and, when it is at neither, where other peers say.
func Reach(ctx context.Context, t Network, book *folder.Book, self, lead wire.PeerID, told []string) error {
	ctx, cancel := context.WithTimeout(ctx, DialWithin)
	defer cancel()
	err := t.Connect(ctx, lead, Merged(book.Of(lead), told))
	if err == nil {
		return nil
	}
	asked := 0
	for _, k := range book.List() {
		if k.Peer == lead || k.Peer == self {
			continue
		}
		if asked++; asked > MaxAsked || ctx.Err() != nil {
			break
		}
		addrs := whereIs(ctx, t, lead, k)
		if len(addrs) == 0 {
			continue
		}
		if again := t.Connect(ctx, lead, addrs); again == nil {
			return nil
		}
	}
	return err
}

// whereIs asks a peer where the coordinator is; nil when it does not say.
func whereIs(ctx context.Context, t Network, lead wire.PeerID, k wire.Known) []string {
	ctx, cancel := context.WithTimeout(ctx, AskWithin)
	defer cancel()
	if err := t.Connect(ctx, k.Peer, k.Addrs); err != nil {
		t.Forget(k.Peer)
		return nil
	}
	for _, other := range Hearsay(ctx, t, k.Peer) {
		if other.Peer == lead {
			return other.Addrs
		}
	}
	return nil
}
