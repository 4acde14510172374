package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dunlin/allowance"
	"dunlin/cmd/dunlin/doctor"
	"dunlin/machine"
	"dunlin/peer"
	"dunlin/status"
	"dunlin/store"
	"dunlin/wire"
)

// How often a volunteer's machine is looked at, and how much of what happened its page shows.
const (
	lookEvery  = 5 * time.Second
	showEvery  = time.Second // while it is paused
	maxLog     = 50
	allowances = "allowance.json" // in the data folder: what the gate remembers
)

// volunteer keeps this machine in a run for as long as its owner allows: it asks the gate and starts and ends stays.
// One goroutine, run's, owns what says nothing else.
type volunteer struct {
	c      *Config // replaced when limits change
	values limitValues
	stay   *stay // what every stay needs
	page   *status.Server
	line   *progress
	log    *slog.Logger

	gate    *allowance.Gate
	watcher machine.Watcher
	load    machine.Load
	untold  string
	closed  *allowance.Pause // nil while it may train
	leaving string           // why the running stay was told to end; "" while it was not
	newest  *status.Snapshot
	history []status.Note   // newest last
	moved   allowance.Moved // bytes of the running stay that the gate has heard of

	asks   chan ask // from the page
	events chan any // from the running stay
}

// ask is a change that the page waits for.
type ask struct {
	change status.Change
	answer chan error // takes one
}

// change hands a wish of the owner to the volunteer's goroutine.
func (v *volunteer) change(ctx context.Context, change status.Change) error {
	a := ask{change, make(chan error, 1)}
	select {
	case v.asks <- a:
	case <-ctx.Done():
		return errors.New("dunlin is ending")
	}
	select {
	case err := <-a.answer:
		return err
	case <-ctx.Done():
		return errors.New("dunlin is ending")
	}
}

// loadGate makes the gate as an earlier process left it. A damaged file costs a pause and a day's count.
func (c *Config) loadGate(dir string) *allowance.Gate {
	var state allowance.State
	if b, err := os.ReadFile(filepath.Join(dir, allowances)); err == nil && json.Unmarshal(b, &state) != nil {
		state = allowance.State{}
	}
	return allowance.NewGate(c.rules(), state)
}

// run stays in the run until it ends, the context does, or a stay fails.
func (v *volunteer) run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	show := time.NewTicker(showEvery)
	defer show.Stop()
	v.look()
	ended := make(chan error)
	running := false
	var end context.CancelCauseFunc = func(error) {}
	defer func() { end(nil) }()
	for {
		switch {
		case running && v.closed != nil && v.leaving == "":
			v.leave(end, v.closed.Reason)
		case !running && v.closed == nil && ctx.Err() == nil:
			running, end = true, v.begin(ctx, ended)
		}
		if !running && ctx.Err() != nil {
			v.line.say("goodbye"+v.given(), "goodbye")
			return nil
		}
		deadline := time.NewTimer(v.untilDeadline())
		interrupted := ctx.Done()
		if v.leaving != "" {
			interrupted = nil
		}
		select {
		case <-interrupted:
			if running {
				v.handOver()
			}
		case err := <-ended:
			running = false
			end(nil)
			v.drainEvents()
			v.traffic()
			if done, err := v.stayed(ctx, err); done {
				return err
			}
		case ev := <-v.events:
			v.hear(ev)
		case a := <-v.asks:
			anew, err := v.obey(a.change)
			a.answer <- err
			if anew && running && v.leaving == "" {
				v.leave(end, "its owner changed limits")
			}
		case <-look.C:
			v.traffic()
			v.look()
		case <-show.C:
			if !running {
				v.showPaused()
			}
		case <-deadline.C:
			v.step(allowance.Tick{})
		}
		deadline.Stop()
	}
}

// checkClock warns of a clock that is wrong. Where no time server answers nobody can tell.
func (v *volunteer) checkClock(ctx context.Context, servers []string) {
	ahead, server, err := machine.ClockOffset(ctx, servers)
	if err != nil {
		return
	}
	if f := doctor.JudgeClock(ahead, server, nil); f.State != status.OK {
		warn := func(line *progress) {
			line.say("clock          "+f.Detail+" → "+f.Mend, "clock", slog.Float64("ahead_seconds", ahead.Seconds()), slog.String("mend", f.Mend))
		}
		select {
		case v.events <- warn:
		case <-ctx.Done():
		}
	}
}

