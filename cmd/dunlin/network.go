package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"dunlin/cmd/dunlin/doctor"
	"dunlin/folder"
	"dunlin/machine"
	"dunlin/peer"
	"dunlin/swarm"
	"dunlin/wire"
)

// transport lets a peer use a host.
type transport struct{ *swarm.Host }

// Traffic implements peer.Transport.
func (t transport) Traffic() peer.Traffic {
	s := t.Stats()
	out := peer.Traffic{Sent: s.Socket.Out, Received: s.Socket.In}
	for i, c := range s.Classes {
		out.ClassSent[i], out.ClassReceived[i] = c.Out, c.In
	}
	return out
}

// folder opens and locks the data folder.
func (c *Config) folder(fallback string) (folder.Folder, *swarm.FolderLock, error) {
	dir := c.DataDir
	if dir == "" {
		dir = filepath.Join(dataHome(), fallback)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return folder.Folder{}, nil, fmt.Errorf("make data folder: %w", err)
	}
	lock, err := swarm.LockFolder(dir)
	return folder.Folder{Dir: dir}, lock, err
}

// address is how a machine is reached that cannot tell itself.
func (c *Config) address() option {
	return option{
		"address", "where others reach this machine from outside, if its router forwards ports by hand, or it is a container or a rented machine", "address", "",
		"IP addresses or names, commas between; with :port where that is not --port", func(text string) error {
			c.Address = text
			if text == "" {
				return nil
			}
			_, err := swarm.Outside(text, 1) // --port is not known yet
			return err
		},
	}
}

// onlyNear reports whether none of a host's addresses leads to it from another network.
func onlyNear(addrs []string) bool {
	for _, a := range addrs {
		parts := strings.SplitN(a, "/", 4) // "", kind, address, …
		if len(parts) < 4 {
			continue
		}
		ip, err := netip.ParseAddr(parts[2])
		if err != nil || !doctor.Private(ip) { // a name may lead anywhere
			return false
		}
	}
	return true
}

// dataHome is where state lives: the XDG data folder or what the system has in its place.
func dataHome() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dunlin")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "dunlin")
	}
	return "dunlin-data"
}

// hub is host for a coordinator, to which all peers connect. Without --port it takes the ports of last time, so that invites
// hold after a restart, or else two that are free.
func (c *Config) hub(ctx context.Context, home folder.Folder, key ed25519.PrivateKey, run wire.Hash, handler swarm.Handler, log *slog.Logger, reach swarm.Reach) (*swarm.Host, error) {
	if c.Port != 0 {
		return c.hostWithin(ctx, swarm.HubLimits(), key, run, handler, log, reach)
	}
	again, last := *c, home.Port()
	if again.Port = last; !machine.TryPorts(last) {
		again.Port = machine.FreePorts()
	}
	host, err := again.hostWithin(ctx, swarm.HubLimits(), key, run, handler, log, reach)
	for range 2 {
		if err == nil {
			break
		} // another program was faster
		again.Port = machine.FreePorts()
		host, err = again.hostWithin(ctx, swarm.HubLimits(), key, run, handler, log, reach)
	}
	if err != nil {
		return nil, err
	}
	if last != 0 && again.Port != last {
		log.Warn("the port of last time is taken: earlier invites do not lead here any more, hand out new ones", "port", last)
	}
	if err := home.SavePort(again.Port); err != nil {
		log.Warn("invites will not hold after a restart", "error", err)
	}
	return host, nil
}

// host starts the network for a run.
func (c *Config) host(ctx context.Context, key ed25519.PrivateKey, run wire.Hash, handler swarm.Handler, log *slog.Logger, reach swarm.Reach) (*swarm.Host, error) {
	return c.hostWithin(ctx, swarm.DefaultLimits(), key, run, handler, log, reach)
}

func (c *Config) hostWithin(ctx context.Context, limits swarm.Limits, key ed25519.PrivateKey, run wire.Hash, handler swarm.Handler, log *slog.Logger, reach swarm.Reach) (*swarm.Host, error) {
	listen := swarm.Everywhere(c.Port)
	if c.Loopback {
		listen, reach = swarm.Loopback(), swarm.Reach{}
		if c.Port != 0 {
			listen = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", c.Port), fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", c.Port)}
		}
	}
	var outside []string
	if c.Address != "" {
		var err error
		if outside, err = swarm.Outside(c.Address, c.Port); err != nil {
			return nil, fmt.Errorf("address: %w: give the port with it, or --port", err)
		}
	}
	return swarm.New(ctx, swarm.Config{
		Key: key, Listen: listen, Outside: outside, Protocol: swarm.ProtocolOf(run), Secret: run[:], MDNS: c.MDNS && !c.Loopback, Reach: reach, Up: c.Up, Down: c.Down, Handler: handler,
		Limits: limits, Logger: log,
	})
}

// logBeside makes the log of a command that shows progress: where a line is alive, only what is wrong breaks it.
func (c *Config) logBeside(line *progress) *slog.Logger {
	if line.live {
		return c.logTo(line, slog.LevelWarn)
	}
	return c.logTo(line, slog.LevelInfo)
}

func (c *Config) logTo(out io.Writer, level slog.Level) *slog.Logger {
	if c.Verbose {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// closing joins a deferred close's error into err.
func closing(err *error, closeIt func() error) { *err = errors.Join(*err, closeIt()) }
