package figures

import (
	"time"

	"dunlin/catchup"
	"dunlin/status"
	"dunlin/wire"
)

// What a joiner fetches before it trains.
const (
	TransferData  = "data"
	TransferState = "state" // shown as what it comes from: a checkpoint, or rounds alone
)

// transfer counts bytes that come in before training can begin.
type transfer struct {
	what        string
	done, total uint64
	donors      map[wire.PeerID]bool
	began       time.Time
}

// Reports of transfers.
type (
	// TransferBegun says how much there is to fetch, in bytes; of the state, the catch-up knows.
	TransferBegun struct {
		What  string
		Total uint64
	}
	// TransferMoved says that so many bytes came from a peer.
	TransferMoved struct {
		What  string
		From  wire.PeerID
		Bytes int
	}
)

// Transferring takes in a report.
func (f *Figures) Transferring(ev any) {
	find := func(what string) *transfer {
		for _, t := range f.transfers {
			if t.what == what {
				return t
			}
		}
		return nil
	}
	switch ev := ev.(type) {
	case TransferBegun:
		if t := find(ev.What); t == nil {
			f.transfers = append(f.transfers, &transfer{what: ev.What, total: ev.Total, donors: map[wire.PeerID]bool{}, began: time.Now()})
		}
	case TransferMoved:
		if t := find(ev.What); t != nil {
			t.done += uint64(ev.Bytes)
			t.donors[ev.From] = true
		}
	}
}

// transferStatus lists what is still under way.
func (f *Figures) transferStatus(now time.Time, state catchup.Snapshot) []status.Transfer {
	out := []status.Transfer{}
	for _, t := range f.transfers {
		what, total := t.what, t.total
		if what == TransferState {
			if what, total = "rounds", t.done+state.Left; state.Loading > 0 {
				what = "checkpoint"
			}
		}
		if t.done >= total { // a retry may come twice
			continue
		}
		s := status.Transfer{What: what, Done: t.done, Total: total, Donors: len(t.donors)}
		if took := now.Sub(t.began).Seconds(); t.done > 0 && took > 0 {
			rate := float64(t.done) / took
			left := float64(total-t.done) / rate
			s.Rate, s.SecondsLeft = &rate, &left
		}
		out = append(out, s)
	}
	return out
}
