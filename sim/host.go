package sim

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"dunlin/wire"
)

// host is one machine: an identity, a disk, and the process that runs on it.
type host struct {
	w        *World
	index    int
	name     string
	key      ed25519.PrivateKey
	id       wire.PeerID
	works    bool
	disk     *disk
	proc     *process // nil while none runs
	frozen   bool
	backlog  []*event // for the frozen process
	rate     float64  // of its clock against the world's
	skew     time.Duration
	last     *process // that finished in order
	stepTime time.Duration
	done     string // why it is not started again
	flips    int    // next outer steps that come out wrong
	flipped  bool   // one did
	full     bool   // the disk takes no more
	bad      badness
}

// badness is what a host does against the others, without breaking a message's form.
type badness uint8

const (
	honest            badness = iota
	sumsGarbage               // names frames by their hashes that are none
	vetoesSums                // says of each of its slabs that too few delivered
	neverSums                 // owns slabs and does nothing
	givesNoResult             // gives nobody what it summed
	keepsContribution         // says Ready and lets owners wait for it
)

func (w *World) addHost(works bool) *host {
	i := len(w.hosts)
	h := &host{w: w, index: i, name: fmt.Sprintf("w%d", i), key: keyOf(w.sc.Seed, i), works: works, disk: newDisk(), rate: 1}
	if i == 0 {
		h.name = "c"
	}
	h.id = wire.PeerIDOf(h.key)
	if w.sc.Setup.Drift {
		h.skew, h.rate = w.between(-time.Hour, time.Hour), 0.98+0.04*w.rng.Float64()
	}
	h.stepTime = w.sc.Setup.StepTime[i%len(w.sc.Setup.StepTime)]
	w.hosts = append(w.hosts, h)
	w.ids[h.id] = h
	w.net.add()
	return h
}

// clock is the host's own time.
func (h *host) clock() time.Time {
	return time.Unix(1_700_000_000, 0).Add(h.skew + time.Duration(float64(h.w.now)*h.rate))
}

// until returns how long the world takes until the host's clock shows t.
func (h *host) until(t time.Time) time.Duration {
	return max(0, time.Duration(float64(t.Sub(h.clock()))/h.rate)) + time.Microsecond
}

// start runs a new process, unless the host's part is over.
func (h *host) start() {
	if h.proc != nil || h.done != "" {
		return
	}
	p, err := newProcess(h)
	if err != nil {
		h.w.fail("%s does not start: %v", h.name, err)
		return
	}
	h.w.recorder.line(h, "starts at height %d", len(h.disk.entries))
	h.proc = p
	p.begin()
}

// kill ends the process at once: what was in memory is gone.
// exit ends a process that has nothing left to do.
func (h *host) exit() {
	h.last = h.proc
	h.kill("it finished")
}

func (h *host) kill(reason string) {
	p := h.proc
	if p == nil {
		return
	}
	h.w.recorder.line(h, "dies: %s", reason)
	p.dead, h.proc, h.frozen, h.backlog = true, nil, false, nil
	h.w.net.died(p)
}

func (h *host) freeze() {
	if h.proc != nil {
		h.w.recorder.line(h, "freezes")
		h.frozen = true
		h.w.net.doubt(h)
	}
}

func (h *host) thaw() {
	if !h.frozen {
		return
	}
	h.w.recorder.line(h, "goes on")
	h.frozen = false
	for _, e := range h.backlog {
		h.w.after(0, e.on, e.do)
	}
	h.backlog = nil
}

// disk is what survives a process. Blobs survive a loss of power only once
// they are synced; everything else is written durably at once.
type disk struct {
	entries   []wire.Certified
	term      uint64
	blobs     map[wire.Hash][]byte
	dirty     map[wire.Hash]bool
	pins      map[uint64][]wire.Hash // by height: results and checkpoints
	manifests map[uint64]map[wire.Hash][]byte
}

func newDisk() *disk {
	return &disk{blobs: map[wire.Hash][]byte{}, dirty: map[wire.Hash]bool{}, pins: map[uint64][]wire.Hash{}, manifests: map[uint64]map[wire.Hash][]byte{}}
}

// clone is a backup: what is not synced is not in it.
func (d *disk) clone() *disk {
	c := &disk{
		entries: slices.Clone(d.entries), term: d.term, blobs: maps.Clone(d.blobs), dirty: map[wire.Hash]bool{},
		pins: maps.Clone(d.pins), manifests: maps.Clone(d.manifests),
	}
	for h := range d.dirty {
		delete(c.blobs, h)
	}
	return c
}

var errFull = errors.New("no space left on device")

// blobs of a host are its store.
func (h *host) put(data []byte) (wire.Hash, error) {
	name := wire.HashLeaf(data)
	if h.full {
		return name, errFull
	}
	if _, ok := h.disk.blobs[name]; !ok {
		h.disk.blobs[name], h.disk.dirty[name] = slices.Clone(data), true
	}
	return name, nil
}

func (h *host) sync() error {
	if h.full {
		return errFull
	}
	clear(h.disk.dirty)
	return nil
}

// durable reports whether a blob survives a loss of power.
func (h *host) durable(name wire.Hash) bool {
	_, ok := h.disk.blobs[name]
	return ok && !h.disk.dirty[name]
}

// blobs adapts a host to replica.Blobs.
type blobs struct{ h *host }

func (b blobs) Put(data []byte) ([32]byte, error) { return b.h.put(data) }
func (b blobs) Sync() error                       { return b.h.sync() }

func (b blobs) Get(name [32]byte, _ int) ([]byte, error) {
	if data, ok := b.h.disk.blobs[name]; ok {
		return data, nil
	}
	return nil, errNotHere
}

// powerOff is a kill that also loses what was not synced.
func (h *host) powerOff() {
	h.kill("power is lost")
	for name := range h.disk.dirty {
		delete(h.disk.blobs, name)
	}
	clear(h.disk.dirty)
}

// collect deletes what only states below a height need.
func (h *host) collect(below uint64) {
	d := h.disk
	kept := map[wire.Hash]bool{}
	var gone []wire.Hash
	for at, names := range d.pins {
		if at < below {
			gone = append(gone, names...)
			delete(d.pins, at)
			delete(d.manifests, at)
			continue
		}
		for _, n := range names {
			kept[n] = true
		}
	}
	for _, n := range gone {
		if !kept[n] {
			delete(d.blobs, n)
			delete(d.dirty, n)
		}
	}
}

// manifest returns the manifest of a saved state, or nil.
func (d *disk) manifest(state wire.Hash) []byte {
	for _, m := range d.manifests {
		if b, ok := m[state]; ok {
			return b
		}
	}
	return nil
}
