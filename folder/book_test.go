package folder

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dunlin/wire"
)

func TestBookRemembersTheNewest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers")
	b := OpenBook(path)
	id := func(i int) wire.PeerID { return wire.PeerID{byte(i), byte(i >> 8), 1} }
	for i := range wire.MaxKnown + 10 {
		if !b.Learn(id(i), []string{"/ip4/1.2.3.4/tcp/1"}, true) {
			t.Errorf("peer %d is no news", i)
		}
	}
	if b.Learn(id(70), []string{"/ip4/1.2.3.4/tcp/1"}, true) || b.Learn(id(1), nil, true) || b.Learn(id(1), []string{string(make([]byte, 300))}, true) {
		t.Error("no news, no address or a huge one was taken")
	}
	if b.Learn(id(1), []string{"/ip4/1.2.3.4/tcp/1"}, false) {
		t.Error("a heartbeat of one without a place in a full book is news")
	}
	if b.Takes(id(1), false) || !b.Takes(id(1), true) || !b.Takes(id(70), false) {
		t.Error("a full book takes one without a place only when it is met, and those that it has always")
	}
	if first, second := b.Unwritten(), b.Unwritten(); !first || second {
		t.Error("a book that nobody writes is not to be written, or twice")
	}
	if !b.Learn(id(70), slices.Repeat([]string{"/ip4/5.6.7.8/tcp/1"}, 20), false) {
		t.Error("another address is no news")
	}
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	if !b.Unwritten() {
		t.Error("what comes after a save is not written")
	}
	again := OpenBook(path)
	known := again.List()
	if len(known) != wire.MaxKnown || known[0].Peer != id(70) || len(known[0].Addrs) != wire.MaxAddrs || again.Of(id(0)) != nil {
		t.Errorf("read back %d peers, the first %s", len(known), known[0].Peer.Short())
	}
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(OpenBook(path).List()); n != 0 {
		t.Errorf("%d peers in a damaged book", n)
	}
}
