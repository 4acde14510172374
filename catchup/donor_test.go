package catchup

import (
	"testing"
	"time"

	"dunlin/wire"
)

// TestDonorServesAFewAtATime: places are taken in the order of asking, held while their
// peers ask, and given to others when they have stopped.
func TestDonorServesAFewAtATime(t *testing.T) {
	var d Donor
	now := time.Unix(1000, 0)
	id := func(i int) wire.PeerID { return wire.PeerID{byte(i + 1)} }
	admits := func(i int, want bool) {
		t.Helper()
		if got := d.Admit(now, id(i)); got != want {
			t.Errorf("peer %d at %s: admitted %t, want %t", i, now.Sub(time.Unix(1000, 0)), got, want)
		}
	}
	for i := range donorGuests {
		admits(i, true)
	}
	admits(donorGuests, false)
	now = now.Add(donorWait - time.Second)
	admits(0, true) // a hold that is renewed
	admits(donorGuests, false)
	now = now.Add(time.Second) // the others' have run out
	for i := range donorGuests - 1 {
		admits(donorGuests+i, true)
	}
	admits(1, false)
	admits(0, true)
	if len(d.guests) != donorGuests {
		t.Errorf("%d places are held", len(d.guests))
	}
}
