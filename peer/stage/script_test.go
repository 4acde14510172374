package stage

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"dunlin/peer/mailbox"
	"dunlin/peer/worker"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/wire"
)

// FuzzPipe has remotes say anything to a pipe in any state: no panic, no order to a worker
// that is not there, and no more kept than is under way.
func FuzzPipe(f *testing.F) {
	f.Add([]byte{1, 0, 3})
	f.Fuzz(func(t *testing.T, script []byte) { playPipe(t, script) })
}

func TestPipesOfManyRandomScripts(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 0))
	b := make([]byte, 1200)
	for range 150 {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		playPipe(t, b)
	}
}

// unsure is a network on which every third message is not passed on.
type unsure struct{ n int }

func (u *unsure) Connect(context.Context, wire.PeerID, []string) error { return nil }

func (u *unsure) Pass(_ wire.PeerID, b []byte) error {
	if u.n++; u.n%3 == 0 {
		return errors.New("made up")
	}
	_, _, err := wire.DecodePassed(b)
	return err
}

type pipeScript struct {
	b      []byte
	pipe   *Pipe
	orders *mailbox.Mailbox[any]
	due    []any                  // orders that the worker has not answered
	kept   map[wire.StageKey]bool // gradients that it keeps
}

func (s *pipeScript) n(below byte) byte {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v % below
}

// small returns mostly small numbers, sometimes absurd ones.
func (s *pipeScript) small() uint64 {
	if v := s.n(32); v > 0 {
		return uint64(v % 3)
	}
	return ^uint64(0) >> s.n(64)
}

func (s *pipeScript) peer() wire.PeerID {
	if s.n(2) == 0 {
		return first
	}
	return []wire.PeerID{first, second, third, successor, stranger}[s.n(5)]
}

func playPipe(t *testing.T, script []byte) {
	s := &pipeScript{b: script[:min(len(script), 4096)], kept: map[wire.StageKey]bool{}}
	synchronous, stage := s.n(2) == 0, int(s.n(3))
	spec, tokens := recipetest.Spec(t, func(r *recipe.Run) {
		r.Stages, r.Activation, r.Batch, r.Micro, r.Synchronous = 3, "fp32", 2, 1, synchronous
	})
	p, err := New(spec, []wire.PeerID{first, second, third}[stage], stage, 1, func(any) {})
	if err != nil {
		t.Fatal(err)
	}
	p.ctx, p.transport, s.pipe = t.Context(), &unsure{}, p
	text, err := NewText(spec, tokens)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []wire.PeerID{first, second, third} {
		p.handle(Listed{Slot: wire.Slot(1 + i), Peer: id, Stage: i})
		p.handle(PeerUp{id})
	}
	for len(s.b) > 0 {
		s.event(t, text)
		p.step()
		if s.orders != nil {
			s.due = append(s.due, s.orders.Take()...)
		}
		if view := p.server.Snapshot(); len(p.calls) > view.Queue+view.Held+1 || len(p.answers) > 0 {
			t.Fatalf("%d calls are kept, %d wait, %d are held; %d answers are kept", len(p.calls), view.Queue, view.Held, len(p.answers))
		}
		if len(p.reduction.sums) > 5 || len(p.windows) > wire.MaxMicroBatches {
			t.Fatalf("%d sums and %d windows are kept", len(p.reduction.sums), len(p.windows))
		}
	}
	p.dials.Wait()
}

func (s *pipeScript) event(t *testing.T, text *Text) {
	t.Helper()
	p := s.pipe
	switch s.n(16) {
	case 0:
		p.handle(PeerUp{s.peer()})
	case 1:
		if s.n(4) == 0 {
			p.handle(PeerDown{s.peer()})
		}
	case 2:
		at := s.n(5)
		p.handle(Listed{Slot: wire.Slot(1 + at), Peer: []wire.PeerID{first, second, third, successor, stranger}[at], Stage: int(at % 3), Addrs: []string{"x"}})
	case 3:
		if s.n(16) == 0 {
			p.handle(Unlisted{wire.Slot(s.small())})
		}
	case 4:
		if s.orders == nil {
			s.orders = mailbox.New[any]()
			e := Equipped{Worker: s.orders}
			if p.stage == 0 {
				e.Text = text
			}
			p.handle(e)
			p.handle(worker.Grant{Ranges: []wire.Range{{From: 0, To: 64}}})
		}
		p.handle(Served{wire.Slot(1 + p.stage)})
	case 5:
		switch s.n(32) {
		case 0:
			p.handle(Unserved{})
		case 1:
			p.handle(Leaves{})
		default:
			p.handle(worker.Grant{Ranges: []wire.Range{{From: 0, To: 3}}})
		}
	case 6, 7, 8:
		for len(s.due) > 0 {
			o := s.due[0]
			s.due = s.due[1:]
			if s.obey(t, o) {
				break
			}
		}
	default:
		m, cargo := s.message()
		if m, cargo, err := wire.DecodePassed(wire.EncodePassed(m, cargo)); err == nil {
			p.take(Passed{s.peer(), m, cargo})
		}
	}
}

