package ledger

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"dunlin/wire"
)

// Seat is one coordinator's place among several: it turns the commands on which
// they agreed into entries, signs them and gathers the others' signatures. It
// is pure: the same commands make the same entries at every seat. One goroutine
// uses it at a time.
type Seat struct {
	chain  *Chain // of what was agreed on, certified or not
	key    ed25519.PrivateKey
	index  int
	ledger SeatLedger

	settled uint64         // height of the own ledger
	tail    []unsigned     // agreed on and not on the own ledger, from settled+1 on
	ahead   *wire.Standing // what commands came to of which this seat will not hear; nil once the own ledger is there
	queued  []wire.Command // that came behind it
	early   map[uint64]map[int]wire.Signature
	term    uint64 // of the newest reign
	ruler   int    // its key; -1 before the first and after an adoption
	split   bool
	effects []SeatEffect
}

// unsigned is an entry that lacks signatures.
type unsigned struct {
	entry wire.Entry
	table []byte
	sigs  map[int]wire.Signature
}

// SeatConfig is what a seat starts from.
type SeatConfig struct {
	Rules  Rules
	Key    ed25519.PrivateKey
	Height uint64 // of the own ledger
	Ledger SeatLedger
}

// SeatLedger is what a seat reads of its own ledger; *Log is one.
type SeatLedger interface {
	// Stored returns the hash of an entry, and whether it is there.
	Stored(height uint64) (wire.Hash, bool)
	// ChainAt returns the chain as of an entry that is there.
	ChainAt(height uint64) (*Chain, error)
}

// NewSeat returns a seat that has heard of no command.
func NewSeat(cfg SeatConfig) (*Seat, error) {
	chain, err := NewChain(cfg.Rules)
	if err != nil {
		return nil, err
	}
	if len(cfg.Key) != ed25519.PrivateKeySize || cfg.Ledger == nil {
		return nil, errors.New("seat: a key and the own ledger are needed")
	}
	index := slices.Index(cfg.Rules.Keys, wire.PeerIDOf(cfg.Key))
	if index < 0 {
		return nil, fmt.Errorf("seat: %w: key %s is not among the run's coordinators", ErrNotCoordinator, wire.PeerIDOf(cfg.Key).Short())
	}
	return &Seat{
		chain: chain, key: cfg.Key, index: index, ledger: cfg.Ledger, settled: cfg.Height,
		early: map[uint64]map[int]wire.Signature{}, ruler: -1,
	}, nil
}

// Index is this coordinator's place in RunSpec.Coordinators.
func (s *Seat) Index() int { return s.index }

// Height is that of the newest entry agreed on.
func (s *Seat) Height() uint64 {
	if s.ahead != nil {
		return s.ahead.Height
	}
	return s.chain.height
}

// Standing returns what the commands heard so far have come to; ok is false while
// this seat does not know yet, or has stopped.
func (s *Seat) Standing() (at wire.Standing, ok bool) {
	if s.ahead != nil || s.split {
		return at, false
	}
	return wire.Standing{Height: s.chain.height, Head: s.chain.head, Term: s.term, Ruler: uint64(s.ruler + 1)}, true
}

// Reign returns the newest term and the index of its coordinator, -1 for nobody.
func (s *Seat) Reign() (term uint64, key int) { return s.term, s.ruler }

// Behind reports whether entries that were agreed on are not on the own ledger: they
// lack signatures, or came to be while this seat was away.
func (s *Seat) Behind() bool { return len(s.tail) > 0 || s.ahead != nil }

// Own returns this seat's signatures from a height on, of entries that are not
// on its ledger yet, and asks for those that it lacks.
func (s *Seat) Own(from uint64) *wire.Signatures {
	out := &wire.Signatures{From: max(from, s.settled+1)}
	for i := range s.tail {
		if u := &s.tail[i]; u.entry.Height >= out.From && len(out.Sigs) < wire.MaxItems {
			out.Sigs = append(out.Sigs, u.sigs[s.index])
		}
	}
	if len(out.Sigs) == 0 {
		out.From = 0
	}
	if s.Behind() {
		out.Want = s.settled + 1
	}
	return out
}

// Step takes in an event and returns what is to be done, in order.
func (s *Seat) Step(ev SeatEvent) []SeatEffect {
	s.effects = nil
	if s.split {
		return nil
	}
	switch e := ev.(type) {
	case Agreed:
		if s.ahead != nil {
			s.queued = append(s.queued, e.Command)
		} else {
			s.agreed(&e.Command)
		}
	case Restored:
		s.ahead, s.queued, s.tail = &e.Standing, nil, nil // what is above the own ledger comes certified
		s.catchUp()
	case Signed:
		s.signed(e.Key, &e.Signatures)
	case Stood:
		s.stood(e.Height)
	}
	return s.effects
}

func (s *Seat) do(e SeatEffect) { s.effects = append(s.effects, e) }

func (s *Seat) refuse(c *wire.Command, format string, args ...any) {
	s.do(Refused{Command: *c, Reason: fmt.Sprintf(format, args...)})
}

func (s *Seat) agreed(c *wire.Command) {
	switch c.Op {
	case wire.OpReign:
		if c.Term <= s.term || c.Term <= s.chain.term || int(c.Key) >= len(s.chain.rules.Keys) {
			s.refuse(c, "term %d is not above %d", c.Term, max(s.term, s.chain.term))
			return
		}
		s.term, s.ruler = c.Term, int(c.Key)
		s.do(Reigns{Term: c.Term, Key: s.ruler})
	case wire.OpAdopt:
		s.adopt(c)
	case wire.OpAppend:
		s.propose(c)
	}
}

