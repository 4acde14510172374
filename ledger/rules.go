package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"dunlin/wire"
)

// check applies the rules of one kind of entry to the chain below it. The
// tables that entries name by hash are not at hand here: intervals, windows and
// weights are checked by those who open them.
func (c *Chain) check(e *wire.Entry, body wire.Body) error {
	switch b := body.(type) {
	case *wire.Member:
		return c.checkMember(b)
	case *wire.Lease:
		if _, ok := c.members[b.Slot]; !ok {
			return fmt.Errorf("slot %d is not a member's", b.Slot)
		}
		return nil
	case *wire.Attempt:
		return c.checkAttempt(e, b)
	case *wire.Commit:
		return c.checkCommit(b)
	case *wire.Settings:
		return c.checkSettings(b)
	case *wire.Checkpoint:
		return c.checkCheckpoint(e, b)
	}
	return fmt.Errorf("no rule for %T", body)
}

func (c *Chain) checkMember(m *wire.Member) error {
	if m.Op == wire.MemberAdmit {
		if m.Slot <= c.lastSlot {
			return fmt.Errorf("slot %d was given before, the last is %d", m.Slot, c.lastSlot)
		}
		return nil
	}
	have, ok := c.members[m.Slot]
	switch {
	case !ok:
		return fmt.Errorf("slot %d has ended or was never given", m.Slot)
	case have.Peer != m.Peer:
		return fmt.Errorf("slot %d belongs to %s, not to %s", m.Slot, have.Peer.Short(), m.Peer.Short())
	}
	return nil
}

// fragment returns a fragment's state, or an error when there is none.
func (c *Chain) fragment(i uint64) (*fragment, error) {
	if i >= uint64(len(c.fragments)) {
		return nil, fmt.Errorf("fragment %d of %d", i, len(c.fragments))
	}
	return &c.fragments[i], nil
}

func (c *Chain) checkAttempt(e *wire.Entry, a *wire.Attempt) error {
	f, err := c.fragment(a.Fragment)
	if err != nil {
		return err
	}
	last := c.lastAttempt
	switch {
	case a.ID.Term != e.Term:
		return fmt.Errorf("attempt %s in term %d", a.ID, e.Term)
	case a.ID.Term == last.Term && a.ID.Counter <= last.Counter:
		return fmt.Errorf("attempt %s after attempt %s", a.ID, last)
	case a.Base != f.head.Version:
		return fmt.Errorf("fragment %d: base version %d, its head is %d", a.Fragment, a.Base, f.head.Version)
	}
	return nil
}

// checkCommit is R7's compare-and-append.
func (c *Chain) checkCommit(m *wire.Commit) error {
	f, err := c.fragment(m.Fragment)
	if err != nil {
		return err
	}
	known := m.Base > 0 || c.rules.State0 != nil
	switch {
	case m.Base != f.head.Version:
		return fmt.Errorf("fragment %d: base version %d, its head is %d", m.Fragment, m.Base, f.head.Version)
	case known && m.BaseState != f.head.State:
		return fmt.Errorf("fragment %d: base state %s, its head is %s", m.Fragment, m.BaseState.Short(), f.head.State.Short())
	case f.attempt.Counter == 0 || f.base != m.Base:
		return fmt.Errorf("fragment %d: no attempt is open on version %d", m.Fragment, m.Base)
	case m.Attempt != f.attempt:
		return fmt.Errorf("fragment %d: attempt %s, the newest is %s", m.Fragment, m.Attempt, f.attempt)
	case m.Settings != c.settingsID:
		return fmt.Errorf("settings %s, those in force are %s", m.Settings.Short(), c.settingsID.Short())
	case m.Tokens < c.tokens:
		return fmt.Errorf("%d tokens after %d", m.Tokens, c.tokens)
	}
	return nil
}

// checkSettings lets a tuning begin only above what may be under way, and never
// vanish (R9).
func (c *Chain) checkSettings(s *wire.Settings) error {
	before, t := c.settings.Tuning, s.Tuning
	switch {
	case t == nil && before == nil:
		return nil
	case t == nil:
		return errors.New("it drops the tuning in force")
	case len(t.From) != len(c.fragments):
		return fmt.Errorf("tuning of %d fragments, the run has %d", len(t.From), len(c.fragments))
	case before.Same(t) && slices.Equal(before.From, t.From):
		return nil
	}
	for i, from := range t.From {
		if head := c.fragments[i].head.Version; from < head+wire.TuningAhead {
			return fmt.Errorf("tuning of fragment %d from version %d, its head is %d", i, from, head)
		}
	}
	return nil
}

func (c *Chain) checkCheckpoint(e *wire.Entry, p *wire.Checkpoint) error {
	switch {
	case len(p.Fragments) != len(c.fragments):
		return fmt.Errorf("%d fragments of %d", len(p.Fragments), len(c.fragments))
	case p.At >= e.Height:
		return fmt.Errorf("of height %d, which is not below it", p.At)
	}
	if p.Complete {
		if held, ok := c.announced[p.At]; !ok || held != contents(p) {
			return fmt.Errorf("completes one of height %d that was not announced", p.At)
		}
		return nil
	}
	if p.At < c.lastCommit {
		return fmt.Errorf("of height %d, a commit stands at %d", p.At, c.lastCommit)
	}
	for i, h := range p.Fragments {
		ours := c.fragments[i].head
		known := ours.Version > 0 || c.rules.State0 != nil
		if h.Version != ours.Version || (known && h.State != ours.State) {
			return fmt.Errorf("fragment %d at version %d, its head is %d", i, h.Version, ours.Version)
		}
	}
	if p.Tokens != c.tokens {
		return fmt.Errorf("%d tokens, %d are committed", p.Tokens, c.tokens)
	}
	return nil
}

// contents identifies what a checkpoint holds, complete or not.
func contents(p *wire.Checkpoint) wire.Hash {
	q := *p
	q.Complete = false
	return wire.HashLeaf(wire.Encode(&q))
}

// take moves the state to a checked entry's body.
func (c *Chain) take(height uint64, body wire.Body) {
	switch b := body.(type) {
	case *wire.Member:
		if b.Op == wire.MemberAdmit {
			c.members[b.Slot] = *b
			c.lastSlot = b.Slot
		} else {
			delete(c.members, b.Slot)
		}
	case *wire.Lease: // who holds which windows is the coordinator's book
	case *wire.Attempt:
		f := &c.fragments[b.Fragment]
		f.attempt, f.base = b.ID, b.Base
		c.lastAttempt = b.ID
	case *wire.Commit:
		c.fragments[b.Fragment].head = wire.FragmentHead{Version: b.Base + 1, State: b.State}
		c.tokens = b.Tokens
		c.lastCommit = height
	case *wire.Settings:
		c.settings, c.settingsID = *b, b.Hash()
	case *wire.Checkpoint:
		c.takeCheckpoint(b)
	}
}

func (c *Chain) takeCheckpoint(p *wire.Checkpoint) {
	if !p.Complete {
		c.announced[p.At] = contents(p)
		if len(c.announced) > maxAnnounced { // one that nobody completed
			delete(c.announced, slices.Min(slices.Collect(maps.Keys(c.announced))))
		}
		return
	}
	c.complete = *p
	for at := range c.announced {
		if at <= p.At { // an older one will not be wanted any more
			delete(c.announced, at)
		}
	}
}
