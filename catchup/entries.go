package catchup

import (
	"time"

	"dunlin/wire"
)

// ask is a request for entries that is under way.
type ask struct {
	peer  wire.PeerID
	from  uint64
	until time.Time // zero when none is under way
	tries int       // without progress
}

// hint takes in that a ledger reaches a height.
func (m *Machine) hint(peer wire.PeerID, height uint64) {
	if height <= m.logged {
		return
	}
	m.target = max(m.target, height)
	if m.ask.until.IsZero() || m.ask.from <= m.logged {
		m.ask = ask{peer: peer} // else the answer to the last one is still to come
	}
}

// askEntries asks one peer after another until the entries have come. Nobody
// delivering, the hint was wrong, or another will come.
func (m *Machine) askEntries() {
	if m.logged >= m.target {
		m.ask = ask{}
		return
	}
	if !m.ask.until.IsZero() {
		if m.now.Before(m.ask.until) {
			return
		}
		donors := m.fetcher.donors(m.cfg.Coordinator, m.cfg.Self)
		if m.ask.tries++; m.ask.tries > len(donors) {
			m.note("nobody delivers the entries above %d", m.logged)
			m.target, m.ask = m.logged, ask{}
			if m.syncing && m.syncTo > m.logged {
				m.target, m.ask = m.syncTo, ask{from: m.logged + 1, until: m.now.Add(lastRetry)} // all over again
			}
			return
		}
		m.ask.peer = donors[m.ask.tries-1]
	}
	if m.ask.peer == m.cfg.Self {
		m.target, m.ask = m.logged, ask{}
		return
	}
	m.ask.until, m.ask.from = m.now.Add(entriesWait), m.logged+1
	m.do(GetEntries{Peer: m.ask.peer, From: m.ask.from})
}

// reread closes a gap from the own ledger, which holds what was logged while
// the machine went back to a checkpoint.
func (m *Machine) reread() {
	if m.tip > m.logged && m.logged >= m.rereadTo {
		m.rereadTo = m.tip
		m.do(Reread{From: m.logged + 1})
	}
}