// begin starts a stay and returns what ends it.
func (v *volunteer) begin(ctx context.Context, ended chan<- error) context.CancelCauseFunc {
	ctx, end := context.WithCancelCause(ctx)
	v.leaving, v.moved = "", allowance.Moved{}
	config := *v.c
	go func() { ended <- v.stay.run(ctx, &config, v.events) }()
	return end
}

// leave ends the running stay in good order.
func (v *volunteer) leave(end context.CancelCauseFunc, reason string) {
	v.leaving = reason
	v.note("leaving the run: " + reason)
	v.line.step(v.rounds(), slog.String("reason", reason))
	end(&peer.Leaving{Reason: "paused: " + reason})
}

// handOver begins the last goodbye.
func (v *volunteer) handOver() {
	v.leaving = "stopped"
	v.line.close()
	v.line.step(v.rounds(), slog.String("reason", "stopped"))
}

// rounds says what is handed over.
func (v *volunteer) rounds() string {
	if v.newest == nil || v.newest.Run.Height == 0 {
		return "handing over   nothing yet …"
	}
	return "handing over   rounds after height " + grouped(v.newest.Run.Height) + " …"
}

// stayed looks at how a stay ended, and tells whether that is the end.
func (v *volunteer) stayed(ctx context.Context, err error) (done bool, _ error) {
	var refused *peer.RefusedError
	switch {
	case errors.As(err, &refused) && refused.Code == wire.RefuseEnded:
		v.line.say("nothing to do  "+refused.Reason, "nothing to do", slog.String("reason", refused.Reason))
		return true, nil
	case err != nil && v.leaving != "" && ctx.Err() == nil:
		v.note("left without a goodbye: " + err.Error())
		v.line.say("left           "+err.Error(), "left", slog.String("error", err.Error()))
	case err != nil:
		return true, err
	case ctx.Err() != nil:
		v.line.step(v.rounds()+" saved … goodbye"+v.given(), slog.String("goodbye", v.given()))
		v.line.close()
		return true, nil
	case v.leaving == "": // the run has ended
		v.line.say("the run ended  goodbye"+v.given(), "goodbye")
		return true, nil
	}
	v.leaving = ""
	if v.closed != nil {
		v.line.say(v.pausedLine(), "paused", slog.String("reason", v.closed.Reason))
		v.showPaused()
	}
	return false, nil
}

// given says what this machine gave the run.
func (v *volunteer) given() string {
	if v.newest == nil {
		return ""
	}
	for _, g := range v.newest.Thanks.Ranks {
		if g.You {
			return fmt.Sprintf(" (you gave %s tokens, rank %d of %d)", status.Figure(float64(g.Tokens)), g.Rank, v.newest.Thanks.Givers)
		}
	}
	return " (nothing of yours is in a commit yet)"
}

func (v *volunteer) pausedLine() string {
	text := "paused         " + v.closed.Reason
	if !v.closed.Until.IsZero() {
		text += " · goes on at " + v.closed.Until.Format("Mon 15:04")
	}
	return text
}

// untilDeadline is how long the gate may be left alone.
func (v *volunteer) untilDeadline() time.Duration {
	now := time.Now()
	at := v.gate.Deadline(now)
	if at.IsZero() {
		return time.Hour
	}
	return max(0, min(at.Sub(now), time.Hour)) // clocks may be set
}

// look tells the gate what the machine does.
func (v *volunteer) look() {
	load, err := v.watcher.Look()
	v.load, v.untold = load, ""
	if err != nil {
		v.untold = err.Error()
	}
	v.step(allowance.Seen{Others: load.Others, Battery: load.Battery})
}

// traffic tells the gate what the running stay has sent and received since it was told last.
func (v *volunteer) traffic() {
	now := allowance.Moved{Sent: v.stay.sent.Load(), Received: v.stay.received.Load()}
	if now.Sent < v.moved.Sent || now.Received < v.moved.Received {
		v.moved = allowance.Moved{} // it moved to another stage and counts anew
	}
	if now != v.moved {
		v.step(allowance.Moved{Sent: now.Sent - v.moved.Sent, Received: now.Received - v.moved.Received})
		v.moved = now
	}
}

