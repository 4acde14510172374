package link

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// MTU is the largest packet of the hosts' interfaces, in bytes.
const MTU = 1400

// maxHosts fit the network 10.77.0.0/24.
const maxHosts = 250

// tick is how often packets are taken in and handed out. Waking for each would take from the hosts, which share the processors,
// more than what most of them compute for the packet.
const tick = 2 * time.Millisecond

// Network routes packets between hosts until Close.
type Network struct {
	mu     sync.Mutex // guards middle and hosts
	middle *middle
	hosts  []*Host
	quit   chan struct{}
	done   sync.WaitGroup
}

// New starts a network without hosts. What is left to chance follows from seed.
func New(seed uint64) (*Network, error) {
	if err := available(); err != nil {
		return nil, err
	}
	n := &Network{middle: newMiddle(seed), quit: make(chan struct{})}
	n.done.Go(n.route)
	return n, nil
}

// Host makes a host behind a link.
func (n *Network) Host(p Path) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.hosts) == maxHosts {
		return nil, fmt.Errorf("a network has at most %d hosts", maxHosts)
	}
	h, err := newHost(netip.AddrFrom4([4]byte{10, 77, 0, byte(len(n.hosts) + 1)}))
	if err != nil {
		return nil, err
	}
	h.network, h.number = n, n.middle.add(p)
	n.hosts = append(n.hosts, h)
	return h, nil
}

// Cut drops what one host sends to another; the other way is left as it is.
func (n *Network) Cut(from, to *Host) { n.set(from, to, true) }

// Heal ends a Cut.
func (n *Network) Heal(from, to *Host) { n.set(from, to, false) }

func (n *Network) set(from, to *Host, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.middle.cut[[2]int{from.number, to.number}] = cut
}

// Isolate cuts a host off from all others, both ways, or heals it.
func (n *Network) Isolate(h *Host, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.hosts {
		n.middle.cut[[2]int{h.number, other.number}], n.middle.cut[[2]int{other.number, h.number}] = cut, cut
	}
}

// Close ends all processes of all hosts and waits for them and for the network's goroutines.
func (n *Network) Close() error {
	n.mu.Lock()
	hosts := n.hosts
	n.mu.Unlock()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.close())
	}
	close(n.quit)
	n.done.Wait()
	return errors.Join(errs...)
}

// route takes in what the hosts send and hands them what is due, at every tick.
func (n *Network) route() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	buffer := make([]byte, MTU+64)
	for {
		select {
		case <-n.quit:
			return
		case <-ticker.C:
		}
		n.mu.Lock()
		now := time.Now()
		for _, h := range n.hosts {
			for packet := h.sent(buffer); packet != nil; packet = h.sent(buffer) {
				if to := int(packet[19]) - 1; to >= 0 && to < len(n.hosts) {
					n.middle.send(now, h.number, to, bytes.Clone(packet))
				}
			}
		}
		for p, _ := n.middle.next(now); p != nil; p, _ = n.middle.next(now) {
			_, _ = n.hosts[p.to].tun.Write(p.bytes) // a host that is closed, or overrun, loses it
		}
		n.mu.Unlock()
	}
}
