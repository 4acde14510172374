package wire

import (
	"errors"
	"fmt"
	"math"
)

// Message is one control message between a peer and the coordinator. On the
// stream each is one tag byte and the canonical bytes of the value.
//
//sumtype:decl
type Message interface {
	tag() byte
	validate() error
}

// Hello is a peer's first word to the coordinator, and again after every
// reconnection and every change of its ledger's head that it wants answered.
type Hello struct {
	Protocol uint64   `cbor:"1,keyasint"`
	Version  string   `cbor:"2,keyasint"` // of the program, for people
	Run      Hash     `cbor:"3,keyasint"`
	Role     Role     `cbor:"4,keyasint"`
	Slot     Slot     `cbor:"5,keyasint"` // held since before a reconnection, or 0
	Head     uint64   `cbor:"6,keyasint"` // height of its ledger
	HeadHash Hash     `cbor:"7,keyasint"`
	Addrs    []string `cbor:"8,keyasint"`
	Secret   []byte   `cbor:"9,keyasint"`  // join secret of a private run
	Name     string   `cbor:"10,keyasint"` // for people
	StepTime uint64   `cbor:"11,keyasint"` // measured inner step, µs; 0 when not yet known
	Upload   uint64   `cbor:"12,keyasint"` // bytes a second it is willing to send; 0: no limit
	HeadTerm uint64   `cbor:"13,keyasint"`
	Stage    uint64   `cbor:"14,keyasint,omitempty"` // that a worker serves
}

// Role says what a peer does, as bits.
type Role uint8

// Roles; a peer may have several.
const (
	RoleWorker      Role = 1
	RoleCoordinator Role = 2
	RoleSeed        Role = 4
	RoleObserver    Role = 8
)

// Welcome answers a Hello: the peer may stay, and a worker has this slot once
// the entry that gives it stands in the log.
type Welcome struct {
	Slot Slot   `cbor:"1,keyasint"` // 0 for observers, and while admission is under way
	Head uint64 `cbor:"2,keyasint"` // height of the coordinator's ledger
	Term uint64 `cbor:"3,keyasint"`
}

// Refuse ends a conversation with a reason a person understands.
type Refuse struct {
	Code   RefuseCode `cbor:"1,keyasint"`
	Reason string     `cbor:"2,keyasint"`
}

// RefuseCode lets a program tell refusals apart.
type RefuseCode uint8

// Why a peer is refused. After RefuseSlot it asks for a new slot; after the
// others it stops.
const (
	RefuseVersion RefuseCode = 1
	RefuseRun     RefuseCode = 2
	RefuseSecret  RefuseCode = 3
	RefuseBanned  RefuseCode = 4
	RefuseFull    RefuseCode = 5
	RefuseSlot    RefuseCode = 6
	RefuseEnded   RefuseCode = 7
	RefuseFork    RefuseCode = 8
)

// Heartbeat tells the coordinator that a peer lives and how it does.
type Heartbeat struct {
	Slot              Slot        `cbor:"1,keyasint"`
	State             WorkerState `cbor:"2,keyasint"`
	Reason            string      `cbor:"3,keyasint"`
	Height            uint64      `cbor:"4,keyasint"` // every entry up to here is applied
	Step              uint64      `cbor:"5,keyasint"` // inner steps of this slot
	Tokens            uint64      `cbor:"6,keyasint"` // trained by this slot
	Loss              Float       `cbor:"7,keyasint"` // smoothed training loss, nats a token
	TokensPerSecond   Float       `cbor:"8,keyasint"`
	Utilisation       Float       `cbor:"9,keyasint"`
	Sent              uint64      `cbor:"10,keyasint"` // socket bytes
	Received          uint64      `cbor:"11,keyasint"`
	StepTime          uint64      `cbor:"12,keyasint"`           // median, µs
	Holds             uint64      `cbor:"13,keyasint"`           // newest checkpoint (its At) held durably
	StateHash         Hash        `cbor:"14,keyasint"`           // Merkle root over the fragments' state hashes, from memory; zero when not asked for
	RoundBytes        uint64      `cbor:"15,keyasint"`           // sent for contributions, results and round control
	OuterSteps        uint64      `cbor:"16,keyasint"`           // commits merged ÷ fragments, rounded down
	ContributionBytes uint64      `cbor:"17,keyasint"`           // encoded contributions sent
	Clock             uint64      `cbor:"18,keyasint"`           // ms of the peer's own steady clock, so that rates need no common one
	Device            string      `cbor:"19,keyasint"`           // for people, at most 64 bytes
	Overlap           uint64      `cbor:"20,keyasint,omitempty"` // τ: inner steps between a snapshot and the merge of its commit, median of the newest
	QueueWait         uint64      `cbor:"21,keyasint,omitempty"` // µs that calls of its stage wait, moving average
	Micros            uint64      `cbor:"22,keyasint,omitempty"` // micro-batches that its trainer has finished
	Partly            uint64      `cbor:"23,keyasint,omitempty"` // those of them that are not known to count in every stage, but do in some
	PassTime          uint64      `cbor:"24,keyasint,omitempty"` // µs of a forward pass of its stage, moving average
}

