package reign

import (
	"context"
	"slices"

	"dunlin/peer/contact"
	"dunlin/wire"
)

// reachAll connects to every coordinator and keeps the connections up.
func (r *Reign) reachAll(ctx context.Context) {
	for _, id := range r.cfg.Spec.Coordinators {
		addrs := contact.Merged(r.cfg.Book.Of(id), r.cfg.Known[id])
		if id == r.cfg.Self || len(addrs) == 0 {
			continue
		}
		r.driver.Spawn(func() { r.reach(ctx, id, addrs) })
	}
}

func (r *Reign) reach(ctx context.Context, id wire.PeerID, addrs []string) {
	ctx, cancel := context.WithTimeout(ctx, contact.DialWithin)
	defer cancel()
	_ = r.network.Connect(ctx, id, addrs) // the network tries again
}

// seek asks whoever is connected where the coordinators are that are not.
func (r *Reign) seek(ctx context.Context) {
	if !r.several() || r.seeking {
		return
	}
	var missing, there []wire.PeerID
	for _, id := range r.cfg.Spec.Coordinators {
		switch {
		case id == r.cfg.Self:
		case r.cfg.Peers[id]:
			there = append(there, id)
		default:
			missing = append(missing, id)
		}
	}
	for id := range r.cfg.Peers {
		if len(there) < contact.MaxAsked && !r.Coordinates(id) {
			there = append(there, id)
		}
	}
	if len(missing) == 0 || len(there) == 0 {
		return
	}
	r.seeking = true
	r.driver.Spawn(func() {
		defer r.driver.Report(soughtAll{})
		ctx, cancel := context.WithTimeout(ctx, contact.AskWithin)
		defer cancel()
		for _, id := range there {
			for _, k := range contact.Hearsay(ctx, r.network, id) {
				if slices.Contains(missing, k.Peer) {
					r.reach(ctx, k.Peer, k.Addrs)
				}
			}
		}
	})
}

// soughtAll says that a search for coordinators has ended.
type soughtAll struct{}

func (soughtAll) reignEvent() {}
