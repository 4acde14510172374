package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"dunlin/invite"
	"dunlin/peer"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/wire"
)

func newJoin(t *terminal) *cobra.Command {
	c := &t.settings.config
	options := append(c.compute(), c.network()...)
	options = append(options, c.precision(), c.duty(), c.memory(), c.page(), c.seed(), c.control(), short(&c.Name, "name", 64, "of this machine, for the others in the run"))
	return t.command("join INVITE", "join a run and train for it on this machine",
		"  dunlin join dunlin1:…\n  dunlin join dunlin1:… --precision bf16 --threads 2 --duty 0.5 --memory 2GB --data-dir /mnt/big/dunlin\n  dunlin join dunlin1:… --up 2mbit --down 20mbit",
		exactly("the invite"), t.join, options...)
}

func (t *terminal) join(ctx context.Context, c *Config, args []string) (err error) {
	token, err := invite.Parse(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := c.controlled(ctx, os.Stdin, func(string) {})
	defer cancel()
	folder, lock, err := c.folder("worker")
	if err != nil {
		return err
	}
	defer closing(&err, lock.Unlock)
	log := t.logger(c)
	key, err := swarm.LoadOrCreateKey(folder.Identity())
	if err != nil {
		return err
	}
	signed, err := c.fetchSpec(ctx, folder, key, token, log)
	if err != nil {
		return err
	}
	device, err := c.device()
	if err != nil {
		return err
	}
	defer closing(&err, device.Close)
	page, err := status.New(status.Config{Listen: c.Listen, Logger: log})
	if err != nil {
		return err
	}
	defer closing(&err, page.Close)
	withdraw, err := folder.Announce(page.URL())
	if err != nil {
		return err
	}
	defer closing(&err, withdraw)
	line := t.progress(c)
	defer line.close()
	show := func(s *status.Snapshot) {
		page.Publish(s)
		line.state(workerLine(s))
	}
	p, err := peer.New(peer.Config{
		Key: key, Signed: signed, Run: token.Run, Dir: folder.Run(token.Run), Quota: c.quota(), Upload: uint64(c.Up / 8), Name: c.Name, Version: release,
		Secret: token.Secret, Seed: c.Seed, Logger: log, Publish: show, Coordinator: token.Addrs, Duty: peer.Duty(c.Duty),
		NewEngine: func(spec *wire.RunSpec, tokens []byte, joiner bool) (peer.Engine, error) {
			plan, err := c.fitWorker(spec, device)
			if err != nil {
				return nil, err
			}
			line.planned(plan)
			return peer.NewLocalEngine(spec, device, tokens, joiner, folder.Moments(token.Run), plan.Room)
		},
	})
	if err != nil {
		return err
	}
	host, err := c.host(ctx, key, token.Run, p, log, c.reach(token))
	if err != nil {
		return err
	}
	defer closing(&err, host.Close)
	_, spec, err := folder.Load(token.Run)
	if err != nil {
		return err
	}
	line.say(fmt.Sprintf("dunlin joins run %s %q", token.Run.Short(), spec.Name), "joins", slog.String("run", token.Run.String()))
	line.machine(device, "")
	line.say(fmt.Sprintf("it will        train %s on the CPU · web page %s", peer.Describe(spec), page.URL()), "will", slog.String("page", page.URL()))
	err = p.Run(ctx, transport{host})
	if refused := (*peer.RefusedError)(nil); errors.As(err, &refused) && refused.Code == wire.RefuseEnded {
		line.say("nothing to do  "+refused.Reason, "nothing to do", slog.String("reason", refused.Reason))
		return nil
	}
	return err
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
		r.Relays = swarm.WithPeer(token.Addrs, token.Coordinator)
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
	if own.Step == 0 {
		return state + s.Run.Reason, []slog.Attr{slog.String("state", s.Run.Phase), slog.String("reason", s.Run.Reason)}
	}
	seconds := max(1, float64(own.Clock)/1000)
	return fmt.Sprintf("%sstep %s · loss %.3f · %s tokens/s · merged %d rounds%s · up %s kbit/s · state %s at height %d", state, grouped(own.Step), own.Loss,
			rate(own.TokensPerSecond), own.OuterSteps*uint64(s.Run.Fragments), after(own.Overlap), rate(float64(own.Sent)*8/1000/seconds), own.StateHash.Short(), s.Run.Height),
		[]slog.Attr{
			slog.String("state", s.Run.Phase), slog.Uint64("step", own.Step), slog.Float64("loss", own.Loss),
			slog.Float64("tokens_per_second", own.TokensPerSecond), slog.Uint64("height", s.Run.Height),
		}
}

// fetchSpec reads the run's spec from the data folder or asks the coordinator for it.
func (c *Config) fetchSpec(ctx context.Context, folder peer.Folder, key ed25519.PrivateKey, token *invite.Token, log *slog.Logger) (_ *wire.SignedSpec, err error) {
	signed, _, err := folder.Load(token.Run)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return signed, err
	}
	host, err := c.host(ctx, key, token.Run, peer.Deaf{}, log, swarm.Reach{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, host.Close)
	if signed, err = peer.FetchSpec(ctx, transport{host}, token.Coordinator, token.Addrs, token.Run); err != nil {
		return nil, err
	}
	return signed, folder.Save(token.Run, signed, token.Secret)
}
