package main

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"dunlin/folder"
	"dunlin/peer/reign"
	"dunlin/swarm"
	"dunlin/swarm/group"
	"dunlin/wire"
)

// makeSeats makes the keys of a new run's other coordinators, each in a data folder of its own, and lists all, the own first.
func (c *Config) makeSeats(home folder.Folder, own ed25519.PrivateKey) ([]wire.PeerID, error) {
	ids := []wire.PeerID{wire.PeerIDOf(own)}
	for n := 2; n <= c.Coordinators; n++ {
		seat := home.Seat(n)
		if err := os.MkdirAll(seat.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("make a coordinator's seat: %w", err)
		}
		key, err := swarm.LoadOrCreateKey(seat.Identity())
		if err != nil {
			return nil, err
		}
		ids = append(ids, wire.PeerIDOf(key))
	}
	return ids, nil
}

// fillSeats gives the seats of a new run what they begin with.
func (c *Config) fillSeats(home folder.Folder, run wire.Hash, signed *wire.SignedSpec, secret []byte) error {
	for n := 2; n <= c.Coordinators; n++ {
		if err := home.Seat(n).Save(run, signed, secret); err != nil {
			return err
		}
	}
	return nil
}

// introduce tells the seats that were not moved yet where this coordinator is, and lists them.
func introduce(home folder.Folder, run wire.Hash, self wire.PeerID, addrs []string) ([]string, error) {
	seats, err := home.Seats()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, seat := range seats {
		if current, err := seat.Current(); err != nil || current != run {
			continue
		}
		if err := seat.Introduce(run, []wire.Known{{Peer: self, Addrs: first(addrs, wire.MaxAddrs)}}); err != nil {
			return nil, err
		}
		dirs = append(dirs, seat.Dir)
	}
	return dirs, nil
}

// whereabouts turns a list of peers into what a peer.Config wants.
func whereabouts(known []wire.Known) map[wire.PeerID][]string {
	out := make(map[wire.PeerID][]string, len(known))
	for _, k := range known {
		out[k.Peer] = k.Addrs
	}
	return out
}

// agree starts this coordinator's part in the group of several; it is nil where there is one.
func agree(spec *wire.RunSpec, self wire.PeerID, dir string, host func() *swarm.Host, log *slog.Logger) func(*reign.Reign) (reign.Agreement, error) {
	if len(spec.Coordinators) == 1 {
		return nil
	}
	return func(r *reign.Reign) (reign.Agreement, error) {
		g, err := group.Open(group.Config{Self: self, Members: spec.Coordinators, Dir: dir, Caller: host(), Handler: r, Logger: log})
		if err != nil {
			return nil, err // not a nil *Group in an interface
		}
		return g, nil
	}
}

// addrsOfOthers is how many addresses of each other coordinator an invite holds, so that it stays a line that can be pasted.
const addrsOfOthers = 4

// neighbours keeps where the run's other coordinators are, for its invites.
type neighbours struct {
	ids  []wire.PeerID // of all coordinators
	self wire.PeerID

	mu    sync.Mutex
	known []wire.Known // peers of any kind
}

// list returns the other coordinators whose addresses are known.
func (n *neighbours) list() []wire.Known {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []wire.Known
	for _, k := range n.known {
		if k.Peer != n.self && slices.Contains(n.ids, k.Peer) {
			out = append(out, wire.Known{Peer: k.Peer, Addrs: first(bare(slices.Clone(k.Addrs)), addrsOfOthers)})
		}
	}
	return out
}

// news looks where the others are now and reports whether that has changed.
func (n *neighbours) news(host *swarm.Host) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range n.ids {
		if id == n.self {
			continue
		}
		addrs := host.AddrsOf(id)
		i := slices.IndexFunc(n.known, func(k wire.Known) bool { return k.Peer == id })
		switch {
		case len(addrs) == 0 || i >= 0 && slices.Equal(n.known[i].Addrs, addrs):
		case i < 0:
			n.known = append(n.known, wire.Known{Peer: id, Addrs: addrs})
			changed = true
		default:
			n.known[i].Addrs = addrs
			changed = true
		}
	}
	return changed
}

// checkSeat says that a data folder's key is not one of its run's coordinators.
func checkSeat(spec *wire.RunSpec, self wire.PeerID) error {
	if !slices.Contains(spec.Coordinators, self) {
		return fmt.Errorf("the key in this data folder, %s, is none of the coordinators of run %q: give the folder of one with --data-dir, or join the run", self.Short(), spec.Name)
	}
	return nil
}
