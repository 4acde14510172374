package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dunlin/peer/contact"
	"dunlin/swarm"
	"dunlin/wire"
)

// What bench net moves.
const (
	netBlob    = 256 << 10 // bytes of one answer, about a slab of a checkpoint
	netFetches = 16        // at a time, as a peer does
	netWarm    = 500 * time.Millisecond
)

// netSpeed is what bench net measures between two hosts of one process on loopback.
type netSpeed struct {
	Raw   carried `json:"raw"`   // one TCP connection
	Swarm carried `json:"swarm"` // bulk: encrypted, multiplexed, asked for
	// Shares of what the classes count: the sockets' bytes, and the system's loopback device's (both ends, all
	// processes; 0 where it does not tell).
	SocketShare   float64 `json:"socket_share"`
	LoopbackShare float64 `json:"loopback_share"`
	// LimitShare is goodput ÷ the lower limit; 0 without one.
	LimitShare float64 `json:"limit_share"`
}

// carried is a rate and its price.
type carried struct {
	BytesPerSecond  float64 `json:"bytes_per_second"`
	CPUSecondsPerGB float64 `json:"cpu_seconds_per_gb"` // of both ends
}

func newBenchNet(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("net", "bytes a second between two peers on this machine, and what they cost",
		"  dunlin bench net\n  dunlin bench net --up 10mbit --seconds 10 --json", exactly(), t.benchNet, c.seconds(3),
		bandwidth(&c.Up, "up", "most that the giving peer sends"), bandwidth(&c.Down, "down", "most that the taking peer receives"))
}

func (t *terminal) benchNet(ctx context.Context, c *Config, _ []string) error {
	var s netSpeed
	var err error
	if s.Raw, err = rawSpeed(ctx, seconds(c.Seconds)); err != nil {
		return err
	}
	if err := s.measure(ctx, c); err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(s)
	}
	_, err = fmt.Fprintf(t.out, "TCP    %s MB/s, %.2f CPU seconds a GB\nswarm  %s MB/s, %.2f CPU seconds a GB; sockets carried %.1f %% of what classes count\n",
		rate(s.Raw.BytesPerSecond/1e6), s.Raw.CPUSecondsPerGB, rate(s.Swarm.BytesPerSecond/1e6), s.Swarm.CPUSecondsPerGB, 100*s.SocketShare)
	if err == nil && s.LimitShare > 0 {
		_, err = fmt.Fprintf(t.out, "limit  answers took %.1f %% of it\n", 100*s.LimitShare)
	}
	return err
}

// carry runs move for d and returns what it carried; move returns bytes.
func carry(d time.Duration, move func(until time.Time) (int64, error)) (carried, error) {
	cpu, start := cpuSeconds(), time.Now()
	n, err := move(start.Add(d))
	if err == nil && n == 0 {
		err = errors.New("nothing came in the time")
	}
	if err != nil {
		return carried{}, err
	}
	return carried{
		BytesPerSecond:  float64(n) / time.Since(start).Seconds(),
		CPUSecondsPerGB: (cpuSeconds() - cpu) / (float64(n) / 1e9),
	}, nil
}

// rawSpeed fills one TCP connection.
func rawSpeed(ctx context.Context, d time.Duration) (carried, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return carried{}, fmt.Errorf("listen on loopback: %w", err)
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			sent <- err
			return
		}
		defer c.Close()
		for b := make([]byte, netBlob); err == nil; {
			_, err = c.Write(b)
		}
		sent <- nil // the reader has left
	}()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return carried{}, errors.Join(fmt.Errorf("dial loopback: %w", err), l.Close(), <-sent)
	}
	speed, err := carry(d, func(until time.Time) (int64, error) {
		if err := c.SetReadDeadline(until); err != nil {
			return 0, err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, netBlob))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		return n, err
	})
	return speed, errors.Join(err, c.Close(), <-sent)
}

// giver serves one blob.
type giver struct {
	contact.Deaf
	blob []byte
}

// Serve implements swarm.Handler.
func (g giver) Serve(context.Context, wire.PeerID, []byte) ([]byte, error) { return g.blob, nil }

// measure moves bulk between two hosts.
func (s *netSpeed) measure(ctx context.Context, c *Config) (err error) {
	key := func(i byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(append(make([]byte, 31), i)) }
	const protocol = "/dunlin/bench"
	tcp := []string{"/ip4/127.0.0.1/tcp/0"} // as the one connection beside it: a busy machine may come to QUIC first
	from, err := swarm.New(ctx, swarm.Config{Key: key(1), Protocol: protocol, Handler: giver{blob: make([]byte, netBlob)}, Listen: tcp, Up: c.Up})
	if err != nil {
		return err
	}
	defer closing(&err, from.Close)
	to, err := swarm.New(ctx, swarm.Config{Key: key(2), Protocol: protocol, Handler: contact.Deaf{}, Listen: tcp, Down: c.Down})
	if err != nil {
		return err
	}
	defer closing(&err, to.Close)
	if err := to.Connect(ctx, from.ID(), from.Addrs()); err != nil {
		return err
	}
	if _, err := pull(ctx, to, from.ID(), time.Now().Add(netWarm)); err != nil {
		return err
	}
	counted, sockets, device := traffic(from, to)
	s.Swarm, err = carry(seconds(c.Seconds), func(until time.Time) (int64, error) { return pull(ctx, to, from.ID(), until) })
	if err != nil {
		return err
	}
	counted2, sockets2, device2 := traffic(from, to)
	s.SocketShare = (sockets2 - sockets) / (counted2 - counted)
	if device2 > device {
		s.LoopbackShare = (device2 - device) / (counted2 - counted)
	}
	if limit := lower(c.Up, c.Down); limit > 0 {
		s.LimitShare = s.Swarm.BytesPerSecond * 8 / float64(limit)
	}
	return nil
}

// lower is the lower of two limits, of which 0 is none.
func lower(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// pull fetches answers until a time and returns their bytes.
func pull(ctx context.Context, to *swarm.Host, from wire.PeerID, until time.Time) (int64, error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var sum int64
	var fault error
	for range netFetches {
		all.Go(func() {
			for time.Now().Before(until) {
				b, err := to.Fetch(ctx, from, wire.ClassResult, []byte("blob"), netBlob)
				mu.Lock()
				sum += int64(len(b))
				fault = errors.Join(fault, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return sum, fault
}

// traffic sums bytes sent by hosts as classes and as sockets count them, and by the loopback device.
func traffic(hosts ...*swarm.Host) (classes, sockets, device float64) {
	for _, h := range hosts {
		s := h.Stats()
		sockets += float64(s.Socket.Out)
		for _, c := range s.Classes {
			classes += float64(c.Out)
		}
	}
	text, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return classes, sockets, 0
	}
	for line := range strings.Lines(string(text)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "lo" {
			if fields := strings.Fields(rest); len(fields) > 8 {
				device, _ = strconv.ParseFloat(fields[8], 64) // of what is sent; 0 when unreadable
			}
		}
	}
	return classes, sockets, device
}
