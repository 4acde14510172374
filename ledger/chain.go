package ledger

import (
	"errors"
	"fmt"
	"maps"

	"dunlin/wire"
)

// Errors that callers branch on.
var (
	// ErrDropped says that an entry breaks a rule of the log; the text says
	// which. The chain is as before.
	ErrDropped = errors.New("entry dropped")
	// ErrKnown says that the very same entry is in the chain already.
	ErrKnown = errors.New("entry is known")
	// ErrGap says that entries below this one are missing; fetch them first.
	ErrGap = errors.New("entries below are missing")
	// ErrFork says that two certified entries share a height. ForkError has them.
	ErrFork = errors.New("two certified entries at one height")
)

// ForkError names the two entries that a majority of the coordinators signed at
// one height: a key was copied or a backup was restored beside the original.
// The run cannot go on.
type ForkError struct {
	Height       uint64
	Ours, Theirs wire.Hash
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("ledger is forked: %v: at height %d both %s and %s are certified: stop all coordinators and ask the organiser which one holds",
		ErrFork, e.Height, e.Ours, e.Theirs)
}

// Unwrap makes errors.Is(err, ErrFork) true.
func (e *ForkError) Unwrap() error { return ErrFork }

// Rules is what a run's entries are checked against, all from its RunSpec.
type Rules struct {
	Run       wire.Hash
	Keys      []wire.PeerID // the coordinators', in the RunSpec's order
	Fragments int
	// State0 is the state hash of each fragment's version 0, or nil when it has
	// not been computed; then a first commit's base state is not compared.
	State0 []wire.Hash
}

// RulesOf returns the rules of a run; state0 may be nil.
func RulesOf(spec *wire.RunSpec, state0 []wire.Hash) Rules {
	return Rules{Run: spec.ID(), Keys: spec.Coordinators, Fragments: int(spec.Fragments), State0: state0}
}

// Validate says what is wrong with rules.
func (r Rules) Validate() error {
	switch {
	case r.Run.IsZero():
		return errors.New("ledger rules: no run id")
	case len(r.Keys) < 1 || len(r.Keys) > wire.MaxKeys:
		return fmt.Errorf("ledger rules: %d coordinator keys, 1 to %d are allowed", len(r.Keys), wire.MaxKeys)
	case r.Fragments < 1 || r.Fragments > wire.MaxFragments:
		return fmt.Errorf("ledger rules: %d fragments, 1 to %d are allowed", r.Fragments, wire.MaxFragments)
	case r.State0 != nil && len(r.State0) != r.Fragments:
		return fmt.Errorf("ledger rules: %d initial states for %d fragments", len(r.State0), r.Fragments)
	}
	return nil
}

// Chain is the state of a ledger after its newest entry. It has no disk, clock
// or goroutine; one goroutine uses it at a time.
type Chain struct {
	rules  Rules
	height uint64
	head   wire.Hash
	term   uint64
	recent []wire.Hash // ring of the newest hashes, by height - 1
	forked *ForkError

	fragments   []fragment
	lastAttempt wire.AttemptID
	settings    wire.Settings
	settingsID  wire.Hash // zero before the first settings entry
	tokens      uint64
	lastCommit  uint64 // its height
	members     map[wire.Slot]wire.Member
	lastSlot    wire.Slot
	announced   map[uint64]wire.Hash // checkpoints by At -> what they hold
	complete    wire.Checkpoint      // the newest complete one
}

// recentHashes is how far back Append tells a known entry from a forked one
// without a disk.
const recentHashes = 512

// maxAnnounced bounds the checkpoints that wait to be complete.
const maxAnnounced = 16

type fragment struct {
	head    wire.FragmentHead
	attempt wire.AttemptID // newest opened, zero when none
	base    uint64         // of that attempt
}

// NewChain returns the empty chain of a run.
func NewChain(rules Rules) (*Chain, error) {
	if err := rules.Validate(); err != nil {
		return nil, err
	}
	c := &Chain{
		rules:     rules,
		head:      rules.Run,
		fragments: make([]fragment, rules.Fragments),
		settings:  wire.Settings{Phase: wire.PhaseTraining},
		members:   make(map[wire.Slot]wire.Member),
		announced: make(map[uint64]wire.Hash),
	}
	for i := range rules.State0 {
		c.fragments[i].head.State = rules.State0[i]
	}
	return c, nil
}

// Height is the newest entry's, 0 for an empty chain.
func (c *Chain) Height() uint64 { return c.height }

// Head is the newest entry's hash, the run id for an empty chain.
func (c *Chain) Head() wire.Hash { return c.head }

// Term is the newest entry's.
func (c *Chain) Term() uint64 { return c.term }

// Tokens is the number committed.
func (c *Chain) Tokens() uint64 { return c.tokens }

// Settings returns the settings in force and their hash (zero before the first
// settings entry).
func (c *Chain) Settings() (wire.Settings, wire.Hash) { return c.settings, c.settingsID }

// Fragment returns a fragment's head: its version and, once known, its state.
func (c *Chain) Fragment(i int) wire.FragmentHead { return c.fragments[i].head }

// Fragments returns the heads of all fragments.
func (c *Chain) Fragments() []wire.FragmentHead {
	heads := make([]wire.FragmentHead, len(c.fragments))
	for i := range heads {
		heads[i] = c.fragments[i].head
	}
	return heads
}

