package wire

import (
	"errors"
	"fmt"
	"slices"
)

// Bounds of what a pipeline's messages name.
const (
	MaxStages       = 256
	MaxMicroBatches = 4096    // of one step
	MaxActivations  = 1 << 30 // bytes that follow a call or an answer
)

// StageKey names one attempt to run one stage's part of a micro-batch. The
// first five fields are what may count at most once in a stage (R11).
type StageKey struct {
	Trainer Slot   `cbor:"1,keyasint"`
	Step    uint64 `cbor:"2,keyasint"` // being trained, in synchronous mode; else 0
	Try     uint64 `cbor:"3,keyasint"` // of that step
	Micro   uint64 `cbor:"4,keyasint"` // the micro-batch's number; a trainer uses each once
	Stage   uint64 `cbor:"5,keyasint"` // from 0
	Attempt uint64 `cbor:"6,keyasint"` // from 1; grows with each call of that micro-batch and stage
}

// String returns "t<trainer> m<micro> s<stage>#<attempt>", with the step where there is one.
func (k StageKey) String() string {
	step := ""
	if k.Step > 0 || k.Try > 0 {
		step = fmt.Sprintf(" %d.%d", k.Step, k.Try)
	}
	return fmt.Sprintf("t%d%s m%d s%d#%d", k.Trainer, step, k.Micro, k.Stage, k.Attempt)
}

func (k StageKey) validate() error {
	if k.Trainer == 0 || k.Stage >= MaxStages || k.Attempt == 0 {
		return fmt.Errorf("stage key: %v", k)
	}
	return nil
}

// StageMessage is one message between a trainer and a peer that serves a stage
// of a pipeline: a tag byte and canonical bytes, like [Message].
//
//sumtype:decl
type StageMessage interface {
	stageTag() byte
	validate() error
}

// What a trainer sends.
type (
	// StageCall asks for a stage's forward or backward pass. Bytes of activations
	// follow: the stage's input, and for backward the gradient of its output
	// behind it (targets for the last stage). The answer is a StageAnswer or a
	// StageRefusal.
	StageCall struct {
		Key      StageKey `cbor:"1,keyasint"`
		Backward bool     `cbor:"2,keyasint"`
		Version  uint64   `cbor:"3,keyasint"` // of the weights that ran the forward pass; 0 when unknown
		Bytes    uint64   `cbor:"4,keyasint"`
	}

	// StageCancel says that nobody waits for a call any more.
	StageCancel struct {
		Key StageKey `cbor:"1,keyasint"`
	}

	// StageAccept says that this backward call is the one that counts. The
	// answer is a StageCounted.
	StageAccept struct {
		Key StageKey `cbor:"1,keyasint"`
	}

	// StageClose names what a step is made of: for one stage, its members in
	// order and the micro-batches that the receiver has counted. The answer is a
	// StageReduced or a StageMissing.
	StageClose struct {
		Trainer Slot     `cbor:"1,keyasint"`
		Step    uint64   `cbor:"2,keyasint"`
		Try     uint64   `cbor:"3,keyasint"`
		Edition uint64   `cbor:"4,keyasint"` // of this set, from 1
		Stage   uint64   `cbor:"5,keyasint"`
		Members []PeerID `cbor:"6,keyasint"`
		Micros  []uint64 `cbor:"7,keyasint"` // ascending
		Total   uint64   `cbor:"8,keyasint"` // micro-batches of the step
	}

	// StageApply orders the optimizer step on the closed set. The answer is a
	// StageApplied.
	StageApply struct {
		Trainer Slot   `cbor:"1,keyasint"`
		Step    uint64 `cbor:"2,keyasint"`
		Try     uint64 `cbor:"3,keyasint"`
		Edition uint64 `cbor:"4,keyasint"`
		Stage   uint64 `cbor:"5,keyasint"`
		NormSq  uint64 `cbor:"6,keyasint"` // float64 bits: the whole gradient's, stages added in order (R12)
	}

	// StageVoid throws away what was counted for tries before this one.
	StageVoid struct {
		Trainer Slot   `cbor:"1,keyasint"`
		Step    uint64 `cbor:"2,keyasint"`
		Try     uint64 `cbor:"3,keyasint"`
	}
)

