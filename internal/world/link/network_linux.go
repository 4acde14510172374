package link

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"
)

// MTU is the largest packet of the hosts' interfaces, in bytes.
const MTU = 1400

// maxHosts fit the network 10.77.0.0/24.
const maxHosts = 250

// Network routes packets between hosts until Close.
type Network struct {
	mu     sync.Mutex // guards middle and hosts
	middle *middle
	hosts  []*Host
	wake   chan struct{}
	quit   chan struct{}
	done   sync.WaitGroup
}

// New starts a network without hosts. What is left to chance follows from seed.
func New(seed uint64) (*Network, error) {
	if err := available(); err != nil {
		return nil, err
	}
	n := &Network{middle: newMiddle(seed), wake: make(chan struct{}, 1), quit: make(chan struct{})}
	n.done.Add(1)
	go n.deliver()
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
	n.done.Add(1)
	go n.read(h)
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

// read takes in what a host sends.
func (n *Network) read(h *Host) {
	defer n.done.Done()
	buffer := make([]byte, MTU+64)
	for {
		size, err := h.tun.Read(buffer)
		if err != nil {
			return // closed
		}
		packet := buffer[:size]
		if size < 20 || packet[0]>>4 != 4 || packet[16] != 10 || packet[17] != 77 {
			continue // not IPv4, or to nobody here
		}
		n.mu.Lock()
		if to := int(packet[19]) - 1; to >= 0 && to < len(n.hosts) {
			n.middle.send(time.Now(), h.number, to, append([]byte(nil), packet...))
		}
		n.mu.Unlock()
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// deliver hands packets to their hosts when they are due.
func (n *Network) deliver() {
	defer n.done.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-n.quit:
			return
		case <-n.wake:
		case <-timer.C:
		}
		for {
			n.mu.Lock()
			p, at := n.middle.next(time.Now())
			var to io.Writer
			if p != nil {
				to = n.hosts[p.to].tun
			}
			n.mu.Unlock()
			if p == nil {
				if !at.IsZero() {
					timer.Reset(time.Until(at))
				}
				break
			}
			if _, err := to.Write(p.bytes); err != nil && errors.Is(err, os.ErrClosed) {
				break
			}
		}
	}
}
