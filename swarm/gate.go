package swarm

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"dunlin/wire"
)

const (
	maxShunned = 4096 // peers kept out at a time
	maxCutOffs = 32   // cut-offs remembered for Stats
)

// CutOff tells of a peer that was kept out, and why.
type CutOff struct {
	Peer   wire.PeerID
	Reason string
	Until  time.Time
}

// gate decides which peers may be connected: those with an Ed25519 identity
// that were not cut off lately. It implements libp2p's ConnectionGater.
type gate struct {
	mu      sync.Mutex
	shunned map[p2ppeer.ID]time.Time
	recent  []CutOff
}

func newGate() *gate { return &gate{shunned: make(map[p2ppeer.ID]time.Time)} }

// shun keeps pid out until the given time.
func (g *gate) shun(pid p2ppeer.ID, cut CutOff) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.shunned) >= maxShunned {
		g.evict()
	}
	g.shunned[pid] = cut.Until
	g.recent = append(g.recent, cut)
	if len(g.recent) > maxCutOffs {
		g.recent = g.recent[1:]
	}
}

// evict makes room: whoever is out longest already comes free.
func (g *gate) evict() {
	var oldest p2ppeer.ID
	for pid, until := range g.shunned {
		if oldest == "" || until.Before(g.shunned[oldest]) {
			oldest = pid
		}
	}
	delete(g.shunned, oldest)
}

func (g *gate) admits(pid p2ppeer.ID) bool {
	g.mu.Lock()
	until, out := g.shunned[pid]
	if out && !time.Now().Before(until) {
		delete(g.shunned, pid)
		out = false
	}
	g.mu.Unlock()
	if out {
		return false
	}
	_, err := wireID(pid)
	return err == nil
}

func (g *gate) cutOffs() []CutOff {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]CutOff(nil), g.recent...)
}

// InterceptPeerDial implements libp2p's ConnectionGater.
func (g *gate) InterceptPeerDial(pid p2ppeer.ID) bool { return g.admits(pid) }

// InterceptAddrDial implements libp2p's ConnectionGater.
func (g *gate) InterceptAddrDial(p2ppeer.ID, multiaddr.Multiaddr) bool { return true }

// InterceptAccept implements libp2p's ConnectionGater; before the handshake nobody is known.
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured implements libp2p's ConnectionGater.
func (g *gate) InterceptSecured(_ network.Direction, pid p2ppeer.ID, _ network.ConnMultiaddrs) bool {
	return g.admits(pid)
}

// InterceptUpgraded implements libp2p's ConnectionGater.
func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
