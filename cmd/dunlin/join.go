package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/folder"
	"dunlin/invite"
	"dunlin/machine"
	"dunlin/peer/contact"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/wire"
)

func newJoin(t *terminal) *cobra.Command {
	return t.command("join INVITE", "join a run and train for it on this machine",
		"  dunlin join dunlin1:…\n  dunlin join dunlin1:… --up 8mbit --schedule \"22:00-07:00\" --pause-when-busy\n  dunlin join dunlin1:… --precision bf16 --threads 2 --duty 0.5 --memory 2GB --data-dir /mnt/big/dunlin",
		exactly("the invite"), t.join, t.settings.config.joining()...)
}

// joining lists what a volunteer chooses.
func (c *Config) joining() []option {
	options := append(c.compute(), c.network()...)
	options = append(options, c.precision(), c.page(), c.seed(), c.control(), short(&c.Name, "name", 64, "of this machine, for the others in the run"))
	for _, o := range c.limits() {
		if !slices.Contains(keys(options), o.key) {
			options = append(options, o)
		}
	}
	return options
}

func (t *terminal) join(ctx context.Context, c *Config, args []string) (err error) {
	token, err := invite.Parse(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := c.controlled(ctx, os.Stdin, func(string) {})
	defer cancel()
	home, lock, err := c.folder("worker")
	if err != nil {
		return err
	}
	defer closing(&err, lock.Unlock)
	values, err := c.loadLimits(home.Dir, t.settings)
	if err != nil {
		return err
	}
	line := t.progress(c)
	defer line.close()
	log := c.logBeside(line)
	key, err := swarm.LoadOrCreateKey(home.Identity())
	if err != nil {
		return err
	}
	s := &stay{folder: home, key: key, token: token, log: log, self: wire.PeerIDOf(key).String()}
	if s.signed, err = c.fetchSpec(ctx, home, key, token, log); err != nil {
		return err
	}
	if _, s.spec, err = home.Load(token.Run); err != nil {
		return err
	}
	v := &volunteer{c: c, values: values, stay: s, line: line, log: log, gate: c.loadGate(home.Dir), asks: make(chan ask), events: make(chan any, 16)}
	if v.page, err = status.New(status.Config{Listen: c.Listen, Logger: log, Change: v.change, Entry: s.entries.read}); err != nil {
		return err
	}
	defer closing(&err, v.page.Close)
	withdraw, err := home.Announce(v.page.URL())
	if err != nil {
		return err
	}
	defer closing(&err, withdraw)
	access := "public"
	if len(token.Secret) > 0 {
		access = "private"
	}
	line.say(fmt.Sprintf("dunlin joins   run %s %q (%s), %s", token.Run.Short(), s.spec.Name, access, recipe.Describe(s.spec)), "joins", slog.String("run", token.Run.String()))
	if err := s.measure(ctx, c, line); err != nil {
		return err
	}
	will := fmt.Sprintf("it will        train on the %s, micro-batch %d", s.place, s.spec.Data.Batch)
	attrs := []slog.Attr{slog.String("page", v.page.URL()), slog.String("limits", c.promise())}
	if expects := c.expects(s.spec, *s.estimate); expects != nil {
		will += " · " + expects.String()
		attrs = append(attrs, slog.Float64("sent_per_day_bytes", expects.Sends), slog.Float64("received_per_day_bytes", expects.Receives))
	}
	if promise := c.promise(); promise != "" {
		will += " · " + promise
	}
	line.say(will+" · web page "+v.page.URL(), "will", attrs...)
	if !c.Loopback {
		asking, stop := context.WithCancel(ctx)
		var clock sync.WaitGroup
		clock.Go(func() { v.checkClock(asking, machine.TimeServers()) })
		defer clock.Wait()
		defer stop()
	}
	return v.run(ctx)
}

// measure times the link and each device for a moment and says what they are.
func (s *stay) measure(ctx context.Context, c *Config, line *progress) (err error) {
	if s.spec.Staged() && c.Device == deviceAllCards {
		return fmt.Errorf("device %s: this run is in stages, of which a peer serves one on one card; join once for each card, with --device cuda:N and a --data-dir of its own", c.Device)
	}
	devices, err := c.devices(line)
	if err != nil {
		return err
	}
	for _, d := range devices {
		defer closing(&err, d.Close)
	}
	linked, attrs := s.measureLink(ctx, c)
	all := 0.0
	for i, d := range devices {
		if i > 0 {
			linked, attrs = "", nil
		}
		if s.spec.Staged() { // a stage's speed is told by the trainers that use it
			line.machine(d, linked, attrs...)
			continue
		}
		speed, exact, err := engine.EstimateSpeed(ctx, s.spec, d.on)
		if err != nil {
			return err
		}
		about := ""
		if !exact {
			about = "about "
		}
		line.machine(d, fmt.Sprintf(" · %s%s tokens/s", about, rate(speed))+linked, append(attrs, slog.Float64("tokens_per_second", speed))...)
		all += speed
	}
	_, end, untold := watch(devices...)
	if err := errors.Join(c.unkept(untold), end()); err != nil {
		return err
	}
	if untold != nil {
		s.log.Info("the GPU's temperature and power are not known", "reason", untold)
	}
	if s.place = "CPU"; devices[0].card != nil {
		s.place = "GPU"
	}
	s.device, s.estimate = namesOf(devices), &all
	s.told = s.device
	return nil
}

// after says how long merges take in the worker's own steps.
func after(steps uint64) string {
	if steps == 0 {
		return ""
	}
	return " after " + grouped(steps) + " steps"
}

// reach is how others come to a worker.
func (c *Config) reach(token *invite.Token) swarm.Reach {
	r := swarm.Reach{NAT: c.NAT}
	if token.Relay && c.NAT {
		for _, k := range token.Coordinators() {
			r.Relays = append(r.Relays, swarm.WithPeer(k.Addrs, k.Peer)...)
		}
	}
	return r
}

// workerLine is the one line that says what a worker does now.
func workerLine(s *status.Snapshot) (string, []slog.Attr) {
	var own status.Peer
	for _, p := range s.Peers {
		if p.You && p.Alive {
			own = p
		}
	}
	state := fmt.Sprintf("%-14s ", s.Run.Phase)
	if len(s.Transfers) > 0 {
		return transferLine(state, &s.Transfers[0])
	}
	if own.Step == 0 {
		return state + s.Run.Reason, []slog.Attr{slog.String("state", s.Run.Phase), slog.String("reason", s.Run.Reason)}
	}
	seconds, speed := max(1, float64(own.Clock)/1000), "–" // until it is known
	if own.TokensPerSecond > 0 {
		speed = rate(own.TokensPerSecond)
	}
	return fmt.Sprintf("%sstep %s · loss %.3f · %s tokens/s · merged %d rounds%s · up %s · state %s at height %d", state, grouped(own.Step), own.Loss,
			speed, own.OuterSteps*uint64(s.Run.Fragments), after(own.Overlap), bitRate(float64(own.Sent)*8/seconds), own.StateHash.Short(), s.Run.Height),
		[]slog.Attr{
			slog.String("state", s.Run.Phase), slog.Uint64("step", own.Step), slog.Float64("loss", own.Loss),
			slog.Float64("tokens_per_second", own.TokensPerSecond), slog.Uint64("height", s.Run.Height),
		}
}

// transferLine says how a download gets on.
func transferLine(state string, t *status.Transfer) (string, []slog.Attr) {
	share := float64(t.Done) / float64(t.Total)
	line := fmt.Sprintf("%s%s %s of %s", state, t.What, status.Bytes(float64(t.Done)), status.Bytes(float64(t.Total)))
	if t.Donors > 0 {
		line += fmt.Sprintf(" from %d donors", t.Donors)
	}
	line += " " + bar(share)
	attrs := []slog.Attr{slog.String("state", "syncing"), slog.String("what", t.What), slog.Uint64("done_bytes", t.Done), slog.Uint64("total_bytes", t.Total)}
	if t.Rate != nil {
		line += " · " + bitRate(*t.Rate*8) + " · " + status.Duration(*t.SecondsLeft) + " left"
		attrs = append(attrs, slog.Float64("bytes_per_second", *t.Rate))
	}
	return line, attrs
}

// fetchSpec reads the run's spec from the data folder or asks the coordinator for it.
func (c *Config) fetchSpec(ctx context.Context, home folder.Folder, key ed25519.PrivateKey, token *invite.Token, log *slog.Logger) (_ *wire.SignedSpec, err error) {
	signed, _, err := home.Load(token.Run)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return signed, err
	}
	host, err := c.host(ctx, key, token.Run, contact.Deaf{}, log, swarm.Reach{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, host.Close)
	if signed, err = contact.FetchSpec(ctx, transport{host}, token.Coordinators(), token.Run); err != nil {
		return nil, err
	}
	return signed, home.Save(token.Run, signed, token.Secret)
}
