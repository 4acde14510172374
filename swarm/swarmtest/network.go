package swarmtest

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marcopolo/simnet"

	"dunlin/swarm"
)

// Protocol is the protocol prefix of hosts whose Config names none.
const Protocol = "/dunlin/1/swarmtest"

const port = 4001

// Run runs f in a bubble of virtual time. With the race detector it keeps to
// one processor there, for golang/go#78156.
func Run(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if raceEnabled {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	synctest.Test(t, f)
}

// Link is what every host has between itself and the others.
type Link struct {
	RTT      time.Duration // from host to host and back, without queueing
	Up, Down int           // bits a second
	Loss     float64       // share of packets lost, 0 to 1, drawn from Seed
	Seed     uint64
}

// Network joins hosts. Its methods may be called from any goroutine of the bubble.
type Network struct {
	t    testing.TB
	link Link
	sim  *simnet.Simnet

	mu    sync.Mutex
	rng   *rand.Rand
	made  int                    // hosts made so far
	ips   map[*swarm.Host]string // by host
	cut   map[string]bool        // hosts, by IP, whose packets are dropped both ways
	apart map[[2]string]bool     // ordered pairs of IPs whose packets are dropped
	walls map[string]bool        // hosts, by IP, that take packets only from where they have sent some
	holes map[[2]string]bool     // pairs of addresses, one behind a wall, which has sent to the other
}

// New starts an empty network, which ends with the test after its hosts.
func New(t testing.TB, link Link) *Network {
	t.Helper()
	n := &Network{
		t: t, link: link,
		sim: &simnet.Simnet{
			LatencyFunc: simnet.StaticLatency(link.RTT / 2),
			Logger:      slog.New(slog.DiscardHandler), // packets to the dead are no news
		},
		rng:   rand.New(rand.NewPCG(link.Seed, 0)),
		ips:   make(map[*swarm.Host]string),
		cut:   make(map[string]bool),
		apart: make(map[[2]string]bool),
		walls: make(map[string]bool),
		holes: make(map[[2]string]bool),
	}
	n.sim.Start()
	t.Cleanup(n.sim.Close)
	return n
}

// Key is the identity of the i-th host that a network makes, counted from 0.
func Key(i int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(seed, uint64(i)+1)
	return ed25519.NewKeyFromSeed(seed)
}

// Host starts a host with an address of its own, and closes it at the test's
// end. Change may set anything but the network; a key it sets replaces Key(i).
func (n *Network) Host(handler swarm.Handler, change func(*swarm.Config)) *swarm.Host {
	n.t.Helper()
	n.mu.Lock()
	i := n.made
	n.made++
	n.mu.Unlock()
	ip := simnet.IntToPublicIPv4(i)
	cfg := swarm.Config{Key: Key(i), Protocol: Protocol, Handler: handler}
	if change != nil {
		change(&cfg)
	}
	cfg.Listen = []string{fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", ip, port)}
	cfg.Packets = &attachment{network: n, ip: ip, sockets: make(map[int]*socket), link: n.endpoint(ip)}
	h, err := swarm.New(n.t.Context(), cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := h.Close(); err != nil {
			n.t.Error(err)
		}
	})
	n.mu.Lock()
	n.ips[h] = ip.String()
	n.mu.Unlock()
	return h
}

// endpoint is a new host's link.
func (n *Network) endpoint(ip net.IP) *simnet.SimConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sim.NewEndpoint(&net.UDPAddr{IP: ip, Port: port}, simnet.NodeBiDiLinkSettings{
		Uplink:   simnet.LinkSettings{BitsPerSecond: n.link.Up},
		Downlink: simnet.LinkSettings{BitsPerSecond: n.link.Down},
	})
}

// Cut drops every packet to and from h until Heal; h itself runs on.
func (n *Network) Cut(h *swarm.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[n.ips[h]] = true
}

// Heal undoes Cut.
func (n *Network) Heal(h *swarm.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, n.ips[h])
}

// CutOneWay drops packets from one host to another until HealOneWay.
func (n *Network) CutOneWay(from, to *swarm.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.apart[[2]string{n.ips[from], n.ips[to]}] = true
}

// HealOneWay undoes CutOneWay.
func (n *Network) HealOneWay(from, to *swarm.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.apart, [2]string{n.ips[from], n.ips[to]})
}

// Wall puts h behind a router that lets a packet in only from an address and
// port that h has sent to.
func (n *Network) Wall(h *swarm.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.walls[n.ips[h]] = true
}

// Kill ends h as a power cut would: the others hear no goodbye.
func (n *Network) Kill(h *swarm.Host) {
	n.Cut(h)
	if err := h.Close(); err != nil {
		n.t.Error(err)
	}
}

// drops decides a packet's fate as it leaves its sender.
func (n *Network) drops(from, to *net.UDPAddr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b := from.IP.String(), to.IP.String()
	if n.cut[a] || n.cut[b] || n.apart[[2]string{a, b}] {
		return true
	}
	if n.walls[a] {
		n.holes[[2]string{from.String(), to.String()}] = true
	}
	if n.walls[b] && !n.holes[[2]string{to.String(), from.String()}] {
		return true
	}
	return n.link.Loss > 0 && n.rng.Float64() < n.link.Loss
}
