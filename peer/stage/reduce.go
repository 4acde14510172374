package stage

import (
	"slices"

	"dunlin/peer/worker"
	"dunlin/pipeline"
	"dunlin/recipe"
	"dunlin/wire"
)

// reduction is how the members of a stage add up a step that all make together: each
// gives its sum to every other, and all add in the order of the close, so that they get
// the same bits.
type reduction struct {
	close *wire.StageClose // the newest, nil before the first
	added bool             // the worker was asked to add
	sums  []memberSum      // newest last; some come before the close does
}

// memberSum is what another member has counted of a close.
type memberSum struct {
	from wire.PeerID
	of   wire.StageSum
	sum  []byte
}

func (m memberSum) isOf(c *wire.StageClose) bool {
	return m.of.Trainer == c.Trainer && m.of.Step == c.Step && m.of.Try == c.Try && m.of.Edition == c.Edition
}

// summed keeps another member's sum until the close is here. Of a step that is made here
// already nothing is kept.
func (p *Pipe) summed(from wire.PeerID, of *wire.StageSum, sum []byte) {
	if !p.spec.Synchronous || of.Stage != uint64(p.stage) || of.Bytes != 4*p.stageValues() || of.Step < p.version || !p.member(from) {
		return
	}
	r := &p.reduction
	r.sums = slices.DeleteFunc(r.sums, func(m memberSum) bool { return m.from == from }) // a member has one at a time
	if len(r.sums) == wire.MaxMembers {
		r.sums = r.sums[1:]
	}
	r.sums = append(r.sums, memberSum{from, *of, sum})
	p.reduce()
}

// member reports whether a peer adds up with this one: by the log, or by the close, which
// may be ahead of what this peer knows of the log.
func (p *Pipe) member(id wire.PeerID) bool {
	if c := p.reduction.close; c != nil && slices.Contains(c.Members, id) {
		return true
	}
	for _, l := range p.listed {
		if l.Peer == id && l.Stage == p.stage {
			return true
		}
	}
	return false
}

// stageValues counts the parameters of this peer's stage.
func (p *Pipe) stageValues() uint64 { return recipe.StageSize(p.spec, p.stage) }

// exchange gives the other members this peer's sum.
func (p *Pipe) exchange(ev worker.SumTaken) {
	c := ev.Close
	if p.reduction.close != c {
		return // a later one is in force
	}
	if ev.Err != nil {
		p.reduceFailed(ev.Err.Error())
		return
	}
	of := &wire.StageSum{Trainer: c.Trainer, Step: c.Step, Try: c.Try, Edition: c.Edition, Stage: c.Stage, Bytes: uint64(len(ev.Sum))}
	for _, member := range c.Members {
		if member == p.self {
			continue
		}
		if err := p.transport.Pass(member, wire.EncodePassed(of, ev.Sum)); err != nil {
			p.reduceFailed("no sum to " + member.Short() + ": " + err.Error())
			return
		}
	}
	p.reduce()
}

// reduce adds up once every member's sum is here.
func (p *Pipe) reduce() {
	c := p.reduction.close
	if c == nil || p.reduction.added {
		return
	}
	sums := make([][]byte, len(c.Members))
	for i, member := range c.Members {
		if member == p.self {
			continue
		}
		j := slices.IndexFunc(p.reduction.sums, func(m memberSum) bool {
			return m.from == member && m.isOf(c)
		})
		if j < 0 {
			return
		}
		sums[i] = p.reduction.sums[j].sum
	}
	p.reduction.added = true
	p.reduction.sums = slices.DeleteFunc(p.reduction.sums, func(m memberSum) bool { return m.isOf(c) })
	p.worker.Put(worker.ReduceOrder{Close: c, Sums: sums})
}

func (p *Pipe) reduced(ev worker.SumsReduced) {
	c := ev.Close
	if ev.Err != nil {
		p.toServer(pipeline.ReduceFailed{Step: c.Step, Try: c.Try, Edition: c.Edition, Reason: ev.Err.Error()})
		return
	}
	p.toServer(pipeline.Reduced{Step: c.Step, Try: c.Try, Edition: c.Edition, NormSq: ev.NormSq})
}

func (p *Pipe) reduceFailed(reason string) {
	c := p.reduction.close
	p.reduction.added = true // nothing more comes of this one
	p.toServer(pipeline.ReduceFailed{Step: c.Step, Try: c.Try, Edition: c.Edition, Reason: reason})
}

// reduceWithout gives up adding with a member that is gone.
func (p *Pipe) reduceWithout(gone wire.PeerID) {
	p.reduction.sums = slices.DeleteFunc(p.reduction.sums, func(m memberSum) bool { return m.from == gone })
	if c := p.reduction.close; c != nil && !p.reduction.added && slices.Contains(c.Members, gone) {
		p.reduceFailed(gone.Short() + " is gone")
	}
}

// catchUp follows a trainer that is at a later step: this peer joined in the middle, or
// missed steps. Its weights are the last commit's and its own steps since, which the next
// rounds bring together with the others'.
func (p *Pipe) catchUp(step uint64) {
	if p.spec.Synchronous && p.serving && !p.stepping && step > p.version {
		p.version = step
		p.toServer(pipeline.Moved{Version: step})
	}
}
