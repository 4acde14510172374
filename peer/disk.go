package peer

import (
	"errors"
	"fmt"

	"dunlin/coordinator"
	"dunlin/ledger"
	"dunlin/store"
)

// disk is the peer's store with an eye on it. A peer whose folder takes no more
// cannot keep what it promises (R8): it ends and says so, instead of failing
// one round after the other.
type disk struct {
	store.Store
	report func(any)
}

// diskFailed ends the peer.
type diskFailed struct{ err error }

// Put implements store.Store.
func (d disk) Put(data []byte) (store.Hash, error) {
	h, err := d.Store.Put(data)
	return h, d.watch(err)
}

// PutDurable implements store.Store.
func (d disk) PutDurable(data []byte) (store.Hash, error) {
	h, err := d.Store.PutDurable(data)
	return h, d.watch(err)
}

// Sync implements store.Store.
func (d disk) Sync() error { return d.watch(d.Store.Sync()) }

func (d disk) watch(err error) error {
	if err != nil && !errors.Is(err, store.ErrTooLarge) {
		d.report(diskFailed{err})
	}
	return err
}

func (p *Peer) diskFailed(err error) {
	if p.diskGone { // what follows the first fault says no more
		return
	}
	p.diskGone = true
	failure := fmt.Errorf("data folder %s: %w; nothing committed is lost: once it can be written, the same command goes on", p.cfg.Dir, err)
	if p.slot == 0 {
		p.failure = failure
		return
	}
	p.parting = failure // rounds need not wait for its silence
	p.next(coordinator.Drained{Reason: "its disk takes no more", AtOnce: true})
}

// lastSync makes durable what was put lately and is in memory.
func (p *Peer) lastSync() error {
	if err := p.store.Sync(); !p.diskGone {
		return err
	}
	return nil // it was told
}

// fail ends the peer with an error.
func (p *Peer) fail(err error) {
	switch {
	case errors.Is(err, ledger.ErrBroken):
		p.diskFailed(err)
	case p.failure == nil && p.parting == nil:
		p.failure = err
	}
}

// collect lets go of what only states below a height need.
func (p *Peer) collect(below uint64) {
	p.retention.LetGo(p.store, below)
	if _, err := p.store.Collect(); err != nil {
		p.note("collecting old bytes: " + err.Error())
	}
}
