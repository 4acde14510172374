package figures

import (
	"os"
	"path/filepath"
	"testing"

	"dunlin/status"
	"dunlin/wire"
)

// TestThanks counts two peers over three commits, over a restart and over a slot's end.
func TestThanks(t *testing.T) {
	dir := t.TempDir()
	ana, bo := wire.PeerID{1}, wire.PeerID{2}
	table := func(tokens ...uint64) *wire.CommitTable {
		var out wire.CommitTable
		for i, n := range tokens {
			if n > 0 {
				out.Contributors = append(out.Contributors, wire.Contributor{Slot: wire.Slot(i + 1), Tokens: n})
			}
		}
		return &out
	}
	names := func(id wire.PeerID) string { return map[wire.PeerID]string{ana: "Ana"}[id] }
	first := OpenThanks(dir)
	first.member(&wire.Member{Op: wire.MemberAdmit, Slot: 1, Peer: ana})
	first.member(&wire.Member{Op: wire.MemberAdmit, Slot: 2, Peer: bo})
	first.commit(10, table(100, 200))
	first.member(&wire.Member{Op: wire.MemberLeave, Slot: 1, Peer: ana})
	first.commit(11, table(400))
	if err := first.Save(); err != nil {
		t.Fatal(err)
	}

	again := OpenThanks(dir)
	again.member(&wire.Member{Op: wire.MemberAdmit, Slot: 2, Peer: bo})
	again.commit(11, table(400, 400)) // was counted
	again.commit(12, table(0, 100, 900))
	if first.newest != 1 || again.newest != 2 {
		t.Errorf("newest commits of %d and %d, want 1 and 2", first.newest, again.newest)
	}
	got := again.ranks(bo, 2, names)
	want := []status.Giver{
		{Rank: 1, ID: ana.String(), Name: "Ana", Tokens: 250, Commits: 2},
		{Rank: 2, ID: bo.String(), You: true, Tokens: 150, Commits: 2},
	}
	if got.Since != 10 || got.Givers != 2 || len(got.Ranks) != 2 || got.Ranks[0] != want[0] || got.Ranks[1] != want[1] {
		t.Errorf("got %+v, want %+v since 10", got, want)
	}

	for _, bad := range []string{"", "{", `{"given":{"x":{}}}`, `{"given":{"` + ana.String() + `":null}}`} {
		if err := os.WriteFile(filepath.Join(dir, "thanks"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := OpenThanks(dir); len(got.given) > 0 || got.height > 0 {
			t.Errorf("%q gave %+v", bad, got)
		}
	}
}

func TestThanksShowYouWhereverYouStand(t *testing.T) {
	b := OpenThanks(t.TempDir())
	var table wire.CommitTable
	for i := range 150 {
		b.member(&wire.Member{Op: wire.MemberAdmit, Slot: wire.Slot(i + 1), Peer: wire.PeerID{byte(i)}})
		table.Contributors = append(table.Contributors, wire.Contributor{Slot: wire.Slot(i + 1), Tokens: uint64(1000 - i)})
	}
	b.commit(1, &table)
	got := b.ranks(wire.PeerID{149}, 1, func(wire.PeerID) string { return "" })
	if n := len(got.Ranks); n != maxThanks+1 || got.Givers != 150 || got.Ranks[n-1].Rank != 150 || !got.Ranks[n-1].You {
		t.Errorf("%d ranks of %d, the last %+v", n, got.Givers, got.Ranks[n-1])
	}
}
