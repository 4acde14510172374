package coordinator

import (
	"slices"
	"time"

	"dunlin/wire"
)

// enoughHolders is how many peers must hold a checkpoint before it is
// complete, where the run has that many.
const enoughHolders = 3

// checkpoints is when to mark a state and what may be deleted behind it.
type checkpoints struct {
	since  uint64             // commits since the last mark
	commit uint64             // height of the newest commit
	open   *wire.Checkpoint   // newest mark, not complete yet
	done   []*wire.Checkpoint // the two newest complete ones, older first
	seed   uint64             // that this coordinator's own seed holds
	told   uint64             // last collected below
	syncer wire.PeerID        // for whom bytes were kept when last looked
	due    time.Time          // since when more may be collected but for peers that sync; zero: nothing may
}

func (c *checkpoints) committed(height uint64) {
	c.since++
	c.commit = height
}

// logged moves by a checkpoint entry. A mark that another commit overtook on
// its way into the log marks a state that peers may have left already, so it
// is made again.
func (c *checkpoints) logged(b *wire.Checkpoint, heads []wire.FragmentHead) {
	if !b.Complete {
		if c.open = b; slices.Equal(b.Fragments, heads) {
			c.since = 0
		}
		return
	}
	if c.open != nil && c.open.At == b.At {
		c.open = nil
	}
	if len(c.done) == 0 || c.done[len(c.done)-1].At < b.At {
		c.done = append(c.done, b)
		c.done = c.done[max(0, len(c.done)-2):]
	}
}

// proposeMark marks a state every so many commits.
func (m *Machine) proposeMark() {
	c := &m.points
	if c.since >= m.cfg.Spec.Checkpoint && !m.marking() {
		m.append(proposal{kind: wire.KindCheckpoint, at: c.commit}, &wire.Checkpoint{
			At: c.commit, Fragments: slices.Clone(m.heads), Tokens: m.tokens,
		})
	}
}

// proposeComplete says when enough peers hold the newest mark.
func (m *Machine) proposeComplete() {
	c := &m.points
	if c.open == nil || m.cfg.Spec.Staged() && c.seed != c.open.At { // peers hold one stage each, the seed all of them
		return
	}
	holders, others := 0, 1
	if c.seed == c.open.At {
		holders++
	}
	for _, b := range m.members {
		if m.active(b) {
			others++
		}
		if b.away == "" && b.beat.Holds == c.open.At {
			holders++
		}
	}
	if holders >= min(enoughHolders, others) {
		whole := *c.open
		whole.Complete = true
		m.append(proposal{kind: wire.KindCheckpoint, at: whole.At, complete: true}, &whole)
	}
}

// marking reports whether a mark is on its way into the log.
func (m *Machine) marking() bool {
	for key := range m.proposed {
		if key.kind == wire.KindCheckpoint && !key.complete {
			return true
		}
	}
	return false
}

// KeepFrom returns the height below which nothing is needed any more: the
// second newest complete checkpoint, lower while a peer that is syncing has
// not passed it. 0 keeps everything.
func (m *Machine) KeepFrom() uint64 {
	keep, _ := m.keepFrom()
	return max(keep, m.points.told) // what is gone is needed no more
}

// keepFrom is KeepFrom and for whom it is lower than the checkpoint.
func (m *Machine) keepFrom() (keep uint64, syncer wire.PeerID) {
	if len(m.points.done) < 2 {
		return 0, syncer
	}
	keep = m.points.done[0].At
	for peer, v := range m.peers {
		if v.height < keep && m.holds(v) {
			keep, syncer = v.height, peer
		}
	}
	return keep, syncer
}

// holds reports whether a visitor is syncing and gets on with it: a hold that it
// renews with every height it reaches. All holds together end after a while, or
// peers that come again and again would fill this coordinator's disk.
func (m *Machine) holds(v *visitor) bool {
	syncing := v.beat.State == wire.StateSyncing || (v.beat.State == 0 && v.hello != nil)
	return syncing && m.now.Before(v.moved.Add(holdWindow)) && (m.points.due.IsZero() || m.now.Before(m.points.due.Add(holdLongest)))
}

func (m *Machine) collect() {
	c := &m.points
	if m.reign.phase != leading || len(c.done) < 2 || c.done[0].At <= c.told {
		return
	}
	if c.due.IsZero() {
		c.due = m.now
	}
	if v := m.peers[c.syncer]; v != nil && v.height <= c.told && m.holds(v) {
		return // still the one
	}
	var keep uint64
	if keep, c.syncer = m.keepFrom(); keep > c.told {
		c.told = keep
		m.do(Collect{Below: keep})
	}
	if c.told >= c.done[0].At {
		c.due = time.Time{}
	}
}