// WorkerState is the stage of a worker's life.
type WorkerState uint8

// A worker's life, in order (protocol, "One worker's life").
const (
	StateDialling WorkerState = 1
	StateSyncing  WorkerState = 2
	StateWarming  WorkerState = 3
	StateTraining WorkerState = 4
	StateDraining WorkerState = 5
	StateSleeping WorkerState = 6
	StateBanned   WorkerState = 7
	StateGone     WorkerState = 8
)

func (s WorkerState) String() string {
	names := [...]string{"unknown", "dialling", "syncing", "warming", "training", "draining", "sleeping", "banned", "gone"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// SlabDone is an owner's word that result frames are durable and served.
type SlabDone struct {
	Fragment uint64       `cbor:"1,keyasint"`
	Attempt  AttemptID    `cbor:"2,keyasint"`
	Slabs    []SlabResult `cbor:"3,keyasint"`
}

// SlabFailed is an owner's word that slabs fell below quorum.
type SlabFailed struct {
	Fragment uint64    `cbor:"1,keyasint"`
	Attempt  AttemptID `cbor:"2,keyasint"`
	Slab     uint64    `cbor:"3,keyasint"`
	Missing  uint64    `cbor:"4,keyasint"` // bit r: rank r did not deliver
	Reason   string    `cbor:"5,keyasint"`
}

// Reassign moves slabs of an open attempt to another owner.
type Reassign struct {
	Fragment uint64    `cbor:"1,keyasint"`
	Attempt  AttemptID `cbor:"2,keyasint"`
	Slabs    []uint64  `cbor:"3,keyasint"`
	Owner    uint64    `cbor:"4,keyasint"` // rank
	Reason   string    `cbor:"5,keyasint"`
}

// Results announces that every slab of an attempt is summed: what to pull.
type Results struct {
	Fragment uint64      `cbor:"1,keyasint"`
	Attempt  AttemptID   `cbor:"2,keyasint"`
	Base     uint64      `cbor:"3,keyasint"`
	Table    CommitTable `cbor:"4,keyasint"`
}

// Have is a peer's word that it holds a result durably and what state follows.
type Have struct {
	Fragment uint64    `cbor:"1,keyasint"`
	Base     uint64    `cbor:"2,keyasint"`
	Attempt  AttemptID `cbor:"3,keyasint"`
	Result   Hash      `cbor:"4,keyasint"`
	State    Hash      `cbor:"5,keyasint"`
}

// LeaseRequest asks for windows of data.
type LeaseRequest struct {
	Slot    Slot   `cbor:"1,keyasint"`
	Windows uint64 `cbor:"2,keyasint"`
}

// Leave ends a slot by the worker's own will.
type Leave struct {
	Slot   Slot   `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"`
}

// Move is the coordinator's wish that a peer leaves its stage for another: it hands
// over, leaves its slot and comes back in that stage.
type Move struct {
	Stage  uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"`
}

// Entries carries ledger entries upwards in order, each with the table that it
// names where the sender has it at hand.
type Entries struct {
	Items []Item `cbor:"1,keyasint"`
	Head  uint64 `cbor:"2,keyasint"` // height of the sender's ledger
}

// Item is an entry and, for attempts and commits that are news, its table.
type Item struct {
	Certified Certified `cbor:"1,keyasint"`
	Table     []byte    `cbor:"2,keyasint"`
}

// GetEntries asks for entries from a height on.
type GetEntries struct {
	From uint64 `cbor:"1,keyasint"`
	Max  uint64 `cbor:"2,keyasint"`
}

// MaxItems bounds the entries of one message.
const MaxItems = 256

func (*Hello) tag() byte        { return 1 }
func (*Welcome) tag() byte      { return 2 }
func (*Refuse) tag() byte       { return 3 }
func (*Heartbeat) tag() byte    { return 4 }
func (*SignedReady) tag() byte  { return 5 }
func (*SlabDone) tag() byte     { return 6 }
func (*SlabFailed) tag() byte   { return 7 }
func (*Reassign) tag() byte     { return 8 }
func (*Results) tag() byte      { return 9 }
func (*Have) tag() byte         { return 10 }
func (*LeaseRequest) tag() byte { return 11 }
func (*Leave) tag() byte        { return 12 }
func (*Entries) tag() byte      { return 13 }
func (*GetEntries) tag() byte   { return 14 }
func (*Move) tag() byte         { return 17 }

// EncodeMessage returns a message as it travels.
func EncodeMessage(m Message) []byte { return append([]byte{m.tag()}, Encode(m)...) }

var errEmptyMessage = errors.New("message: empty")

// DecodeMessage reads and validates one message.
func DecodeMessage(b []byte) (Message, error) {
	if len(b) == 0 {
		return nil, errEmptyMessage
	}
	m := newMessage(b[0])
	if m == nil {
		return nil, fmt.Errorf("message: unknown tag %d", b[0])
	}
	if err := Decode(b[1:], m); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	return m, nil
}

func newMessage(tag byte) Message {
	for _, m := range []Message{
		new(Hello), new(Welcome), new(Refuse), new(Heartbeat), new(SignedReady), new(SlabDone), new(SlabFailed),
		new(Reassign), new(Results), new(Have), new(LeaseRequest), new(Leave), new(Entries), new(GetEntries),
		new(Signatures), new(Leads), new(Move), new(Change),
	} {
		if m.tag() == tag {
			return m
		}
	}
	return nil
}

func (h *Hello) validate() error {
	if len(h.Version) > 64 || len(h.Name) > 64 || len(h.Secret) > 64 || h.Role == 0 || h.Stage >= MaxFragments || h.StepTime > 1<<40 || h.Upload > 1<<50 {
		return errors.New("hello: a field is out of bounds")
	}
	return checkAddrs(h.Addrs)
}

func (*Welcome) validate() error { return nil }

func (r *Refuse) validate() error { return checkReason(r.Reason) }

func (h *Heartbeat) validate() error {
	for _, f := range []Float{h.Loss, h.TokensPerSecond, h.Utilisation} {
		if v := float64(f.Value()); math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			return fmt.Errorf("heartbeat: figure %v", v)
		}
	}
	if len(h.Device) > 64 || h.Partly > h.Micros {
		return errors.New("heartbeat: device name is too long")
	}
	return checkReason(h.Reason)
}

func (s *SignedReady) validate() error { return s.Ready.validate() }

func (s *SlabDone) validate() error {
	if s.Fragment >= MaxFragments || len(s.Slabs) > MaxSlabs {
		return errors.New("slab done: out of bounds")
	}
	for i := range s.Slabs {
		if err := s.Slabs[i].validate(); err != nil {
			return err
		}
	}
	return nil
}

func (s *SlabFailed) validate() error {
	if s.Fragment >= MaxFragments || s.Slab >= MaxSlabs {
		return errors.New("slab failed: out of bounds")
	}
	return checkReason(s.Reason)
}

func (r *Reassign) validate() error {
	if r.Fragment >= MaxFragments || len(r.Slabs) > MaxSlabs || r.Owner >= MaxMembers {
		return errors.New("reassign: out of bounds")
	}
	return checkReason(r.Reason)
}

func (r *Results) validate() error {
	if r.Fragment >= MaxFragments || len(r.Table.Slabs) > MaxSlabs {
		return errors.New("results: out of bounds")
	}
	return r.Table.Validate(len(r.Table.Slabs))
}

func (h *Have) validate() error {
	if h.Fragment >= MaxFragments || h.Result.IsZero() || h.State.IsZero() {
		return errors.New("have: out of bounds")
	}
	return nil
}

func (l *LeaseRequest) validate() error {
	if l.Slot == 0 || l.Windows == 0 || l.Windows > 1<<24 {
		return fmt.Errorf("lease request: %d windows for slot %d", l.Windows, l.Slot)
	}
	return nil
}

func (l *Leave) validate() error { return checkReason(l.Reason) }

func (m *Move) validate() error {
	if m.Stage >= MaxFragments {
		return fmt.Errorf("move to stage %d", m.Stage)
	}
	return checkReason(m.Reason)
}

func (e *Entries) validate() error {
	if len(e.Items) > MaxItems {
		return fmt.Errorf("entries: %d, at most %d are allowed", len(e.Items), MaxItems)
	}
	return nil
}

func (g *GetEntries) validate() error {
	if g.Max == 0 || g.Max > MaxItems {
		return fmt.Errorf("get entries: %d, 1 to %d are allowed", g.Max, MaxItems)
	}
	return nil
}

func checkReason(s string) error {
	if len(s) > MaxReason {
		return fmt.Errorf("reason of %d bytes, at most %d are allowed", len(s), MaxReason)
	}
	return nil
}
