package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/data"
	"dunlin/folder"
	"dunlin/invite"
	"dunlin/peer"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/store"
	"dunlin/swarm"
	"dunlin/wire"
)

func newCoordinator(t *terminal) *cobra.Command {
	c := &t.settings.config
	lasting := append(c.run(), c.network()...)
	lasting = append(lasting, c.page(), c.pageToken(), c.seed(), c.relay(), c.coordinators())
	lasting = append(lasting, c.spread()...)
	options := append(lasting[:len(lasting):len(lasting)], c.control(), yes(&c.Init, initKey, "write RUN.yaml (run.yaml) with every setting explained, and stop"))
	t.runSettings = lasting
	cmd := t.command("coordinator [RUN.yaml]", "create a run and coordinate it, or resume the one in the data folder",
		"  dunlin coordinator --init && dunlin coordinator run.yaml\n  dunlin coordinator --name \"Go tutor\" --preset nano --tokens 100000000\n  dunlin coordinator --data book.txt --private --listen 127.0.0.1:7310\n  dunlin coordinator run.yaml --port 4001 --relay\n  dunlin coordinator --coordinators 3 --port 4001",
		t.runFile, t.coordinator, options...)
	cmd.AddCommand(newDesk(t)...)
	return cmd
}

// runFile takes the one optional argument, a file of settings, as --config.
func (t *terminal) runFile(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%s: %q is one argument too many; usage: %s", cmd.CommandPath(), args[1], cmd.UseLine())
	}
	if len(args) == 1 && cmd.Flags().Lookup(initKey).Value.String() == "true" {
		return nil // it is to be written
	}
	if len(args) == 1 && t.settings.file != "" {
		return fmt.Errorf("%s: settings come from %s or from %s, not from both", cmd.CommandPath(), args[0], t.settings.file)
	}
	if len(args) == 1 {
		t.settings.file = args[0]
	}
	return nil
}

// coordinatorGC is by how many percent a coordinator's heap grows until garbage is collected, unless GOGC says otherwise: less
// than Go's 100, since most of it are connections of as many peers as there are, and little becomes garbage.
const coordinatorGC = 60

func (t *terminal) coordinator(ctx context.Context, c *Config, args []string) (err error) {
	if c.Init {
		return t.initRun(args)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(coordinatorGC)
	}
	home, lock, err := c.folder("coordinator")
	if err != nil {
		return err
	}
	defer closing(&err, lock.Unlock)
	line := t.progress(c)
	defer line.close()
	log, told := c.logTo(line, slog.LevelInfo), &herald{line: line, export: c.Export}
	key, err := swarm.LoadOrCreateKey(home.Identity())
	if err != nil {
		return err
	}
	run, signed, err := c.openRun(home, key, log)
	if err != nil {
		return err
	}
	spec, err := signed.Open(run)
	if err != nil {
		return err
	}
	self := wire.PeerIDOf(key)
	if err := checkSeat(spec, self); err != nil {
		return err
	}
	judge, endJudge, err := c.judge()
	if err != nil {
		return err
	}
	defer closing(&err, endJudge)
	var ledger entries
	page, err := status.New(status.Config{Listen: c.Listen, Token: c.PageToken, Logger: log, Entry: ledger.read})
	if err != nil {
		return err
	}
	defer closing(&err, page.Close)
	withdraw, err := home.Announce(page.URL())
	if err != nil {
		return err
	}
	defer closing(&err, withdraw)
	d := &desk{folder: home, run: run, spec: spec, page: page.URL(), secretive: c.PageToken != ""}
	if d.invites, err = home.Invites(run); err != nil {
		return err
	}
	var host *swarm.Host
	var inRun atomic.Pointer[[]string] // ids of workers, as last published
	inRun.Store(&[]string{})
	d.workers = func() []string { return *inRun.Load() }
	others := &neighbours{ids: spec.Coordinators, self: self, known: home.Known(run)}
	room, err := c.momentum(home.Run(run))
	if err != nil {
		return err
	}
	p, err := peer.New(peer.Config{
		Key: key, Signed: signed, Run: run, Dir: home.Run(run), Quota: c.quota(), Version: release, Export: c.Export, Logger: log, Seed: c.Seed, Momentum: room,
		Rebalance: seconds(c.Rebalance), Judge: judge, HeldOutWindows: c.Windows, Coordinators: whereabouts(others.known),
		Agree: agree(spec, self, home.Run(run), func() *swarm.Host { return host }, log),
		Publish: func(s *status.Snapshot) {
			inRun.Store(idsOf(s.Peers))
			d.complete(s, host, others, log)
			told.show(s)
			page.Publish(s)
		},
	})
	if err != nil {
		return err
	}
	defer closing(&err, p.Close)
	ledger.of.Store(p)
	host, err = c.hub(ctx, home, key, run, p, log, swarm.Reach{NAT: c.NAT, Relay: c.Relay})
	if err != nil {
		return err
	}
	defer closing(&err, host.Close)
	d.tell, d.inForce, d.ledger = p.Tell, p.Settings, p.CopyLedger
	addrs := bare(host.Addrs())
	seats, err := introduce(home, run, self, addrs)
	if err != nil {
		return err
	}
	d.token = invite.Token{Run: run, Name: spec.Name, Coordinator: self, Addrs: first(addrs, invite.MaxAddrs), Relay: c.Relay}
	d.others = others.list
	d.show()
	return t.lead(ctx, c, d, p, host, seats, log)
}

// judge opens the device that measures held-out losses, nil where nobody is to measure them; end closes it.
func (c *Config) judge() (_ compute.Device, end func() error, err error) {
	if !c.Measure {
		return nil, func() error { return nil }, nil
	}
	device, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		return nil, nil, err
	}
	return device, device.Close, nil
}

