package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"

	"dunlin/invite"
	"dunlin/peer"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/wire"
)

// stay is one time in a run, from joining to goodbye, and what every one of them needs.
type stay struct {
	folder peer.Folder
	key    ed25519.PrivateKey
	token  *invite.Token
	signed *wire.SignedSpec
	spec   *wire.RunSpec
	log    *slog.Logger
	self   string // peer id

	place    string   // of training: "CPU" or "GPU"
	device   string   // that trains, for people
	estimate *float64 // its tokens a second

	sent    atomic.Uint64 // bytes since it began
	entries entries
}

// entries reads the ledger for the page while there is a peer that has it open.
type entries struct{ of atomic.Pointer[peer.Peer] }

func (e *entries) read(ctx context.Context, height uint64) (*status.EntryDetail, error) {
	p := e.of.Load()
	if p == nil {
		return nil, errors.New("the ledger is closed while this machine takes no part")
	}
	return p.Entry(ctx, height)
}

// run takes part until the context or the run ends. It tells events its snapshots, and what to say, as functions.
func (s *stay) run(ctx context.Context, c *Config, events chan<- any) (err error) {
	s.sent.Store(0)
	say := func(ev any) {
		select {
		case events <- ev:
		case <-ctx.Done():
		}
	}
	devices, err := c.devices(nil)
	if err != nil {
		return err
	}
	for _, d := range devices {
		defer closing(&err, d.Close)
	}
	cards, end, untold := watch(devices...)
	defer closing(&err, end)
	if err := c.unkept(untold); err != nil { // it was set on the page
		s.log.Warn("training goes on without a limit", "error", err)
	}
	var host *swarm.Host
	show := func(snapshot *status.Snapshot) {
		s.sent.Store(host.Stats().Socket.Out)
		select {
		case events <- snapshot:
		default: // the next one is newer
		}
	}
	p, err := peer.New(peer.Config{
		Key: s.key, Signed: s.signed, Run: s.token.Run, Dir: s.folder.Run(s.token.Run), Quota: c.quota(), Upload: uint64(c.Up / 8), Name: c.Name,
		Version: release, Secret: s.token.Secret, Seed: c.Seed, Logger: s.log, Publish: show, Coordinators: whereabouts(s.token.Coordinators()), Duty: peer.Duty(c.Duty), Cards: cards, Limits: c.Cards,
		NewEngine: func(spec *wire.RunSpec, tokens []byte, joiner bool) (peer.Engine, error) {
			var engines []peer.Engine
			for i, d := range devices {
				engine, err := s.engine(c, d, spec, tokens, joiner, i, say)
				if err != nil {
					for _, e := range engines {
						err = errors.Join(err, e.Close())
					}
					return nil, err
				}
				engines = append(engines, engine)
			}
			if len(engines) == 1 {
				return engines[0], nil
			}
			return peer.NewTeam(engines...), nil
		},
	})
	if err != nil {
		return err
	}
	if host, err = c.host(ctx, s.key, s.token.Run, p, s.log, c.reach(s.token)); err != nil {
		return err
	}
	defer closing(&err, host.Close)
	s.entries.of.Store(p)
	defer s.entries.of.Store(nil)
	return p.Run(ctx, transport{host})
}

// engine makes inner steps on one device. number keeps the moments of several apart.
func (s *stay) engine(c *Config, d *device, spec *wire.RunSpec, tokens []byte, joiner bool, number int, say func(any)) (peer.Engine, error) {
	moments := s.folder.Moments(s.token.Run)
	if number > 0 {
		moments += "." + strconv.Itoa(number)
	}
	var engine *peer.LocalEngine
	err := within(c.Memory, func(limit int64) (peer.Plan, error) { return c.fitWorker(spec, d.on, limit) }, func(plan peer.Plan) (err error) {
		say(func(line *progress) { line.planned(plan) })
		engine, err = peer.NewLocalEngine(spec, d.on, tokens, joiner, moments, plan.Room)
		return err
	}, func(limit int64, err error) { say(func(line *progress) { line.halved(limit, err) }) })
	if err != nil {
		return nil, err
	}
	return engine, nil
}
