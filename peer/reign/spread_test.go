package reign

import (
	"slices"
	"testing"
	"time"

	"dunlin/wire"
)

// mail counts the messages of a Reign to each peer.
type mail struct {
	entries map[wire.PeerID][]uint64 // heights, in order
	sent    int
}

func peerID(i int) wire.PeerID { return wire.PeerID{byte(i), 1} }

// spreading returns the coordinator of a run with so many peers, of which the i-th has slot i + 1.
func spreading(t *testing.T, peers int) (*Reign, *mail) {
	t.Helper()
	m := &mail{entries: map[wire.PeerID][]uint64{}}
	r := &Reign{
		cfg: Config{Peers: map[wire.PeerID]bool{}, Holder: func(slot wire.Slot) wire.PeerID { return peerID(int(slot) - 1) }},
		driver: Driver{Send: func(to wire.PeerID, message []byte) {
			m.sent++
			decoded, err := wire.DecodeMessage(message)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range decoded.(*wire.Entries).Items {
				m.entries[to] = append(m.entries[to], item.Certified.Entry.Height)
			}
		}},
	}
	for i := range peers {
		r.cfg.Peers[peerID(i)] = true
	}
	return r, m
}

func certified(height uint64, body wire.Body) *wire.Certified {
	return &wire.Certified{Entry: wire.NewEntry(wire.Hash{1}, height, wire.Hash{2}, 1, body)}
}

// TestLeasesTravelTogether: in a large run a lease goes to its worker at once, with
// what that one lacks, and to the others with the next entry that concerns all. In a
// small one nobody waits.
func TestLeasesTravelTogether(t *testing.T) {
	now := time.Now()
	for _, peers := range []int{3, largeRun} {
		r, m := spreading(t, peers)
		for slot := range wire.Slot(3) {
			r.spread(now, certified(uint64(slot)+1, &wire.Lease{Slot: slot + 1, Ranges: []wire.Range{{From: uint64(slot), To: uint64(slot) + 1}}}), nil)
		}
		if got := m.entries[peerID(1)]; len(got) < 2 || got[0] != 1 || got[1] != 2 {
			t.Errorf("%d peers: the second worker has entries %v, want its lease and what is below", peers, got)
		}
		if want := map[bool]int{true: 3 * peers, false: 3}[peers < largeRun]; m.sent != want {
			t.Errorf("%d peers: three leases made %d messages, want %d", peers, m.sent, want)
		}
		r.spread(now, certified(4, &wire.Settings{Phase: wire.PhasePaused}), nil)
		for i := range peers {
			for want := uint64(1); want <= 4; want++ {
				if !slices.Contains(m.entries[peerID(i)], want) {
					t.Errorf("%d peers: peer %d lacks entry %d", peers, i, want)
				}
			}
		}
		before := m.sent
		r.spreadDue(now.Add(time.Hour))
		if m.sent != before {
			t.Errorf("%d peers: what everyone has is given again", peers)
		}
	}
}

// TestOthersWaitForLeases: in a large run the others have a lease within leaseWithin, and word of who left, with all
// that waits, at the next look.
func TestOthersWaitForLeases(t *testing.T) {
	r, m := spreading(t, largeRun)
	now, height := time.Now(), uint64(0)
	write := func(body wire.Body) {
		height++
		r.spread(now, certified(height, body), nil)
	}
	lease := &wire.Lease{Slot: 1, Ranges: []wire.Range{{From: 1, To: 2}}}
	look := func(after time.Duration, want int) {
		t.Helper()
		m.sent = 0
		now = now.Add(after)
		if r.spreadDue(now); m.sent != want {
			t.Errorf("height %d: %d messages, want %d", height, m.sent, want)
		}
	}
	write(lease)
	look(leaseWithin-time.Second, 0)
	write(lease) // waits no longer than the first
	look(time.Second, largeRun)
	write(lease)
	look(time.Second, 0)
	write(&wire.Member{Peer: peerID(3), Slot: 4, Op: wire.MemberLeave, Reason: "it left"})
	look(0, largeRun)
}
