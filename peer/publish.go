package peer

import (
	"slices"
	"sync"
	"time"

	"dunlin/peer/contact"
	"dunlin/peer/figures"
	"dunlin/replica"
	"dunlin/status"
	"dunlin/wire"
)

// publishEvery is the pace of snapshots, which are further apart in a large run, where what workers say of themselves is
// older than that; a new attempt is shown at once, but for the least gap between two.
const (
	publishEvery  = 500 * time.Millisecond
	publishGap    = 100 * time.Millisecond
	publishSpace  = 1500 * time.Microsecond // of each peer
	publishWithin = 5 * time.Second         // however many there are
)

// publishDue makes a snapshot unless the last one is young for so large a run.
func (p *Peer) publishDue(now time.Time) {
	if now.Sub(p.published) >= min(publishWithin, time.Duration(len(p.peers))*publishSpace) {
		p.publish()
	}
}

func (p *Peer) publish() {
	now := time.Now()
	p.published, p.fresh = now, false
	v := p.view(now)
	p.figures.Look(v)
	shot := p.figures.Snapshot(v)
	if p.cfg.Publish != nil {
		p.cfg.Publish(shot)
	}
	told := *shot
	told.Invite, told.Machine = "", nil
	encode := sync.OnceValues(func() ([]byte, error) { return status.Encode(&told) }) // by whoever asks first
	p.told.Store(&encode)
}

// tellStatus answers who asks how the run goes, on any goroutine: whoever can ask knows the run, and may read it.
func (p *Peer) tellStatus() ([]byte, error) {
	encode := p.told.Load()
	if encode == nil {
		return nil, contact.ErrNotHere
	}
	b, err := (*encode)()
	if err == nil && len(b) > wire.MaxStatus {
		err = contact.ErrNotHere
	}
	return b, err
}

// view is what the figures need to know of this peer besides what they counted.
func (p *Peer) view(now time.Time) figures.View {
	c := p.core.Snapshot()
	v := figures.View{
		Now: now, Core: &c, Life: &p.life, Thanks: p.thanks, Cards: slices.Clone(p.cards), Settings: &p.settingsIn, Term: p.term,
		Lead: p.reign.Lead(), Leads: p.reign.Leads(), Connected: p.peers, Trains: p.worker != nil, Judges: p.judge != nil, Ended: p.ended,
	}
	heads := p.stateHeads()
	switch {
	case p.settingsIn.Phase != wire.PhaseEnded:
		v.State = replica.HashHeads(heads)
	case heads == nil:
		v.Ended = false // not all of it is known
		v.State = p.replica.HashHeld(p.replica.Heads())
	default:
		v.State = p.replica.HashHeld(heads)
		if p.spec.Staged() && p.cfg.Stage == wire.AllStages {
			v.Stages = p.replica.HashStages(heads)
		}
	}
	return v
}

// note keeps a decision and its reason for the page, and logs it.
func (p *Peer) note(text string) {
	p.log.Debug("decision", "text", text)
	p.figures.Note(text)
}