// Attempt returns the newest attempt opened for the fragment's present version,
// and whether there is one.
func (c *Chain) Attempt(i int) (wire.AttemptID, bool) {
	f := &c.fragments[i]
	return f.attempt, f.attempt.Counter != 0 && f.base == f.head.Version
}

// Members returns the slots that were admitted and have not ended.
func (c *Chain) Members() map[wire.Slot]wire.Member { return maps.Clone(c.members) }

// LastSlot is the highest slot ever given.
func (c *Chain) LastSlot() wire.Slot { return c.lastSlot }

// LastAttempt is the newest attempt opened for any fragment.
func (c *Chain) LastAttempt() wire.AttemptID { return c.lastAttempt }

// Checkpoint returns the newest complete checkpoint, and whether there is one.
func (c *Chain) Checkpoint() (wire.Checkpoint, bool) { return c.complete, c.complete.Complete }

// HashAt returns the hash of an entry among the newest ones.
func (c *Chain) HashAt(height uint64) (wire.Hash, bool) {
	if height == 0 || height > c.height || c.height-height >= recentHashes {
		return wire.Hash{}, false
	}
	return c.recent[(height-1)%recentHashes], true
}

// Next builds the entry that puts body on top of the chain in a term, or says
// with ErrDropped why it may not. It is not signed yet and changes nothing.
func (c *Chain) Next(term uint64, body wire.Body) (wire.Entry, error) {
	if c.forked != nil {
		return wire.Entry{}, c.forked
	}
	e := wire.NewEntry(c.rules.Run, c.height+1, c.head, term, body)
	if _, err := c.checkEntry(&e); err != nil {
		return wire.Entry{}, err
	}
	return e, nil
}

// Append checks an entry and puts it on top. Besides an invalid certificate it
// fails with ErrKnown, ErrGap, ErrDropped or a ForkError; only the last one
// changes the chain, which then takes nothing more.
func (c *Chain) Append(e *wire.Certified) error {
	return c.append(e, e.Check)
}

// AppendVerified is Append for an entry whose signatures the caller has checked
// before: one that it stored itself, or that a simulator made.
func (c *Chain) AppendVerified(e *wire.Certified) error {
	return c.append(e, func([]wire.PeerID) error { return nil })
}

// append leaves the signatures to certified, which is asked only once all else
// holds.
func (c *Chain) append(e *wire.Certified, certified func([]wire.PeerID) error) error {
	if c.forked != nil {
		return c.forked
	}
	entry := &e.Entry
	if entry.Run != c.rules.Run {
		return fmt.Errorf("%w: entry %d belongs to run %s, not to %s", ErrDropped, entry.Height, entry.Run.Short(), c.rules.Run.Short())
	}
	if entry.Height == 0 {
		return fmt.Errorf("%w: entry of height 0", ErrDropped)
	}
	if entry.Height > c.height+1 {
		return fmt.Errorf("entry %d on a chain of %d: %w", entry.Height, c.height, ErrGap)
	}
	if entry.Height <= c.height {
		ours, ok := c.HashAt(entry.Height)
		if !ok || ours == entry.Hash() {
			return fmt.Errorf("entry %d: %w", entry.Height, ErrKnown)
		}
		return c.fork(e, entry.Height, ours, entry.Hash(), certified)
	}
	if entry.Prev != c.head {
		if c.height == 0 {
			return fmt.Errorf("%w: entry 1 does not stand on the run id", ErrDropped)
		}
		// Its signers vouch for another entry at our head's height.
		return c.fork(e, c.height, c.head, entry.Prev, certified)
	}
	body, err := c.checkEntry(entry)
	if err != nil {
		return err
	}
	if err := certified(c.rules.Keys); err != nil {
		return err
	}
	c.apply(entry, body)
	return nil
}

// fork stops the chain, provided that the other entry is certified: anybody
// can make one that is not.
func (c *Chain) fork(e *wire.Certified, height uint64, ours, theirs wire.Hash, certified func([]wire.PeerID) error) error {
	if err := certified(c.rules.Keys); err != nil {
		return err
	}
	c.forked = &ForkError{Height: height, Ours: ours, Theirs: theirs}
	return c.forked
}

// checkEntry applies every rule but signatures and links.
func (c *Chain) checkEntry(e *wire.Entry) (wire.Body, error) {
	if e.Term < c.term || e.Term == 0 {
		return nil, fmt.Errorf("%w: entry %d of term %d after term %d", ErrDropped, e.Height, e.Term, c.term)
	}
	body, err := e.Body()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDropped, err)
	}
	if err := c.check(e, body); err != nil {
		return nil, fmt.Errorf("%w: %s %d: %w", ErrDropped, e.Kind, e.Height, err)
	}
	return body, nil
}

// apply moves the chain to a checked entry.
func (c *Chain) apply(e *wire.Entry, body wire.Body) {
	c.height, c.head, c.term = e.Height, e.Hash(), e.Term
	if len(c.recent) < recentHashes {
		c.recent = append(c.recent, c.head)
	} else {
		c.recent[(c.height-1)%recentHashes] = c.head
	}
	c.take(e.Height, body)
}