// What a stage's server sends.
type (
	// StageAnswer is what a call computed; Bytes of activations or of gradient
	// follow.
	StageAnswer struct {
		Key     StageKey `cbor:"1,keyasint"`
		Version uint64   `cbor:"2,keyasint"` // of the weights that it ran on
		Wait    uint64   `cbor:"3,keyasint"` // µs in the queue
		Took    uint64   `cbor:"4,keyasint"` // µs of computing
		Bytes   uint64   `cbor:"5,keyasint"`
	}

	// StageRefusal says why a call is not answered.
	StageRefusal struct {
		Key    StageKey         `cbor:"1,keyasint"`
		Code   StageRefusalCode `cbor:"2,keyasint"`
		Reason string           `cbor:"3,keyasint"`
		// Version is that of the sender's weights, in synchronous mode, when they have
		// passed the step; else 0.
		Version uint64 `cbor:"4,keyasint,omitempty"`
	}

	// StageCounted answers a StageAccept: what became of the micro-batch's
	// gradient.
	StageCounted struct {
		Key  StageKey  `cbor:"1,keyasint"`
		Fate StageFate `cbor:"2,keyasint"`
	}

	// StageReduced says that the members of a stage have added up what they
	// counted.
	StageReduced struct {
		Trainer Slot   `cbor:"1,keyasint"`
		Step    uint64 `cbor:"2,keyasint"`
		Try     uint64 `cbor:"3,keyasint"`
		Edition uint64 `cbor:"4,keyasint"`
		Stage   uint64 `cbor:"5,keyasint"`
		NormSq  uint64 `cbor:"6,keyasint"` // float64 bits: of the stage's mean gradient
	}

	// StageSum is what its sender counted of a close, for another member of the
	// stage; Bytes of float32, little-endian, follow: the sum of its gradients.
	StageSum struct {
		Trainer Slot   `cbor:"1,keyasint"`
		Step    uint64 `cbor:"2,keyasint"`
		Try     uint64 `cbor:"3,keyasint"`
		Edition uint64 `cbor:"4,keyasint"`
		Stage   uint64 `cbor:"5,keyasint"`
		Bytes   uint64 `cbor:"6,keyasint"`
	}

	// StageMissing says which micro-batches of a close the sender does not have,
	// or with none that adding up failed. It may be tried again, but not in this
	// step with a sender that is behind.
	StageMissing struct {
		Trainer Slot     `cbor:"1,keyasint"`
		Step    uint64   `cbor:"2,keyasint"`
		Try     uint64   `cbor:"3,keyasint"`
		Edition uint64   `cbor:"4,keyasint"`
		Stage   uint64   `cbor:"5,keyasint"`
		Micros  []uint64 `cbor:"6,keyasint"`
		Reason  string   `cbor:"7,keyasint"`
		Behind  bool     `cbor:"8,keyasint"` // its weights are not those of the step
	}

	// StageApplied says that a step is part of the sender's weights.
	StageApplied struct {
		Trainer Slot   `cbor:"1,keyasint"`
		Step    uint64 `cbor:"2,keyasint"`
		Stage   uint64 `cbor:"3,keyasint"`
		Version uint64 `cbor:"4,keyasint"` // of the weights now
	}
)

// StageFate is what became of the gradient of a backward call.
type StageFate uint8

// What became of a gradient. A server that has no memory of a call, since it
// was started again or moved, must not say that it gave it up.
const (
	StageInSum   StageFate = 1
	StageGivenUp StageFate = 2
	StageUnknown StageFate = 3
)

// StageRefusalCode says why a call is refused.
type StageRefusalCode uint8

// Why a call is refused.
const (
	StageBusy    StageRefusalCode = 1 // the queue is full: another peer, or a moment later
	StageMoving  StageRefusalCode = 2 // the peer leaves the stage
	StageBehind  StageRefusalCode = 3 // its weights are not yet at the step
	StageStale   StageRefusalCode = 4 // the step, the try or the trainer is past
	StageBroken  StageRefusalCode = 5 // computing failed
	StageAlready StageRefusalCode = 6 // it counted this micro-batch before
	StageInvalid StageRefusalCode = 7 // not for this stage
)

// String names the code.
func (c StageRefusalCode) String() string {
	names := []string{"", "busy", "moving", "behind", "stale", "broken", "already counted", "invalid"}
	if c < StageBusy || c > StageInvalid {
		return fmt.Sprintf("code %d", uint8(c))
	}
	return names[c]
}

