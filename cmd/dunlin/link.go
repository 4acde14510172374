package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"dunlin/cmd/dunlin/doctor"
	"dunlin/invite"
	"dunlin/peer/contact"
	"dunlin/status"
	"dunlin/swarm"
)

// Bounds on what doctor and join fetch to measure the way down, and on what join waits for.
const (
	probeBytes  = 8 << 20
	probeFor    = 5 * time.Second
	greetBytes  = 2 << 20
	greetWithin = 5 * time.Second // until a coordinator answers
	routerFor   = 2 * time.Second
)

// lookCoordinator dials a run's coordinator and measures the link to it.
func (c *Config) lookCoordinator(ctx context.Context, token *invite.Token) []status.Finding {
	if token == nil {
		return nil
	}
	reach := status.Finding{Name: "coordinator", State: status.OK}
	_, key, err := ed25519.GenerateKey(nil)
	var host *swarm.Host
	newcomer := contact.NewNewcomer()
	if err == nil {
		host, err = (&Config{Loopback: c.Loopback}).host(ctx, key, token.Run, newcomer, slog.New(slog.DiscardHandler), swarm.Reach{})
	}
	if err != nil {
		reach.State, reach.Detail, reach.Mend = status.Fail, err.Error(), "see what the other findings say of the network"
		return []status.Finding{reach}
	}
	defer host.Close()
	began := time.Now()
	signed, err := contact.FetchSpec(ctx, transport{host}, token.Coordinators(), token.Run)
	if err != nil {
		reach.State, reach.Detail, reach.Mend = status.Fail, err.Error(), "ask the organiser for the newest invite and whether the coordinator runs; let TCP and UDP out through this machine's firewall"
		return []status.Finding{reach}
	}
	reach.Detail = fmt.Sprintf("answers within %s, dialling included", status.Duration(time.Since(began).Seconds()))
	spec, err := signed.Open(token.Run)
	if err != nil {
		return []status.Finding{reach}
	}
	got, took, err := contact.MeasureDown(ctx, transport{host}, token.Coordinator, spec, probeBytes, probeFor)
	down := judgeWay("down from", got, took, err)
	got, took, err = newcomer.MeasureUp(ctx, transport{host}, token.Coordinator)
	return []status.Finding{reach, down, judgeWay("up to", got, took, err)}
}

// judgeWay says how fast bytes passed in one direction.
func judgeWay(way string, bytes int, took time.Duration, err error) status.Finding {
	direction, _, _ := strings.Cut(way, " ")
	f := status.Finding{Name: direction, State: status.OK}
	if bytes == 0 {
		f.State, f.Detail, f.Mend = status.Warn, fmt.Sprintf("nothing passed: %v", err), "try again in a minute; join does without this figure"
		return f
	}
	bits := float64(bytes) * 8 / took.Seconds()
	f.Detail = fmt.Sprintf("%s %s the coordinator, over %s in %s", bitRate(bits), way, status.Bytes(float64(bytes)), status.Duration(took.Seconds()))
	if bits < swarm.MinRate {
		f.State, f.Mend = status.Warn, "dunlin wants "+bitRate(swarm.MinRate)+" at least: pause what else uses the link"
	}
	return f
}

// measureLink tells how fast this machine's link carries bytes from and to the run's coordinator, within its limits, and how
// others reach it. What cannot be had in a few seconds is left out: nobody waits for it.
func (s *stay) measureLink(ctx context.Context, c *Config) (text string, attrs []slog.Attr) {
	if c.Loopback {
		return "", nil
	}
	reached := make(chan string, 1)
	go func() { reached <- c.reachedBy(ctx) }()
	defer func() {
		if how := <-reached; how != "" {
			text += " · " + how
		}
	}()
	newcomer := contact.NewNewcomer()
	host, err := c.host(ctx, s.key, s.token.Run, newcomer, s.log, swarm.Reach{})
	if err != nil {
		s.log.Info("the link is not measured", "reason", err)
		return "", nil
	}
	defer host.Close()
	for _, k := range s.token.Coordinators() {
		greeting, cancel := context.WithTimeout(ctx, greetWithin)
		err := host.Connect(greeting, k.Peer, k.Addrs)
		cancel()
		if err != nil {
			s.log.Info("the link is not measured", "coordinator", k.Peer.Short(), "reason", err)
			continue
		}
		add := func(way string, bytes int, took time.Duration, err error) {
			if bytes == 0 {
				s.log.Info("the link is not measured", "way", way, "reason", err)
				return
			}
			bits := float64(bytes) * 8 / took.Seconds()
			text += " · " + way + " " + bitRate(bits)
			attrs = append(attrs, slog.Float64(way+"_bits_per_second", bits))
		}
		up := make(chan func(), 1) // both ways at a time: each takes a second or two
		go func() {
			bytes, took, err := newcomer.MeasureUp(ctx, transport{host}, k.Peer)
			up <- func() { add("up", bytes, took, err) }
		}()
		bytes, took, err := contact.MeasureDown(ctx, transport{host}, k.Peer, s.spec, greetBytes, greetWithin)
		(<-up)()
		add("down", bytes, took, err)
		break
	}
	return text, attrs
}

// reachedBy says in a few words how others come to this machine; "" where that is not known.
func (c *Config) reachedBy(ctx context.Context) string {
	local, err := doctor.LocalAddress()
	switch {
	case err != nil:
		return ""
	case !doctor.Private(local):
		return "no router between"
	case !c.NAT:
		return "behind a router"
	}
	ctx, cancel := context.WithTimeout(ctx, routerFor)
	defer cancel()
	router, err := swarm.FindRouter(ctx, doctor.OutsidePort(c.Port))
	switch {
	case err != nil:
		return ""
	case router.Mapped && router.Outside.IsValid() && doctor.Private(router.Outside):
		return "behind two routers"
	case router.Mapped:
		return "behind a router that opens ports"
	}
	return "behind a router"
}
