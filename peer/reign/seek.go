package peer

import (
	"context"
	"slices"
	"time"

	"dunlin/peer/contact"
	"dunlin/peer/core"
	"dunlin/wire"
)

// isCoordinator reports whether a peer is one of the run's coordinators.
func (p *Peer) isCoordinator(id wire.PeerID) bool { return slices.Contains(p.spec.Coordinators, id) }

// several reports whether the run has more than one coordinator.
func (p *Peer) several() bool { return len(p.spec.Coordinators) > 1 }

// coordinators lists those of the run but this peer, the one that leads first.
func (p *Peer) coordinators() []wire.PeerID {
	var out []wire.PeerID
	for _, id := range append([]wire.PeerID{p.lead}, p.spec.Coordinators...) {
		if id != p.self && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// follow takes in whose reign it is by what somebody says; the highest term holds.
func (p *Peer) follow(m *wire.Leads) {
	if m.Term <= p.leads.Term || m.Key >= uint64(len(p.spec.Coordinators)) {
		return
	}
	p.leads = *m
	p.lead = p.spec.Coordinators[m.Key]
	p.log.Info("leads", "coordinator", p.lead.Short(), "term", m.Term)
	p.conveyAgain()
	p.convey()
	p.next(core.Leads{Peer: p.lead, Up: p.lead == p.self || p.peers[p.lead]})
}

// toldLeads hears of a reign. A coordinator among several knows from what was
// agreed on; that another claims to lead shows it that somebody does.
func (p *Peer) toldLeads(from wire.PeerID, m *wire.Leads) {
	if !p.several() || !p.isCoordinator(from) {
		p.note("who leads is told by " + from.Short() + ", who is not a coordinator among several; it is dropped")
		return
	}
	p.learned(from, true)
	if p.council == nil {
		p.follow(m)
		return
	}
	if m.Key < uint64(len(p.spec.Coordinators)) && p.spec.Coordinators[m.Key] == from {
		p.council.claimed = max(p.council.claimed, m.Term)
		p.advanceCouncil()
	}
}

// meetCoordinator greets one of several coordinators: it is told whose reign it
// is, and a worker's head, which one that is about to lead has to know (R7). It is
// asked for the others at once: it may be gone by the next search.
func (p *Peer) meetCoordinator(ctx context.Context, id wire.PeerID) {
	if !p.several() || !p.isCoordinator(id) {
		return
	}
	p.seekCoordinators(ctx)
	if p.council != nil {
		p.tell(id, p.council.seat.Own(1))
	} else if id != p.lead && p.cfg.NewEngine != nil {
		p.helloTo(id, p.slot)
	}
}

// reachAll connects to every coordinator and keeps the connections up.
func (p *Peer) reachAll(ctx context.Context) {
	for _, id := range p.spec.Coordinators {
		addrs := contact.Merged(p.book.Of(id), p.cfg.Coordinators[id])
		if id == p.self || len(addrs) == 0 {
			continue
		}
		p.wg.Go(func() { p.reach(ctx, id, addrs) })
	}
}

func (p *Peer) reach(ctx context.Context, id wire.PeerID, addrs []string) {
	ctx, cancel := context.WithTimeout(ctx, contact.DialWithin)
	defer cancel()
	_ = p.transport.Connect(ctx, id, addrs) // the network tries again
}

// seedPause is the time between two tries to have the run's text.
const seedPause = 5 * time.Second

// seedData has a coordinator among several hold the run's text, so that it can
// give it to workers and measure held-out loss when it leads.
func (p *Peer) seedData(ctx context.Context) {
	shards := p.spec.Data.Shards()
	from := p.coordinators()
	p.wg.Go(func() {
		for p.shards.Fetch(ctx, shards, from) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(seedPause):
			}
		}
	})
}

// seekEvery is how many snapshots lie between two searches for coordinators.
const seekEvery = 10

// seekCoordinators asks whoever is connected where the coordinators are that are not.
func (p *Peer) seekCoordinators(ctx context.Context) {
	if !p.several() || p.sought {
		return
	}
	var missing, there []wire.PeerID
	for _, id := range p.spec.Coordinators {
		switch {
		case id == p.self:
		case p.peers[id]:
			there = append(there, id)
		default:
			missing = append(missing, id)
		}
	}
	for id := range p.peers {
		if len(there) < contact.MaxAsked && !p.isCoordinator(id) {
			there = append(there, id)
		}
	}
	if len(missing) == 0 || len(there) == 0 {
		return
	}
	p.sought = true
	p.wg.Go(func() {
		defer p.inbox.Put(soughtAll{})
		ctx, cancel := context.WithTimeout(ctx, contact.AskWithin)
		defer cancel()
		for _, id := range there {
			for _, k := range contact.Hearsay(ctx, p.transport, id) {
				if slices.Contains(missing, k.Peer) {
					p.reach(ctx, k.Peer, k.Addrs)
				}
			}
		}
	})
}

// soughtAll says that a search for coordinators has ended.
type soughtAll struct{}
