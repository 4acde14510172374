package reign

import (
	"errors"
	"fmt"
	"time"

	"dunlin/catchup"
	"dunlin/ledger"
	"dunlin/peer/core"
	"dunlin/wire"
)

// Append writes an entry as the coordinator, alone or as the others agree, and
// spreads it. That it could not be written is fed back; what several make of it
// the ledger alone will tell.
func (r *Reign) Append(e core.Append) {
	entry, err := r.write(e)
	if err != nil {
		if errors.Is(err, ledger.ErrBroken) {
			r.driver.Fail(err)
		}
		r.driver.Next(core.AppendFailed{Body: e.Body, Reason: err.Error()})
		return
	}
	if entry == nil {
		return
	}
	r.spread(time.Now(), entry, e.Table)
	if err := r.driver.Logged(entry, e.Table); err != nil {
		r.driver.Fail(err)
	}
}

// write returns the entry, durable and certified, or nil when the others have to
// agree first.
func (r *Reign) write(e core.Append) (*wire.Certified, error) {
	if e.Table != nil {
		if _, err := r.cfg.Store.PutDurable(e.Table); err != nil {
			return nil, err
		}
	}
	if c := r.council; c != nil {
		return nil, c.propose(&wire.Command{Op: wire.OpAppend, Term: c.term, Kind: e.Body.Kind(), Payload: wire.Encode(e.Body), Table: e.Table})
	}
	return r.cfg.Ledger.Propose(e.Body)
}

// stands puts an entry that a majority signed on the own ledger; the leader
// spreads it.
func (r *Reign) stands(item *wire.Item) {
	table := r.tableOf(item)
	appended, err := r.cfg.Ledger.Append(item.Certified)
	if err != nil {
		if !r.fatal(err) {
			r.driver.Fail(fmt.Errorf("an entry that the coordinators signed does not fit this ledger: %w", err))
		}
		return
	}
	if appended == 0 { // another peer has sent it already
		return
	}
	if r.council.leads {
		r.spread(time.Now(), &item.Certified, table)
	}
	if err := r.driver.Logged(&item.Certified, table); err != nil {
		r.driver.Fail(err)
	}
}

// entries takes in what another peer sent; a gap is closed by asking for what is missing.
func (r *Reign) entries(from wire.PeerID, m *wire.Entries) {
	sound := r.appendNew(from, m)
	r.stood() // those before one that is refused as well
	if sound && m.Head > r.cfg.Ledger.Height() {
		r.driver.Next(catchup.HeadHint{Peer: from, Height: m.Head})
	}
}

// appendNew appends what is new, up to a gap, and reports whether none of it was refused.
func (r *Reign) appendNew(from wire.PeerID, m *wire.Entries) bool {
	for i := range m.Items {
		item := &m.Items[i]
		height := r.cfg.Ledger.Height()
		if item.Certified.Entry.Height <= height {
			continue
		}
		if item.Certified.Entry.Height > height+1 {
			break
		}
		if _, err := r.cfg.Ledger.Append(item.Certified); err != nil {
			if !r.fatal(err) {
				r.driver.Note(fmt.Sprintf("entry from %s refused: %v", from.Short(), err))
			}
			return false
		}
		if err := r.driver.Logged(&item.Certified, r.tableOf(item)); err != nil {
			r.driver.Fail(err)
			return false
		}
	}
	return true
}

// fatal ends a peer whose ledger, by an error of it, goes on no more; false where it does.
func (r *Reign) fatal(err error) bool {
	switch {
	case errors.Is(err, ledger.ErrBroken):
		r.driver.Fail(err)
	case errors.Is(err, ledger.ErrFork):
		r.driver.Fail(fmt.Errorf("the run is stopped: %w", err))
	default:
		return false
	}
	return true
}

// give answers who asks for entries.
func (r *Reign) give(to wire.PeerID, m *wire.GetEntries) {
	entries, err := r.cfg.Ledger.Range(m.From, int(m.Max))
	if err != nil {
		r.driver.Note("entries not given: " + err.Error())
		return
	}
	r.tell(to, &wire.Entries{Head: r.cfg.Ledger.Height(), Items: r.withTables(entries)})
}

// tableOf returns the table that came with an entry when it is the one named.
func (r *Reign) tableOf(item *wire.Item) []byte {
	body, err := item.Certified.Entry.Body()
	if err != nil || len(item.Table) == 0 {
		return nil
	}
	if _, want := tableNamed(body); wire.HashLeaf(item.Table) != want {
		return nil
	}
	if _, err := r.cfg.Store.Put(item.Table); err != nil {
		r.driver.Note("table not stored: " + err.Error())
	}
	return item.Table
}

// tableNamed returns the fragment that an entry is about and the table that it names, none for most entries.
func tableNamed(body wire.Body) (fragment uint64, table wire.Hash) {
	switch b := body.(type) {
	case *wire.Attempt:
		return b.Fragment, b.Table
	case *wire.Commit:
		return b.Fragment, b.Table
	case *wire.Member, *wire.Lease, *wire.Settings, *wire.Checkpoint:
	}
	return 0, wire.Hash{}
}

// maxTables bounds the tables given along with entries, which take up to half a
// message themselves.
const maxTables = wire.MaxMessage / 4

// withTables gives the tables that are here along, newest first: a peer that
// comes back can take part in the attempts that are open, and a coordinator
// that lost entries learns again which windows they consumed.
func (r *Reign) withTables(entries []wire.Certified) []wire.Item {
	items := make([]wire.Item, len(entries))
	room, decided := maxTables, map[uint64]bool{}
	for i := len(items) - 1; i >= 0; i-- {
		items[i].Certified = entries[i]
		body, err := entries[i].Entry.Body()
		if err != nil || room <= 0 {
			continue
		}
		fragment, table := tableNamed(body)
		attempt := body.Kind() == wire.KindAttempt
		if table.IsZero() || attempt && decided[fragment] {
			continue
		}
		decided[fragment] = true
		if b, err := r.cfg.Store.Get(table, room); err == nil {
			items[i].Table = b
			room -= len(b)
		}
	}
	return items
}