// step carries out what the gate decides. Stays are started and ended by run.
func (v *volunteer) step(ev allowance.Event) {
	for _, e := range v.gate.Step(time.Now(), ev) {
		switch e := e.(type) {
		case allowance.Pause:
			if v.closed == nil || v.closed.Reason != e.Reason {
				v.log.Info("pause", "reason", e.Reason, "until", e.Until)
				v.note("pause: " + e.Reason)
			}
			v.closed = &e
		case allowance.Resume:
			v.closed = nil
			v.log.Info("resume")
			v.note("goes on")
		case allowance.Keep:
			b, err := json.Marshal(e.State)
			if err == nil {
				err = store.WriteFile(filepath.Join(v.stay.folder.Dir, allowances), append(b, '\n'), 0o600)
			}
			if err != nil {
				v.log.Warn("a restart will not know of it", "error", err)
			}
		}
	}
}

// obey takes the owner's change and tells whether a running stay has to begin anew.
func (v *volunteer) obey(change status.Change) (anew bool, err error) {
	if len(change.Limits) > 0 {
		next, values, restart, err := v.c.changeLimits(v.stay.folder.Dir, v.values, change.Limits)
		if err != nil {
			return false, err
		}
		for _, o := range next.limits() {
			if values[o.key] != v.values[o.key] {
				v.note(fmt.Sprintf("%s is now %s", o.key, cmp.Or(values[o.key], "not limited")))
			}
		}
		v.c, v.values, anew = next, values, restart
		v.step(allowance.Ruled{Rules: next.rules()})
	}
	if change.Pause != nil {
		v.step(allowance.Asked{Pause: *change.Pause})
	}
	if v.newest != nil {
		v.publish(v.newest)
	}
	return anew, nil
}

// note keeps what happened for the page.
func (v *volunteer) note(text string) {
	v.history = append(v.history, status.Note{At: time.Now(), Text: text})
	if len(v.history) > maxLog {
		v.history = v.history[1:]
	}
}

// hear takes in a word of the running stay.
func (v *volunteer) hear(ev any) {
	switch ev := ev.(type) {
	case *status.Snapshot:
		v.newest = ev
		v.publish(ev)
		if v.leaving == "" {
			v.line.state(workerLine(ev))
		}
	case func(*progress):
		ev(v.line)
	}
}

// drainEvents hears what a stay said last.
func (v *volunteer) drainEvents() {
	for {
		select {
		case ev := <-v.events:
			v.hear(ev)
		default:
			return
		}
	}
}

// publish shows a snapshot with what is known of this machine.
func (v *volunteer) publish(s *status.Snapshot) {
	shown := *s
	m := &status.Machine{
		State: "training", Reason: s.Run.Reason, Device: v.stay.device, Estimate: v.stay.estimate, Expects: v.c.expects(v.stay.spec, *v.stay.estimate), Others: v.load.Others, Cores: machine.Cores(),
		Battery: v.load.Battery, Untold: v.untold, SentToday: v.gate.State().Sent, ReceivedToday: v.gate.State().Received, Paused: v.gate.State().Paused, Limits: v.c.shown(v.values),
	}
	for _, n := range slices.Backward(v.history) {
		m.Log = append(m.Log, n)
	}
	switch {
	case v.leaving != "":
		m.State, m.Reason = "leaving", v.leaving
	case v.closed != nil:
		m.State, m.Reason = "paused", v.closed.Reason
		if !v.closed.Until.IsZero() {
			m.Until = &v.closed.Until
		}
	case s.Run.Phase != wire.PhaseTraining.String():
		m.State = s.Run.Phase
	}
	shown.Machine = m
	v.page.Publish(&shown)
}

// showPaused shows the newest snapshot as that of a machine that takes no part.
func (v *volunteer) showPaused() {
	if v.closed == nil {
		return
	}
	s := status.Snapshot{Version: release, Self: v.stay.self, Role: "worker", Run: status.Run{ID: v.stay.token.Run, Name: v.stay.spec.Name}}
	if v.newest != nil {
		s = *v.newest
	}
	s.At, s.Run.Phase, s.Run.Reason = time.Now(), "paused", v.closed.Reason
	s.Speed.Own, s.Speed.TokensPerSecond, s.Speed.SecondsLeft = nil, nil, nil
	s.Peers = slices.Clone(s.Peers)
	for i := range s.Peers {
		if p := &s.Peers[i]; p.You {
			p.State, p.Reason, p.TokensPerSecond = "sleeping", v.closed.Reason, 0
		}
	}
	v.publish(&s)
	v.line.state(v.pausedLine(), []slog.Attr{slog.String("state", "paused"), slog.String("reason", v.closed.Reason)})
}
