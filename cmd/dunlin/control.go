package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"strings"

	"dunlin/coordinator"
	"dunlin/peer"
	"dunlin/peer/reign"
	"dunlin/wire"
)

// controlled ties a command to the program that started it: with --control-stdin every line of the standard input is
// an order, and its end, which comes as well when that program dies, lets the command drain and leave. Without the
// flag the input is not touched.
func (c *Config) controlled(ctx context.Context, in io.Reader, obey func(order string)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if c.ControlStdin {
		go func() {
			for lines := bufio.NewScanner(in); lines.Scan(); {
				obey(strings.TrimSpace(lines.Text()))
			}
			cancel()
		}()
	}
	return ctx, cancel
}

// Orders that a coordinator takes on its standard input.
const (
	orderEnd     = "end"      // the run ends with what is committed
	orderSoloOn  = "solo on"  // workers train on without rounds
	orderSoloOff = "solo off" // rounds again
)

// organise turns an order into a wish of the organiser.
func organise(p *peer.Peer, log *slog.Logger, order string) {
	var c coordinator.Change
	on, off := true, false
	switch order {
	case orderEnd:
		c.Phase, c.Reason = wire.PhaseEnded, "the organiser ended it"
	case orderSoloOn:
		c.Solo, c.Reason = &on, "rounds are off, to measure what they cost"
	case orderSoloOff:
		c.Solo, c.Reason = &off, "rounds are on"
	default:
		log.Warn("unknown order on standard input", "order", shorten(order), "allowed", orderEnd+", "+orderSoloOn+", "+orderSoloOff)
		return
	}
	p.Tell(reign.Organise{Change: c})
}
