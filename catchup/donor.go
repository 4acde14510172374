package catchup

import (
	"time"

	"dunlin/wire"
)

// How many a donor serves, and for how long it keeps a place for one that asks no more.
const (
	donorGuests = 4
	donorWait   = 5 * time.Second
)

// Donor decides whom of those that join a peer serves now: a few at a time, each of
// whom is through the sooner, while the others ask elsewhere or again. Were all served
// at once, no transfer of a crowd would move before its watchdog gives it up. A place
// is held as long as its peer goes on asking. The zero Donor is ready for use.
type Donor struct {
	guests map[wire.PeerID]time.Time // when each last asked
}

// Admit reports whether a peer that asks for bytes to join with is served.
func (d *Donor) Admit(now time.Time, peer wire.PeerID) bool {
	for p, asked := range d.guests {
		if now.Sub(asked) >= donorWait {
			delete(d.guests, p)
		}
	}
	if _, guest := d.guests[peer]; !guest && len(d.guests) >= donorGuests {
		return false
	}
	if d.guests == nil {
		d.guests = map[wire.PeerID]time.Time{}
	}
	d.guests[peer] = now
	return true
}