func (*StageCall) stageTag() byte    { return 1 }
func (*StageCancel) stageTag() byte  { return 2 }
func (*StageAccept) stageTag() byte  { return 3 }
func (*StageClose) stageTag() byte   { return 4 }
func (*StageApply) stageTag() byte   { return 5 }
func (*StageVoid) stageTag() byte    { return 6 }
func (*StageAnswer) stageTag() byte  { return 7 }
func (*StageRefusal) stageTag() byte { return 8 }
func (*StageCounted) stageTag() byte { return 9 }
func (*StageReduced) stageTag() byte { return 10 }
func (*StageMissing) stageTag() byte { return 11 }
func (*StageApplied) stageTag() byte { return 12 }
func (*StageSum) stageTag() byte     { return 13 }

// EncodeStageMessage returns a message as it travels, without the activations
// that may follow.
func EncodeStageMessage(m StageMessage) []byte { return append([]byte{m.stageTag()}, Encode(m)...) }

// DecodeStageMessage reads and validates one message.
func DecodeStageMessage(b []byte) (StageMessage, error) {
	if len(b) == 0 {
		return nil, errEmptyMessage
	}
	for _, m := range []StageMessage{
		new(StageCall), new(StageCancel), new(StageAccept), new(StageClose), new(StageApply), new(StageVoid),
		new(StageAnswer), new(StageRefusal), new(StageCounted), new(StageReduced), new(StageMissing), new(StageApplied), new(StageSum),
	} {
		if m.stageTag() != b[0] {
			continue
		}
		if err := Decode(b[1:], m); err != nil {
			return nil, fmt.Errorf("stage message: %w", err)
		}
		if err := m.validate(); err != nil {
			return nil, fmt.Errorf("stage message: %w", err)
		}
		return m, nil
	}
	return nil, fmt.Errorf("stage message: unknown tag %d", b[0])
}

func (c *StageCall) validate() error   { return errors.Join(c.Key.validate(), checkActivations(c.Bytes)) }
func (c *StageCancel) validate() error { return c.Key.validate() }
func (a *StageAccept) validate() error { return a.Key.validate() }

func (c *StageClose) validate() error {
	if len(c.Members) == 0 || len(c.Members) > MaxMembers || c.Total == 0 || c.Total > MaxMicroBatches {
		return fmt.Errorf("close: %d members, %d micro-batches", len(c.Members), c.Total)
	}
	return errors.Join(checkStep(c.Trainer, c.Stage), checkMicros(c.Micros))
}

func (a *StageApply) validate() error { return checkStep(a.Trainer, a.Stage) }
func (v *StageVoid) validate() error  { return checkStep(v.Trainer, 0) }

func (a *StageAnswer) validate() error {
	if a.Wait > 1<<40 || a.Took > 1<<40 {
		return errors.New("answer: a time is out of bounds")
	}
	return errors.Join(a.Key.validate(), checkActivations(a.Bytes))
}

func (r *StageRefusal) validate() error {
	if r.Code < StageBusy || r.Code > StageInvalid {
		return fmt.Errorf("refusal with code %d", r.Code)
	}
	return errors.Join(r.Key.validate(), checkReason(r.Reason))
}

func (c *StageCounted) validate() error {
	if c.Fate < StageInSum || c.Fate > StageUnknown {
		return fmt.Errorf("counted with fate %d", c.Fate)
	}
	return c.Key.validate()
}

func (r *StageReduced) validate() error { return checkStep(r.Trainer, r.Stage) }

func (m *StageMissing) validate() error {
	return errors.Join(checkStep(m.Trainer, m.Stage), checkMicros(m.Micros), checkReason(m.Reason))
}

func (a *StageApplied) validate() error { return checkStep(a.Trainer, a.Stage) }

func (s *StageSum) validate() error {
	return errors.Join(checkStep(s.Trainer, s.Stage), checkActivations(s.Bytes))
}

func checkStep(trainer Slot, stage uint64) error {
	if trainer == 0 || stage >= MaxStages {
		return fmt.Errorf("trainer %d, stage %d", trainer, stage)
	}
	return nil
}

func checkActivations(bytes uint64) error {
	if bytes > MaxActivations {
		return fmt.Errorf("%d bytes of activations, at most %d are allowed", bytes, MaxActivations)
	}
	return nil
}

func checkMicros(micros []uint64) error {
	if len(micros) > MaxMicroBatches {
		return fmt.Errorf("%d micro-batches, at most %d are allowed", len(micros), MaxMicroBatches)
	}
	if !slices.IsSorted(micros) || len(slices.Compact(slices.Clone(micros))) != len(micros) {
		return errors.New("micro-batches are not in ascending order")
	}
	return nil
}
