package sim

import (
	"errors"
	"fmt"

	"dunlin/catchup"
	"dunlin/peer/core"
	"dunlin/replica"
	"dunlin/wire"
)

// obey carries out one order to the replica and reports.
func (p *process) obey(order catchup.Effect) {
	var answer catchup.Event
	switch o := order.(type) {
	case catchup.Prepare:
		answer = p.prepare(o)
	case catchup.Promote:
		answer = p.promote(o)
	case catchup.Apply:
		answer = p.apply(o)
	case catchup.SaveCheckpoint:
		answer = p.save(o)
	case catchup.LoadCheckpoint:
		answer = p.load(o)
	case catchup.DropShadow:
		delete(p.shadows, shadowKey{o.Fragment, o.Attempt, o.Result})
		return
	default:
		return
	}
	p.report(func() { p.next(answer) })
	p.rehash()
}

// rehash says to which state the replica is hashed, once the run has ended.
func (p *process) rehash() {
	if n := len(p.settings); n > 0 && p.settings[n-1].Phase == wire.PhaseEnded {
		heads := p.replica.Recompute()
		p.report(func() { p.next(core.StateHashed{Heads: heads}) })
	}
}

func (p *process) frames(table *wire.CommitTable) ([][]byte, error) {
	frames := make([][]byte, len(table.Slabs))
	for i, s := range table.Slabs {
		b, ok := p.h.disk.blobs[s.Hash]
		if !ok {
			return nil, fmt.Errorf("frame of slab %d: %w", i, errNotHere)
		}
		frames[i] = b
	}
	return frames, nil
}

// outer computes an outer step on a shadow; a faulty machine gets it wrong.
func (p *process) outer(fragment, base uint64, table *wire.CommitTable) (*replica.Shadow, error) {
	frames, err := p.frames(table)
	if err != nil {
		return nil, err
	}
	if p.h.flips > 0 {
		p.h.flips--
		p.h.flipped = true
		other, err := p.w.result.Encode(nil, make([]float32, p.w.configs[fragment].Layout.Values()/len(frames)))
		if err == nil {
			frames[0] = other
		}
	}
	return p.replica.Prepare(int(fragment), base, frames)
}

func (p *process) prepare(o catchup.Prepare) catchup.Event {
	result := o.Table.ResultRoot()
	s, err := p.outer(o.Fragment, o.Base, o.Table)
	if err == nil && !p.w.has(BugHaveBeforeSync) {
		err = p.h.sync()
	}
	if err != nil {
		failed := catchup.PrepareFailed{Fragment: o.Fragment, Base: o.Base, Attempt: o.Attempt, Result: result, Reason: err.Error()}
		if slab := (*replica.SlabError)(nil); errors.As(err, &slab) {
			failed.Garbage, failed.Slab = true, uint64(slab.Slab)
		}
		return failed
	}
	p.shadows[shadowKey{o.Fragment, o.Attempt, result}] = s
	if p.w.has(BugAppliedEarly) {
		c := &wire.Commit{Fragment: o.Fragment, Base: o.Base, BaseState: p.replica.Heads()[o.Fragment].State, Result: s.Result(), State: s.State()}
		_ = p.replica.Promote(s, c) // the referee looks at what became of it
		p.w.referee.appliedState(p)
	}
	return catchup.Prepared{Fragment: o.Fragment, Base: o.Base, Attempt: o.Attempt, Result: result, State: s.State()}
}

func (p *process) promote(o catchup.Promote) catchup.Event {
	key := shadowKey{o.Commit.Fragment, o.Commit.Attempt, o.Commit.Result}
	s := p.shadows[key]
	if s == nil {
		return catchup.ApplyFailed{Height: o.Height, Reason: "the result is no longer prepared"}
	}
	delete(p.shadows, key)
	return p.make(o.Height, o.Commit, s)
}

func (p *process) apply(o catchup.Apply) catchup.Event {
	s, err := p.outer(o.Commit.Fragment, o.Commit.Base, o.Table)
	if err == nil {
		err = p.h.sync()
	}
	if err != nil {
		return catchup.ApplyFailed{Height: o.Height, Reason: err.Error()}
	}
	return p.make(o.Height, o.Commit, s)
}

// make makes a shadow the state because of a commit.
func (p *process) make(height uint64, c *wire.Commit, s *replica.Shadow) catchup.Event {
	state, result := s.State(), s.Result()
	if p.w.has(BugStateNotCompared) {
		blind := *c
		blind.State, blind.Result, blind.BaseState = state, result, p.replica.Heads()[c.Fragment].State
		c = &blind
		state = c.State
	}
	err := p.replica.Promote(s, c)
	switch {
	case errors.Is(err, replica.ErrDiverged):
		return catchup.Applied{Height: height, State: state}
	case errors.Is(err, replica.ErrOther) && state != c.State: // the machine that computed it was at fault
		return catchup.Applied{Height: height, State: state}
	case err != nil:
		return catchup.ApplyFailed{Height: height, Reason: err.Error()}
	}
	p.w.referee.appliedState(p)
	version, weights := p.replica.Weights(int(c.Fragment))
	fragment := c.Fragment
	p.report(func() { p.weights[fragment] = committed{version, weights} })
	if p.w.has(BugStateNotCompared) {
		body, _ := p.h.disk.entries[height-1].Entry.Body() // it was logged
		return catchup.Applied{Height: height, State: body.(*wire.Commit).State}
	}
	return catchup.Applied{Height: height, State: c.State}
}

func (p *process) save(o catchup.SaveCheckpoint) catchup.Event {
	manifests := map[wire.Hash][]byte{}
	names, err := p.replica.Save(blobs{p.h}, o.At, func(head []byte) error {
		h, err := replica.DecodeHead(head, p.w.run)
		if err != nil {
			return err
		}
		for _, f := range h.Fragments {
			manifests[f.State] = p.h.disk.blobs[f.Manifest]
		}
		return nil
	})
	if err != nil {
		return catchup.SaveFailed{At: o.At, Reason: err.Error()}
	}
	p.h.disk.pins[o.At] = append(p.h.disk.pins[o.At], names...)
	p.h.disk.manifests[o.At] = manifests
	return catchup.CheckpointSaved(o)
}

func (p *process) load(o catchup.LoadCheckpoint) catchup.Event {
	loaded, err := p.restore(o)
	if err != nil {
		return catchup.LoadFailed{At: o.At, Reason: err.Error()}
	}
	clear(p.shadows)
	loaded.Govern(p.settings...)
	p.replica = loaded
	p.w.referee.appliedState(p)
	return catchup.Loaded{At: o.At}
}

func (p *process) restore(o catchup.LoadCheckpoint) (*replica.Replica, error) {
	slabValues := p.w.sc.Setup.SlabValues
	if o.At == 0 {
		return replica.NewFlat(p.w.spec, slabValues)
	}
	view := p.replica.View()
	manifests := make([]wire.Manifest, len(o.Manifests))
	own := map[wire.Hash][]byte{}
	for f, m := range o.Manifests {
		if m != nil {
			manifests[f] = *m
			continue
		}
		manifests[f] = view.Manifest(f)
		for i, h := range manifests[f].Slabs {
			own[h] = view.SlabBytes(nil, f, i)
		}
	}
	return replica.RestoreFlat(p.w.spec, slabValues, o.Fragments, manifests, func(h wire.Hash) ([]byte, error) {
		if b, ok := own[h]; ok {
			return b, nil
		}
		return blobs{p.h}.Get(h, 0)
	})
}
