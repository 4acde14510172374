package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"dunlin/compute"
	"dunlin/cuda/driver"
	"dunlin/engine"
	"dunlin/folder"
	"dunlin/invite"
	"dunlin/model"
	"dunlin/peer"
	"dunlin/peer/contact"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/training"
	"dunlin/wire"
)

// stay is one time in a run, from joining to goodbye, and what every one of them needs.
type stay struct {
	folder folder.Folder
	key    ed25519.PrivateKey
	token  *invite.Token
	signed *wire.SignedSpec
	spec   *wire.RunSpec
	log    *slog.Logger
	self   string // peer id

	place    string   // of training: "CPU" or "GPU"
	device   string   // that trains, for people; the volunteer's goroutine has it
	told     string   // what people heard that trains
	estimate *float64 // its tokens a second

	sent, received atomic.Uint64 // bytes since it began
	entries        entries
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
func (s *stay) run(ctx context.Context, c *Config, events chan<- any) error {
	return again(ctx, func(stage int) error { return s.once(ctx, c, stage, events) }, func(ev any) {
		select {
		case events <- ev:
		case <-ctx.Done():
		}
	})
}

// Waits before a peer comes back whose device was lost with what others counted on.
const (
	firstReturn = time.Second
	lastReturn  = time.Minute
)

// again takes part once more where a time in the run ends so that another one follows: at a move to another stage, and when
// the device of a stage is lost.
func again(ctx context.Context, once func(stage int) error, say func(any)) error {
	stage, wait := wire.AllStages, firstReturn // that it is told to serve; none yet
	for {
		began := time.Now()
		err := once(stage)
		var move *peer.MoveError
		switch {
		case ctx.Err() != nil:
			return err
		case errors.As(err, &move):
			stage = move.Stage
			say(func(line *progress) {
				line.say("it moves       "+move.Reason, "moves", slog.Int("stage", move.Stage), slog.String("reason", move.Reason))
			})
		case errors.Is(err, compute.ErrLost) || errors.Is(err, driver.ErrDeviceLost):
			if time.Since(began) > lastReturn {
				wait = firstReturn // it was well meanwhile
			}
			pause := wait
			say(func(line *progress) {
				line.say(fmt.Sprintf("it comes back  in %v: %v", pause, err), "comes back", slog.Duration("in", pause), slog.String("error", err.Error()))
			})
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			wait = min(2*wait, lastReturn)
		default:
			return err
		}
	}
}

// once takes part in one stage of a run that has some, the one that it is told or else asks for, or in the run.
func (s *stay) once(ctx context.Context, c *Config, stage int, events chan<- any) (err error) {
	s.sent.Store(0)
	s.received.Store(0)
	say := func(ev any) {
		select {
		case events <- ev:
		case <-ctx.Done():
		}
	}
	if stage == wire.AllStages {
		if stage, err = s.fetchStage(ctx, c, say); err != nil {
			return err
		}
	} else if err = s.folder.SaveStage(s.token.Run, stage); err != nil {
		return err
	}
	devices, err := c.devices(nil)
	if err != nil {
		return err
	}
	for _, d := range devices {
		defer closing(&err, d.Close)
	}
	s.tellDevices(devices, say)
	cards, end, untold := watch(devices...)
	defer closing(&err, end)
	if err := c.unkept(untold); err != nil { // it was set on the page
		s.log.Warn("training goes on without a limit", "error", err)
	}
	var host *swarm.Host
	show := func(snapshot *status.Snapshot) {
		moved := host.Stats().Socket
		s.sent.Store(moved.Out)
		s.received.Store(moved.In)
		showWays(snapshot, host)
		select {
		case events <- snapshot:
		default: // the next one is newer
		}
	}
	room, err := c.momentum(s.folder.Run(s.token.Run))
	if err != nil {
		return err
	}
	p, err := peer.New(peer.Config{
		Key: s.key, Signed: s.signed, Run: s.token.Run, Dir: s.folder.Run(s.token.Run), Quota: c.quota(), Upload: uint64(c.Up / 8), Name: c.Name,
		Version: release, Secret: s.token.Secret, Seed: c.Seed, Logger: s.log, Publish: show, Coordinators: whereabouts(s.token.Coordinators()), Duty: training.Duty(c.Duty), Stage: stage, Momentum: room, Cards: cards, Limits: c.Cards,
		NewEngine: func(spec *wire.RunSpec, tokens []byte, joiner bool) (engine.Engine, error) {
			if spec.Staged() {
				return s.stageEngine(c, devices[0].on, spec, stage, joiner, say)
			}
			return s.engines(c, devices, spec, tokens, joiner, say)
		},
	})
	if err != nil {
		return err
	}
	defer closing(&err, p.Close)
	if host, err = c.host(ctx, s.key, s.token.Run, p, s.log, c.reach(s.token)); err != nil {
		return err
	}
	defer closing(&err, host.Close)
	s.entries.of.Store(p)
	defer s.entries.of.Store(nil)
	return p.Run(ctx, transport{host})
}

// tellDevices says what computes when it is not what people heard last: a card may be gone, and the processor in its place.
func (s *stay) tellDevices(devices []*device, say func(any)) {
	names := namesOf(devices)
	if names == s.told {
		return
	}
	s.told = names
	say(func(line *progress) {
		s.device = names
		for _, d := range devices {
			line.machine(d, "")
		}
	})
}

// fetchStage asks the coordinator which stage of the model this machine is to serve; a machine that cannot ask serves
// the one that it served last.
func (s *stay) fetchStage(ctx context.Context, c *Config, say func(any)) (_ int, err error) {
	if !s.spec.Staged() {
		return 0, nil
	}
	host, err := c.host(ctx, s.key, s.token.Run, contact.Deaf{}, s.log, swarm.Reach{})
	if err != nil {
		return 0, err
	}
	defer closing(&err, host.Close)
	offer, err := contact.FetchStage(ctx, transport{host}, s.token.Coordinators(), s.spec)
	if err != nil {
		if last, known := s.folder.Stage(s.token.Run); known {
			s.log.Warn("serving the stage of last time", "stage", last, "err", err)
			return last, nil
		}
		return 0, err
	}
	stage := int(offer.Stage)
	say(func(line *progress) {
		line.say("it serves      "+recipe.DescribeStage(s.spec, stage), "serves", slog.Int("stage", stage), slog.String("reason", offer.Reason))
	})
	return stage, s.folder.SaveStage(s.token.Run, stage)
}

// stageEngine makes the inner steps of a stage.
func (s *stay) stageEngine(c *Config, on compute.Device, spec *wire.RunSpec, stage int, joiner bool, say func(any)) (engine.Engine, error) {
	return c.build(say, func(limit int64) (training.Plan, error) { return c.fitStage(spec, stage, on, limit) }, func(room model.Room) (engine.Engine, error) {
		return engine.NewStage(spec, stage, on, joiner, s.folder.Moments(s.token.Run), room)
	})
}

// engines makes inner steps on all devices, several of them as one.
func (s *stay) engines(c *Config, devices []*device, spec *wire.RunSpec, tokens []byte, joiner bool, say func(any)) (engine.Engine, error) {
	var engines []engine.Engine
	for i, d := range devices {
		made, err := s.engine(c, d, spec, tokens, joiner, i, say)
		if err != nil {
			for _, e := range engines {
				err = errors.Join(err, e.Close())
			}
			return nil, err
		}
		engines = append(engines, made)
	}
	if len(engines) == 1 {
		return engines[0], nil
	}
	return engine.NewTeam(engines...), nil
}

// engine makes inner steps on one device. number keeps the moments of several apart.
func (s *stay) engine(c *Config, d *device, spec *wire.RunSpec, tokens []byte, joiner bool, number int, say func(any)) (engine.Engine, error) {
	moments := s.folder.Moments(s.token.Run)
	if number > 0 {
		moments += "." + strconv.Itoa(number)
	}
	return c.build(say, func(limit int64) (training.Plan, error) { return c.fitWorker(spec, d.on, limit) }, func(room model.Room) (engine.Engine, error) {
		return engine.NewLocal(spec, d.on, tokens, joiner, moments, room)
	})
}

// build makes what trains by a plan, and by another one where there is less memory than the device told.
func (c *Config) build(say func(any), plan func(limit int64) (training.Plan, error), build func(model.Room) (engine.Engine, error)) (engine.Engine, error) {
	var made engine.Engine
	err := within(c.Memory, plan, func(fits training.Plan) (err error) {
		say(func(line *progress) { line.planned(fits) })
		made, err = build(fits.Room)
		return err
	}, func(limit int64, err error) { say(func(line *progress) { line.halved(limit, err) }) })
	if err != nil {
		return nil, err // made may hold a nil pointer
	}
	return made, nil
}
