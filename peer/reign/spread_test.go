package peer

import (
	"testing"
	"time"

	"dunlin/peer/figures"
	"dunlin/wire"
)

// post is a transport that counts the messages to each peer.
type post struct {
	Transport
	entries map[wire.PeerID][]uint64 // heights, in order
	sent    int
}

func (p *post) Send(to wire.PeerID, message []byte) error {
	p.sent++
	m, err := wire.DecodeMessage(message)
	if err != nil {
		return err
	}
	for _, item := range m.(*wire.Entries).Items {
		p.entries[to] = append(p.entries[to], item.Certified.Entry.Height)
	}
	return nil
}

// TestLeasesTravelTogether: in a large run a lease goes to its worker at once, with
// what that one lacks, and to the others with the next entry that concerns all. In a
// small one nobody waits.
func TestLeasesTravelTogether(t *testing.T) {
	for _, peers := range []int{3, largeRun} {
		mail := &post{entries: map[wire.PeerID][]uint64{}}
		p := &Peer{crew: crew{transport: mail}, peers: map[wire.PeerID]bool{}, figures: figures.New(figures.Subject{}, time.Now())}
		id := func(i int) wire.PeerID { return wire.PeerID{byte(i), 1} }
		for i := range peers {
			p.peers[id(i)], p.figures.Slots[wire.Slot(i+1)] = true, id(i)
		}
		height, now := uint64(0), time.Now()
		spread := func(body wire.Body) {
			height++
			p.spread(now, &wire.Certified{Entry: wire.NewEntry(wire.Hash{1}, height, wire.Hash{2}, 1, body)}, nil)
		}
		for slot := range wire.Slot(3) {
			spread(&wire.Lease{Slot: slot + 1, Ranges: []wire.Range{{From: uint64(slot), To: uint64(slot) + 1}}})
		}
		if got := mail.entries[id(1)]; len(got) < 2 || got[0] != 1 || got[1] != 2 {
			t.Errorf("%d peers: the second worker has entries %v, want its lease and what is below", peers, got)
		}
		if want := map[bool]int{true: 3 * peers, false: 3}[peers < largeRun]; mail.sent != want {
			t.Errorf("%d peers: three leases made %d messages, want %d", peers, mail.sent, want)
		}
		spread(&wire.Settings{Phase: wire.PhasePaused})
		for i := range peers {
			for want := uint64(1); want <= 4; want++ {
				found := false
				for _, h := range mail.entries[id(i)] {
					found = found || h == want
				}
				if !found {
					t.Errorf("%d peers: peer %d lacks entry %d", peers, i, want)
				}
			}
		}
		before := mail.sent
		p.spreadDue(now.Add(time.Hour))
		if mail.sent != before {
			t.Errorf("%d peers: what everyone has is given again", peers)
		}
	}
}

// TestOthersWaitForLeases: in a large run the others have a lease within leaseWithin, and word of who left, with all
// that waits, at the next look.
func TestOthersWaitForLeases(t *testing.T) {
	mail := &post{entries: map[wire.PeerID][]uint64{}}
	p := &Peer{crew: crew{transport: mail}, peers: map[wire.PeerID]bool{}, figures: figures.New(figures.Subject{}, time.Now())}
	for i := range largeRun {
		p.peers[wire.PeerID{byte(i), 1}] = true
	}
	now, height := time.Now(), uint64(0)
	write := func(body wire.Body) {
		height++
		p.spread(now, &wire.Certified{Entry: wire.NewEntry(wire.Hash{1}, height, wire.Hash{2}, 1, body)}, nil)
	}
	lease := &wire.Lease{Slot: 1, Ranges: []wire.Range{{From: 1, To: 2}}}
	look := func(after time.Duration, want int) {
		t.Helper()
		mail.sent = 0
		now = now.Add(after)
		if p.spreadDue(now); mail.sent != want {
			t.Errorf("height %d: %d messages, want %d", height, mail.sent, want)
		}
	}
	write(lease)
	look(leaseWithin-time.Second, 0)
	write(lease) // waits no longer than the first
	look(time.Second, largeRun)
	write(lease)
	look(time.Second, 0)
	write(&wire.Member{Peer: wire.PeerID{3, 1}, Slot: 3, Op: wire.MemberLeave, Reason: "it left"})
	look(0, largeRun)
}
