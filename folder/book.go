package folder

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"dunlin/store"
	"dunlin/wire"
)

// Book remembers, across processes, where the peers of a run were last reached,
// newest first. It is a cache: one that is lost or damaged costs nothing but the
// way back when the invite's addresses no longer lead anywhere.
type Book struct {
	path string

	mu      sync.Mutex
	known   []wire.Known
	claimed bool // by a save that has not begun

	saving sync.Mutex // one file at a time
}

// OpenBook reads the book at path, or starts an empty one.
func OpenBook(path string) *Book {
	b := &Book{path: path}
	if text, err := os.ReadFile(path); err == nil {
		if p, err := wire.DecodePeers(text); err == nil {
			b.known = p.Known
		}
	}
	return b
}

// Learn notes where a peer is and reports whether that is news. In a full book only
// one that was met just now takes another's place: in a large run each heartbeat of
// those without a place would have it written anew.
func (b *Book) Learn(id wire.PeerID, addrs []string, met bool) bool {
	addrs = addrs[:min(len(addrs), wire.MaxAddrs)]
	if len(addrs) == 0 || slices.ContainsFunc(addrs, func(a string) bool { return len(a) > wire.MaxAddr }) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.known, func(k wire.Known) bool { return k.Peer == id })
	if i >= 0 && slices.Equal(b.known[i].Addrs, addrs) || i < 0 && !met && len(b.known) == wire.MaxKnown {
		return false
	}
	if i >= 0 {
		b.known = slices.Delete(b.known, i, i+1)
	}
	b.known = slices.Insert(b.known, 0, wire.Known{Peer: id, Addrs: slices.Clone(addrs)})
	b.known = b.known[:min(len(b.known), wire.MaxKnown)]
	return true
}

// Takes reports whether Learn has a use for the addresses of a peer: of one that is new, not met just now, a full book takes
// none.
func (b *Book) Takes(id wire.PeerID, met bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return met || len(b.known) < wire.MaxKnown || slices.ContainsFunc(b.known, func(k wire.Known) bool { return k.Peer == id })
}

// List returns all that is known.
func (b *Book) List() []wire.Known {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.known)
}

// Of returns where a peer was last reached, nil when nobody knows.
func (b *Book) Of(id wire.PeerID) []string {
	for _, k := range b.List() {
		if k.Peer == id {
			return k.Addrs
		}
	}
	return nil
}

// Unwritten reports whether somebody has to save; it does so once until they begin.
func (b *Book) Unwritten() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.claimed
	b.claimed = true
	return first
}

// Save writes the book.
func (b *Book) Save() error {
	b.saving.Lock()
	defer b.saving.Unlock()
	b.mu.Lock()
	b.claimed = false
	b.mu.Unlock()
	if err := store.WriteFile(b.path, wire.Encode(&wire.Peers{Known: b.List()}), 0o600); err != nil {
		return fmt.Errorf("remember where peers are: %w", err)
	}
	return nil
}
