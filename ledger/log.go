package ledger

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"dunlin/wire"
)

// Log is a run's ledger on disk. Whatever it returns is durable. Its methods
// may be called from several goroutines at once.
type Log struct {
	mu    sync.Mutex
	file  *file
	chain *Chain
	key   ed25519.PrivateKey // nil on a peer that only follows
	index int                // of key among the coordinators'
	term  uint64             // durable, raised by this process; 0 before
	err   error              // the first failed write; the file must be read again
}

// Errors of a Log beside those of a Chain.
var (
	// ErrDamaged says that the file's bytes are not what was written.
	ErrDamaged = errors.New("ledger file is damaged")
	// ErrBroken says that a write failed, so that memory and file may differ.
	ErrBroken = errors.New("the ledger takes no more until it is opened again")
	// ErrNotCoordinator says that the Log has no key to sign entries with.
	ErrNotCoordinator = errors.New("no coordinator key")
	// ErrNoTerm says that RaiseTerm has to come first.
	ErrNoTerm = errors.New("no term has been raised since the start")
)

// Open opens or makes the ledger of a run in the file at path, reads it to its
// end and checks every byte, link and rule, and the signatures of the newest
// entry. Key signs entries; nil on a peer that only follows.
//
// It fails when the file is another run's, in use, forked, or damaged
// (ErrDamaged).
func Open(path string, rules Rules, key ed25519.PrivateKey) (*Log, error) {
	chain, err := NewChain(rules)
	if err != nil {
		return nil, err
	}
	l := &Log{chain: chain, key: key}
	if key != nil {
		if l.index = slices.Index(rules.Keys, wire.PeerIDOf(key)); l.index < 0 {
			return nil, fmt.Errorf("open ledger: %w: key %s is not among the run's coordinators", ErrNotCoordinator, wire.PeerIDOf(key).Short())
		}
	}
	if l.file, err = openFile(path, rules.Run); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	if err := l.replay(); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", path, errors.Join(err, l.file.close()))
	}
	return l, nil
}

// replay rebuilds the chain from the file.
func (l *Log) replay() error {
	var newest *wire.Certified
	err := l.file.each(math.MaxUint64, func(height uint64, e *wire.Certified) error {
		if e.Entry.Height != height || height != l.chain.height+1 {
			return fmt.Errorf("%w: entry %d is missing", ErrDamaged, l.chain.height+1)
		}
		// The newest entry's signatures vouch for all below it, so the rest is
		// trusted here; Verify checks each.
		if err := l.chain.AppendVerified(e); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		newest = e
		return nil
	})
	if err != nil {
		return err
	}
	if newest != nil {
		if err := newest.Check(l.chain.rules.Keys); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	forked, err := l.file.fork()
	if err != nil {
		return err
	}
	l.chain.forked = forked
	return nil
}

// Close ends the use of the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.New("ledger is closed")
	return l.file.close()
}

// CopyTo writes the ledger's file as it is at one moment. Others may read and append meanwhile.
func (l *Log) CopyTo(w io.Writer) error {
	if err := l.file.copyTo(w); err != nil {
		return fmt.Errorf("copy ledger: %w", err)
	}
	return nil
}

// RaiseTerm begins a reign: it makes a term durable that is above every term in
// the log, every term this file has known and above (the highest that peers
// reported), and returns it.
func (l *Log) RaiseTerm(above uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, err
	}
	if l.key == nil {
		return 0, fmt.Errorf("raise term: %w", ErrNotCoordinator)
	}
	stored, err := l.file.term()
	if err != nil {
		return 0, fmt.Errorf("raise term: %w", err)
	}
	term := max(stored, l.chain.term, above) + 1
	if term == 0 {
		return 0, errors.New("raise term: there is none above the highest reported")
	}
	if err := l.file.setTerm(term); err != nil {
		return 0, l.broken(fmt.Errorf("raise term: %w", err))
	}
	l.term = term
	return term, nil
}

// Propose puts body on top of the log as this coordinator's entry: built,
// checked, signed and durable when it returns. It fails with ErrDropped, and
// nothing has happened, when the body breaks a rule.
func (l *Log) Propose(body wire.Body) (*wire.Certified, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	switch {
	case l.key == nil:
		return nil, fmt.Errorf("propose %s: %w", body.Kind(), ErrNotCoordinator)
	case len(l.chain.rules.Keys) > 1:
		return nil, fmt.Errorf("propose %s: the run has %d coordinators and entries need a majority's signatures", body.Kind(), len(l.chain.rules.Keys))
	case l.term == 0:
		return nil, fmt.Errorf("propose %s: %w", body.Kind(), ErrNoTerm)
	}
	e, err := l.chain.Next(l.term, body)
	if err != nil {
		return nil, err
	}
	c := &wire.Certified{Entry: e, Certs: []wire.Attestation{wire.Attest(&e, l.index, l.key)}}
	if _, err := l.append([]wire.Certified{*c}); err != nil {
		return nil, err
	}
	return c, nil
}