// propose builds the entry that an append asks for, or drops it (R7).
func (s *Seat) propose(c *wire.Command) {
	if c.Term != s.term || int(c.Key) != s.ruler {
		s.refuse(c, "it belongs to term %d of coordinator %d, and term %d has begun", c.Term, c.Key, s.term)
		return
	}
	body, err := c.Body()
	if err != nil {
		s.refuse(c, "%v", err)
		return
	}
	entry, err := s.chain.Next(c.Term, body)
	if err != nil {
		s.refuse(c, "%v", err)
		return
	}
	s.chain.apply(&entry, body)
	if !s.compare(entry.Height, s.chain.head) || entry.Height <= s.settled {
		return
	}
	s.sign(unsigned{entry: entry, table: c.Table})
}

// adopt takes over an entry that others certified.
func (s *Seat) adopt(c *wire.Command) {
	err := s.chain.Append(c.Adopted)
	var forked *ForkError
	switch {
	case errors.As(err, &forked):
		s.split = true
		s.do(Split{Fork: forked})
	case errors.Is(err, ErrKnown):
	case err != nil:
		s.refuse(c, "%v", err)
	default:
		s.term, s.ruler = max(s.term, c.Adopted.Entry.Term), -1
		height := c.Adopted.Entry.Height
		if !s.compare(height, s.chain.head) || height <= s.settled {
			return
		}
		s.tail = append(s.tail, unsigned{entry: c.Adopted.Entry, table: c.Table, sigs: map[int]wire.Signature{}})
		u := &s.tail[len(s.tail)-1]
		for _, a := range c.Adopted.Certs {
			u.sigs[int(a.Key)] = a.Sig
		}
		s.certify()
	}
}

// compare stops a seat whose ledger has another certified entry than the one
// that was agreed on: its disk, or that of a majority, was set back.
func (s *Seat) compare(height uint64, agreed wire.Hash) bool {
	if height > s.settled {
		return true
	}
	ours, ok := s.ledger.Stored(height)
	if !ok || ours == agreed {
		return true
	}
	s.split = true
	s.do(Split{Fork: &ForkError{Height: height, Ours: ours, Theirs: agreed}})
	return false
}

// sign puts an entry behind the tail and tells the others.
func (s *Seat) sign(u unsigned) {
	height := u.entry.Height
	own := wire.Attest(&u.entry, s.index, s.key).Sig
	hash := u.entry.Hash()
	u.sigs = map[int]wire.Signature{s.index: own}
	for key, sig := range s.early[height] {
		if wire.Verify(s.chain.rules.Keys[key], "entry", hash[:], sig) {
			u.sigs[key] = sig
		}
	}
	delete(s.early, height)
	s.tail = append(s.tail, u)
	s.do(Sign{Signatures: wire.Signatures{From: height, Sigs: []wire.Signature{own}}})
	s.certify()
}

// signed takes in another coordinator's signatures. Those of entries that this
// seat has not heard of wait, within bounds.
func (s *Seat) signed(key int, m *wire.Signatures) {
	if key < 0 || key >= len(s.chain.rules.Keys) || key == s.index {
		return
	}
	for i, sig := range m.Sigs {
		height := m.From + uint64(i)
		switch {
		case height <= s.settled || s.ahead != nil && height <= s.ahead.Height:
		case s.ahead == nil && height <= s.chain.height:
			u := &s.tail[height-s.settled-1]
			if hash := u.entry.Hash(); wire.Verify(s.chain.rules.Keys[key], "entry", hash[:], sig) {
				u.sigs[key] = sig
			}
		case height <= s.Height()+wire.MaxItems:
			if s.early[height] == nil {
				s.early[height] = map[int]wire.Signature{}
			}
			s.early[height][key] = sig
		}
	}
	s.certify()
}

// certify hands on, in order, the entries that a majority has signed.
func (s *Seat) certify() {
	for len(s.tail) > 0 && len(s.tail[0].sigs) > len(s.chain.rules.Keys)/2 {
		u := &s.tail[0]
		c := wire.Certified{Entry: u.entry}
		for key := range s.chain.rules.Keys {
			if sig, ok := u.sigs[key]; ok {
				c.Certs = append(c.Certs, wire.Attestation{Key: uint64(key), Sig: sig})
			}
		}
		s.do(Stands{Item: wire.Item{Certified: c, Table: u.table}})
		s.tail, s.settled = s.tail[1:], u.entry.Height
	}
}

// stood follows the own ledger, which took certified entries from others.
func (s *Seat) stood(height uint64) {
	for s.settled < height {
		if len(s.tail) > 0 {
			next, hash := s.tail[0].entry.Height, s.tail[0].entry.Hash()
			s.tail, s.settled = s.tail[1:], next
			if !s.compare(next, hash) {
				return
			}
			continue
		}
		s.settled = height
	}
	for h := range s.early {
		if h <= s.settled {
			delete(s.early, h)
		}
	}
	s.catchUp()
}

// catchUp goes on from where commands came to that this seat has not heard, once the
// own ledger is there.
func (s *Seat) catchUp() {
	if s.ahead == nil || s.settled < s.ahead.Height {
		return
	}
	at := *s.ahead
	chain, err := s.ledger.ChainAt(at.Height)
	if err != nil {
		s.do(Unreadable{Err: err})
		return
	}
	if chain.head != at.Head {
		s.split = true
		s.do(Split{Fork: &ForkError{Height: at.Height, Ours: chain.head, Theirs: at.Head}})
		return
	}
	s.chain, s.term, s.ruler, s.ahead = chain, at.Term, int(at.Ruler)-1, nil
	if s.ruler >= 0 {
		s.do(Reigns{Term: s.term, Key: s.ruler})
	}
	queued := s.queued
	s.queued = nil
	for i := range queued {
		if !s.split {
			s.agreed(&queued[i])
		}
	}
}
