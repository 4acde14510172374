package peer

import (
	"time"

	"dunlin/status"
	"dunlin/wire"
)

// What a joiner fetches before it trains.
const (
	transferData       = "data"
	transferCheckpoint = "checkpoint"
)

// transfer counts bytes that come in before training can begin.
type transfer struct {
	what        string
	done, total uint64
	donors      map[wire.PeerID]bool
	began       time.Time
}

// Reports of transfers to the loop.
type (
	transferBegun struct {
		what  string
		total uint64 // bytes
	}
	transferMoved struct {
		what  string
		from  wire.PeerID
		bytes int
	}
)

// transferring takes in a report.
func (f *figures) transferring(ev any) {
	find := func(what string) *transfer {
		for _, t := range f.transfers {
			if t.what == what {
				return t
			}
		}
		return nil
	}
	switch ev := ev.(type) {
	case transferBegun:
		if t := find(ev.what); t == nil {
			f.transfers = append(f.transfers, &transfer{what: ev.what, total: ev.total, donors: map[wire.PeerID]bool{}, began: time.Now()})
		}
	case transferMoved:
		if t := find(ev.what); t != nil {
			t.done = min(t.done+uint64(ev.bytes), t.total) // a retry may come twice
			t.donors[ev.from] = true
		}
	}
}

// transferStatus lists what is still under way.
func (f *figures) transferStatus(now time.Time) []status.Transfer {
	out := []status.Transfer{}
	for _, t := range f.transfers {
		if t.done >= t.total {
			continue
		}
		s := status.Transfer{What: t.what, Done: t.done, Total: t.total, Donors: len(t.donors)}
		if took := now.Sub(t.began).Seconds(); t.done > 0 && took > 0 {
			rate := float64(t.done) / took
			left := float64(t.total-t.done) / rate
			s.Rate, s.SecondsLeft = &rate, &left
		}
		out = append(out, s)
	}
	return out
}