// complete adds to a snapshot what the peer does not know: the newest invite, for others may reach this machine or its neighbours
// elsewhere by now, and the ways to all.
func (d *desk) complete(s *status.Snapshot, host *swarm.Host, others *neighbours, log *slog.Logger) {
	moved := d.moved(host.Addrs())
	if moved {
		log.Info("others reach this machine elsewhere now: hand out the newest invite, which dunlin coordinator invite shows", "addresses", host.Addrs())
	}
	d.refresh(others.news(host) || moved)
	if token := d.shown.Load(); token != nil {
		s.Invite = *token
	}
	showWays(s, host)
	if d.discreet.Load() {
		s.Run.ID = wire.Hash{}
	}
}

// lead says where the run is joined, and coordinates it, taking orders, until it or the context ends.
func (t *terminal) lead(ctx context.Context, c *Config, d *desk, p *peer.Peer, host *swarm.Host, seats []string, log *slog.Logger) error {
	if err := t.where(c, d.run, d.current(), d.page, seats); err != nil {
		return err
	}
	if !c.Loopback && onlyNear(host.Addrs()) {
		log.Info("the invite leads here from this network only, unless a router opens a port when it is asked, which takes some seconds; if one forwards ports by hand, say with --address where that is")
	}
	ctx, cancel := c.controlled(ctx, os.Stdin, func(order string) { organise(p, log, order) })
	var orders sync.WaitGroup
	defer orders.Wait()
	defer cancel()
	orders.Go(func() { takeOrders(ctx, d.folder, log, d.obey) })
	return p.Run(ctx, transport{host})
}

// idsOf lists the workers that are in the run.
func idsOf(peers []status.Peer) *[]string {
	ids := []string{}
	for _, p := range peers {
		if p.Alive {
			ids = append(ids, p.ID)
		}
	}
	return &ids
}

// where says how the run is joined and watched.
func (t *terminal) where(c *Config, run wire.Hash, token, page string, seats []string) error {
	if c.JSON {
		out := map[string]any{"run": run.String(), "invite": token, "page": page}
		if len(seats) > 0 {
			out["seats"] = seats
		}
		return json.NewEncoder(t.out).Encode(out)
	}
	text := fmt.Sprintf("invite  %s\npage    %s\n", token, page)
	for _, dir := range seats {
		text += fmt.Sprintf("seat    %s\n", dir)
	}
	if len(seats) > 0 {
		text += "        Move each seat, a data folder, to a machine of its own and run there: dunlin coordinator --data-dir SEAT\n" +
			"        It holds that coordinator's private key: let nobody else read it, and leave no copy behind. The run commits once a majority is there.\n"
	}
	_, err := fmt.Fprint(t.out, text)
	return err
}

// openRun resumes the run of the data folder or makes one from the settings.
func (c *Config) openRun(home folder.Folder, key ed25519.PrivateKey, log *slog.Logger) (wire.Hash, *wire.SignedSpec, error) {
	run, err := home.Current()
	if err == nil {
		signed, spec, err := home.Load(run)
		if err != nil {
			return run, nil, err
		}
		log.Info("resuming the run in the data folder; settings of a run are fixed, those given now are not used", "run", run.Short(), "name", spec.Name, "folder", home.Dir)
		return run, signed, nil
	}
	if !errors.Is(err, folder.ErrNoRun) {
		return run, nil, err
	}
	cfg, err := c.newRun()
	if err != nil {
		return run, nil, err
	}
	organiser, err := swarm.LoadOrCreateKey(home.Organiser())
	if err != nil {
		return run, nil, err
	}
	log.Info("the organiser's key is made; only it can change the run's coordinators: move it to a safe place", "file", home.Organiser())
	coordinators, err := c.makeSeats(home, key)
	if err != nil {
		return run, nil, err
	}
	signed, err := cfg.Spec(organiser, coordinators, func(b []byte) (store.Hash, error) { return store.HashLeaf(b), nil })
	if err != nil {
		return run, nil, err
	}
	run = wire.HashLeaf(signed.Spec)
	if err := home.PutData(run, cfg.Pack); err != nil {
		return run, nil, err
	}
	if err := c.fillSeats(home, run, signed, cfg.Secret); err != nil {
		return run, nil, err
	}
	return run, signed, home.Save(run, signed, cfg.Secret)
}

// newRun turns settings into a run.
func (c *Config) newRun() (recipe.Run, error) {
	r := recipe.DefaultRun()
	var err error
	if r.Corpus, err = data.OpenWhole(c.Data); err != nil {
		return r, err
	}
	c.vocabulary = r.Corpus.Coder().Vocab()
	if r.Model, err = c.shape(); err != nil {
		return r, err
	}
	if r.Recipe, err = c.chosen(); err != nil {
		return r, err
	}
	r.Name, r.Seed, r.Batch, r.Checkpoint, r.TokenBudget = c.Name, c.Seed, c.WorkerBatch, c.CheckpointEvery, uint64(c.Tokens)
	r.Stages, r.Activation, r.Micro, r.Synchronous = c.Stages, c.Activations, c.Micro, c.Together && c.Stages > 1
	if c.Private {
		r.Secret = folder.NewSecret()
	}
	return r, nil
}

func first(s []string, n int) []string { return s[:min(n, len(s))] }

// bare cuts the peer id, which an invite has already, off addresses.
func bare(addrs []string) []string {
	for i, a := range addrs {
		addrs[i], _, _ = strings.Cut(a, "/p2p/")
	}
	return addrs
}
