package peer

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dunlin/compress"
	"dunlin/folder"
	"dunlin/ledger"
	"dunlin/peer/contact"
	"dunlin/peer/core"
	"dunlin/peer/figures"
	"dunlin/peer/keeper"
	"dunlin/peer/reign"
	"dunlin/peer/slabs"
	"dunlin/peer/stage"
	"dunlin/recipe"
	"dunlin/replica"
	"dunlin/store"
	"dunlin/training"
	"dunlin/wire"
)

// open makes or opens what a peer has on disk, and who works with it.
func (p *Peer) open() error {
	var err error
	if p.configs, err = recipe.Contributions(p.spec); err != nil {
		return err
	}
	if p.cfg.NewEngine == nil {
		p.cfg.Stage = wire.AllStages
	}
	if p.cfg.Stage >= p.spec.StageCount() {
		return fmt.Errorf("stage %d of a run with %d", p.cfg.Stage, p.spec.StageCount())
	}
	if p.replica, err = replica.NewStage(p.spec, p.cfg.Stage, p.cfg.Momentum); err != nil {
		return err
	}
	if p.spec.Staged() && p.cfg.NewEngine != nil {
		if p.pipe, err = stage.New(p.spec, p.self, p.cfg.Stage, p.cfg.Seed, p.inbox.Put); err != nil {
			return err
		}
	}
	if err := p.openStore(); err != nil {
		return err
	}
	var state0 []wire.Hash
	for _, h := range p.replica.Heads() {
		state0 = append(state0, h.State)
	}
	rules := ledger.RulesOf(p.spec, state0)
	if err := p.openLedger(rules); err != nil {
		return err
	}
	p.book = folder.OpenBook(filepath.Join(p.cfg.Dir, "peers"))
	if p.reign, err = p.newReign(rules); err != nil {
		return err
	}
	if p.core, err = p.newCore(); err != nil {
		return err
	}
	for id, addrs := range p.cfg.Coordinators {
		if id != p.self {
			p.addrs[id] = addrs
		}
	}
	owner, err := recipe.Owner(p.spec, p.self)
	if err != nil {
		return err
	}
	p.keeper = keeper.New(p.replica, p.cfg.Stage, p.cfg.Momentum, p.store, p.inbox.Put)
	p.fetcher = contact.NewFetcher()
	p.codecs = slabs.NewCodecs(p.configs, owner, p.store, p.inbox.Put)
	if p.retention, err = folder.OpenRetention(p.cfg.Dir, p.store); err != nil {
		return err
	}
	for _, at := range p.retention.Lost {
		p.log.Warn("a saved state is damaged and was let go: an older one, or other peers, have what is needed; look after this disk", "height", at)
	}
	p.figures = figures.New(figures.Subject{
		Self: p.self, Run: p.cfg.Run, Spec: p.spec, Name: p.cfg.Name, Version: p.cfg.Version, Works: p.cfg.NewEngine != nil,
	}, time.Now())
	p.thanks = figures.OpenThanks(p.cfg.Dir)
	p.governor, p.paced = training.NewGovernor(p.cfg.Limits, p.cfg.Duty), p.cfg.Duty
	return nil
}

// openLedger opens the ledger, which takes a coordinator's own entries too.

// openStore makes the data folder and opens its store, which keeps the run's data as long as the run.
func (p *Peer) openStore() error {
	if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("open data folder: %w", err)
	}
	opened, err := store.Open(filepath.Join(p.cfg.Dir, "store"), p.cfg.Quota)
	if err != nil {
		return err
	}
	p.store = disk{opened, p.inbox.Put}
	p.closers = append(p.closers, p.lastSync)
	for _, s := range p.spec.Data.Shards() {
		p.store.Pin("data", s.Hash)
	}
	return nil
}

// newCore makes the machines that decide, with the replica's state and the sizes of slabs.
func (p *Peer) newCore() (*core.Core, error) {
	cfg := core.Config{
		Self: p.self, Coordinator: p.reign.Lead(), Run: p.cfg.Run, Spec: p.spec, State: p.replica.Heads(),
		Works: p.cfg.NewEngine != nil, Stage: p.cfg.Stage, Seed: p.cfg.Seed, Rebalance: p.cfg.Rebalance, Coordinates: p.reign.Coordinates(p.self),
	}
	result, err := compress.ByName(p.spec.Result)
	if err != nil {
		return nil, err
	}
	for _, c := range p.configs {
		from, to := c.Layout.SlabValues(0)
		cfg.Slabs = append(cfg.Slabs, c.Layout.Slabs())
		cfg.SlabBytes = append(cfg.SlabBytes, uint64(result.EncodedSlabBytes(to-from)))
	}
	return core.New(cfg)
}

// openLedger opens the ledger, which a coordinator signs, and reads what settings are in force.
func (p *Peer) openLedger(rules ledger.Rules) error {
	var key ed25519.PrivateKey
	if slices.Contains(p.spec.Coordinators, p.self) {
		key = p.cfg.Key
	}
	var err error
	if p.ledger, err = ledger.Open(filepath.Join(p.cfg.Dir, folder.LedgerFile), rules, key); err != nil {
		return err
	}
	p.closers = append(p.closers, p.ledger.Close)
	p.ledger.View(func(c *ledger.Chain) {
		if s, id := c.Settings(); !id.IsZero() {
			p.inForce.Store(&s)
		}
	})
	return nil
}

// newReign has the peer follow the run's coordinators, and, where it is one, lead or agree with the others.
func (p *Peer) newReign(rules ledger.Rules) (*reign.Reign, error) {
	return reign.New(reign.Config{
		Self: p.self, Key: p.cfg.Key, Spec: p.spec, Ledger: p.ledger, Rules: rules, Store: p.store, Book: p.book, Known: p.cfg.Coordinators,
		Peers: p.peers, Holder: func(slot wire.Slot) wire.PeerID { return p.figures.Slots[slot] }, Agree: p.cfg.Agree, Log: p.log,
		Driver: reign.Driver{Next: p.next, Send: p.send, Logged: p.logged, Note: p.note, Fail: p.fail, Bring: p.bring, Report: p.inbox.Put, Spawn: p.wg.Go},
	})
}