// obey does an order as a worker does. It reports whether that was answered.
func (s *pipeScript) obey(t *testing.T, order any) bool {
	t.Helper()
	var err error
	if s.n(8) == 0 {
		err = errors.New("made up")
	}
	switch o := order.(type) {
	case worker.PassOrder:
		kind := byte(worker.AnswerForward)
		if o.Backward {
			kind = worker.AnswerBackward
		}
		s.kept[o.Key] = o.Backward && err == nil
		s.pipe.handle(worker.PassComputed{Key: o.Key, Answer: worker.MakeAnswer(kind, 0, []byte{1}), Err: err})
	case worker.AddOrder:
		if !s.kept[o.Key] {
			t.Fatalf("the gradient of %v is to be added, it is not kept", o.Key)
		}
		delete(s.kept, o.Key)
		s.pipe.handle(worker.GradientAdded{Key: o.Key})
	case worker.DropOrder:
		delete(s.kept, o.Key)
		return false
	case worker.ClearOrder:
		return false
	case worker.SumOrder:
		s.pipe.handle(worker.SumTaken{Close: o.Close, Sum: make([]byte, 4*s.pipe.stageValues()), Err: err})
	case worker.ReduceOrder:
		s.pipe.handle(worker.SumsReduced{Close: o.Close, NormSq: float64(s.n(3)), Err: err})
	case worker.StepOrder:
		s.pipe.handle(worker.StageStepped{Version: s.pipe.version + 1})
	}
	return true
}

// message returns what a remote may say.
func (s *pipeScript) message() (wire.StageMessage, []byte) {
	k := wire.StageKey{Trainer: wire.Slot(1 + s.small()), Step: s.small(), Try: s.small(), Micro: s.small(), Stage: uint64(s.n(3)), Attempt: 1 + s.small()}
	if s.n(4) > 0 {
		k.Trainer, k.Step, k.Try, k.Stage, k.Micro, k.Attempt = 1, s.pipe.version, 0, uint64(s.pipe.stage), uint64(s.n(3)), 1
	}
	edition, members := s.small(), []wire.PeerID{s.pipe.self}
	if s.n(2) == 0 {
		members = append(members, s.peer())
	}
	switch s.n(16) {
	case 0, 1, 2:
		cargo := wire.EncodeCargo(&wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: []byte{1}})
		return &wire.StageCall{Key: k, Backward: s.n(2) == 0, Bytes: uint64(len(cargo))}, cargo
	case 3:
		return &wire.StageCancel{Key: k}, nil
	case 4, 5:
		return &wire.StageAccept{Key: k}, nil
	case 6, 7:
		c := &wire.StageClose{Trainer: k.Trainer, Step: k.Step, Try: k.Try, Edition: edition, Stage: k.Stage, Members: members, Total: 1}
		if s.n(2) == 0 {
			c.Micros = []uint64{k.Micro}
		}
		return c, nil
	case 8:
		return &wire.StageApply{Trainer: k.Trainer, Step: k.Step, Try: k.Try, Edition: edition, Stage: k.Stage, NormSq: s.small()}, nil
	case 9:
		return &wire.StageVoid{Trainer: k.Trainer, Step: k.Step, Try: k.Try}, nil
	case 10:
		answer := worker.MakeAnswer(s.n(3), 0, []byte{2})
		return &wire.StageAnswer{Key: k, Bytes: uint64(len(answer))}, answer
	case 11:
		return &wire.StageRefusal{Key: k, Code: wire.StageRefusalCode(1 + s.n(7)), Version: s.small()}, nil
	case 12:
		return &wire.StageCounted{Key: k, Fate: wire.StageFate(1 + s.n(3))}, nil
	case 13:
		sum := make([]byte, 4*s.pipe.stageValues())
		return &wire.StageSum{Trainer: k.Trainer, Step: k.Step, Try: k.Try, Edition: edition, Stage: k.Stage, Bytes: uint64(len(sum))}, sum
	case 14:
		return &wire.StageMissing{Trainer: k.Trainer, Step: k.Step, Try: k.Try, Edition: edition, Stage: k.Stage, Micros: []uint64{k.Micro}, Behind: s.n(2) == 0}, nil
	}
	if s.n(2) == 0 {
		return &wire.StageReduced{Trainer: k.Trainer, Step: k.Step, Try: k.Try, Edition: edition, Stage: k.Stage}, nil
	}
	return &wire.StageApplied{Trainer: k.Trainer, Step: k.Step, Stage: k.Stage, Version: k.Step + 1}, nil
}