// Append checks entries and puts those that are new on top, in order and
// durably in one write, and returns how many. Known ones are passed over. At
// the first that is refused it stops with the Chain's error; what came before
// it stays.
func (l *Log) Append(entries ...wire.Certified) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, err
	}
	return l.append(entries)
}

func (l *Log) append(entries []wire.Certified) (int, error) {
	var refused error
	var fresh []wire.Certified
	for i := range entries {
		err := l.appendOne(&entries[i])
		if errors.Is(err, ErrKnown) {
			continue
		}
		if err != nil {
			refused = err
			break
		}
		fresh = append(fresh, entries[i])
	}
	if len(fresh) > 0 {
		if err := l.file.put(fresh); err != nil {
			return 0, l.broken(fmt.Errorf("append to ledger: %w", err))
		}
	}
	if forked := (*ForkError)(nil); errors.As(refused, &forked) {
		if err := l.file.setFork(forked); err != nil {
			return len(fresh), l.broken(errors.Join(refused, err))
		}
	}
	return len(fresh), refused
}

// appendOne knows from disk the hashes that the chain has forgotten.
func (l *Log) appendOne(e *wire.Certified) error {
	height := e.Entry.Height
	if _, recent := l.chain.HashAt(height); recent || height == 0 || height > l.chain.height {
		return l.chain.Append(e)
	}
	old, err := l.file.get(height)
	if err != nil {
		return err
	}
	ours, theirs := old.Entry.Hash(), e.Entry.Hash()
	if ours == theirs || e.Entry.Run != l.chain.rules.Run {
		return l.chain.Append(e)
	}
	return l.chain.fork(e, height, ours, theirs, e.Check)
}

// usable refuses work after a failed write or a fork.
func (l *Log) usable() error {
	if l.err != nil {
		return l.err
	}
	if l.chain.forked != nil {
		return l.chain.forked
	}
	return nil
}

// broken remembers that memory and file may differ from now on.
func (l *Log) broken(err error) error {
	l.err = fmt.Errorf("%w: %w", err, ErrBroken)
	return l.err
}

// View calls read with the chain, which it must neither change nor keep.
func (l *Log) View(read func(c *Chain)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	read(l.chain)
}

// Height is the newest entry's.
func (l *Log) Height() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chain.height
}

// Head returns the newest entry's height and hash.
func (l *Log) Head() (uint64, wire.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chain.height, l.chain.head
}

// Stored returns the hash of an entry, and whether it is there.
func (l *Log) Stored(height uint64) (wire.Hash, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hash, recent := l.chain.HashAt(height); recent || height == 0 || height > l.chain.height {
		return hash, recent
	}
	e, err := l.file.get(height)
	if err != nil {
		return wire.Hash{}, false
	}
	return e.Entry.Hash(), true
}

// ChainAt returns the chain as of an entry of the log, made anew from its file.
func (l *Log) ChainAt(height uint64) (*Chain, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if height > l.chain.height {
		return nil, fmt.Errorf("chain at height %d: the ledger ends at %d", height, l.chain.height)
	}
	chain, err := NewChain(l.chain.rules)
	if err != nil {
		return nil, err
	}
	err = l.file.each(height, func(_ uint64, e *wire.Certified) error { return chain.AppendVerified(e) })
	if err != nil {
		return nil, fmt.Errorf("chain at height %d: %w", height, err)
	}
	return chain, nil
}

// MaxRangeBytes bounds what Range returns, so that it fits a message.
const MaxRangeBytes = wire.MaxMessage / 2

// Range returns entries from a height on, at most count and at most
// MaxRangeBytes of them (but one always), fewer at the end of the log.
func (l *Log) Range(from uint64, count int) ([]wire.Certified, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	var entries []wire.Certified
	size := 0
	for h := max(from, 1); h <= l.chain.height && len(entries) < count; h++ {
		e, n, err := l.file.read(h)
		if err != nil {
			return nil, err
		}
		if size += n; size > MaxRangeBytes && len(entries) > 0 {
			break
		}
		entries = append(entries, *e)
	}
	return entries, nil
}

// Report is what Verify found.
type Report struct {
	Height    uint64
	Head      wire.Hash
	Term      uint64
	Tokens    uint64
	Entries   map[wire.Kind]int
	Fragments []wire.FragmentHead
}

// Verify walks the whole log as a newcomer would: every byte, link, rule and
// signature, from the first entry on, into a chain of its own.
func (l *Log) Verify() (Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	chain, err := NewChain(l.chain.rules)
	if err != nil {
		return Report{}, err
	}
	r := Report{Entries: make(map[wire.Kind]int)}
	err = l.file.each(math.MaxUint64, func(_ uint64, e *wire.Certified) error {
		r.Entries[e.Entry.Kind]++
		return chain.Append(e)
	})
	if err == nil && chain.head != l.chain.head {
		err = fmt.Errorf("%w: the file ends at height %d, the log is at %d", ErrDamaged, chain.height, l.chain.height)
	}
	if err == nil && l.chain.forked != nil {
		err = l.chain.forked
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify ledger: %w", err)
	}
	r.Height, r.Head, r.Term, r.Tokens, r.Fragments = chain.height, chain.head, chain.term, chain.tokens, chain.Fragments()
	return r, nil
}
