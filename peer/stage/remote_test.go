package stage

import (
	"bytes"
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/peer/mailbox"
	"dunlin/peer/worker"
	"dunlin/pipeline"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/wire"
)

// The peers of these tests: one a stage, and others.
var (
	first, second, third = wire.PeerID{1}, wire.PeerID{2}, wire.PeerID{3}
	successor, stranger  = wire.PeerID{4}, wire.PeerID{9}
)

// trains is the slot of the first peer, which has the trainer.
const trains = wire.Slot(3)

// sent is what a pipe passes on.
type sent []Passed // From is who it is for

func (s *sent) Connect(context.Context, wire.PeerID, []string) error { return nil }

func (s *sent) Pass(to wire.PeerID, b []byte) error {
	m, cargo, err := wire.DecodePassed(b)
	*s = append(*s, Passed{to, m, cargo})
	return err
}

// take returns what was passed on since.
func (s *sent) take() (out sent) {
	out, *s = *s, nil
	return out
}

// guarded is what a pipe passes on that runs on its own.
type guarded struct {
	mu sync.Mutex
	sent
}

func (g *guarded) Pass(to wire.PeerID, b []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sent.Pass(to, b)
}

func (g *guarded) take() sent {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sent.take()
}

// remotePipe is the pipe of one of three peers, which all know of each other; its worker
// computes nothing by itself.
func remotePipe(t *testing.T, stage int, synchronous bool) (*Pipe, *sent) {
	t.Helper()
	spec, _ := recipetest.Spec(t, func(r *recipe.Run) {
		r.Stages, r.Activation, r.Batch, r.Micro, r.Synchronous = 3, "fp32", 2, 1, synchronous
	})
	p, err := New(spec, []wire.PeerID{first, second, third}[stage], stage, 1, func(any) {})
	if err != nil {
		t.Fatal(err)
	}
	out := &sent{}
	p.ctx, p.transport = t.Context(), out
	for i, id := range []wire.PeerID{first, second, third} {
		tell(p, Listed{Slot: trains - wire.Slot(i), Peer: id, Stage: i})
		tell(p, PeerUp{id})
	}
	tell(p, Listed{Slot: 4, Peer: successor, Stage: 0})
	return p, out
}

// serving has a worker begin; where there is text, so does a trainer.
func serving(p *Pipe, text *Text) *mailbox.Mailbox[any] {
	orders := mailbox.New[any]()
	tell(p, Equipped{Worker: orders, Text: text})
	tell(p, worker.Grant{Ranges: []wire.Range{{From: 0, To: 1}}})
	tell(p, Served{Slot: trains - wire.Slot(p.stage)})
	return orders
}

func tell(p *Pipe, ev any) {
	p.handle(ev)
	p.step()
}

func hear(p *Pipe, from wire.PeerID, m wire.StageMessage, cargo []byte) {
	p.take(Passed{from, m, cargo})
	p.step()
}

// call has the first peer ask for a pass.
func call(p *Pipe, key wire.StageKey, backward bool) {
	cargo := wire.EncodeCargo(&wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: []byte{1}})
	hear(p, first, &wire.StageCall{Key: key, Backward: backward, Bytes: uint64(len(cargo))}, cargo)
}

func closeOf(trainer wire.Slot, step uint64) *wire.StageClose {
	return &wire.StageClose{Trainer: trainer, Step: step, Edition: 1, Stage: 1, Members: []wire.PeerID{second}, Total: 2}
}

// TestLoadingPeerIsLeftOutOfAStep closes a step with a peer whose weights are not there.
func TestLoadingPeerIsLeftOutOfAStep(t *testing.T) {
	p, out := remotePipe(t, 1, true)
	for _, from := range []wire.PeerID{first, stranger} {
		hear(p, from, closeOf(trains, 0), nil)
		got := out.take()
		if len(got) != 1 || got[0].From != from {
			t.Fatalf("%d messages answer a close", len(got))
		}
		if m, ok := got[0].Message.(*wire.StageMissing); !ok || !m.Behind || m.Edition != 1 {
			t.Errorf("a close is answered with %T, %v", got[0].Message, got[0].Message)
		}
	}
}

// TestOnlyTheTrainerOrders has others than the trainer say what only it may, under its slot,
// one that is not there and their own.
func TestOnlyTheTrainerOrders(t *testing.T) {
	key := wire.StageKey{Trainer: trains, Stage: 1, Attempt: 1}
	for name, m := range map[string]wire.StageMessage{
		"cancel":                  &wire.StageCancel{Key: key},
		"void":                    &wire.StageVoid{Trainer: trains, Try: 1},
		"void of a later trainer": &wire.StageVoid{Trainer: 1 << 60},
		"void of its own slot":    &wire.StageVoid{Trainer: 4},
		"call of the third slot":  &wire.StageCall{Key: wire.StageKey{Trainer: 1, Stage: 1, Attempt: 1}},
		"close":                   closeOf(trains, 0),
		"later close":             closeOf(1<<60, 0),
		"close of its own slot":   closeOf(4, 0),
		"accept":                  &wire.StageAccept{Key: key},
		"apply":                   &wire.StageApply{Trainer: trains, Stage: 1},
		"call of a later step":    &wire.StageCall{Key: wire.StageKey{Trainer: trains, Step: 1 << 60, Stage: 1, Attempt: 2}},
		"call of its own slot":    &wire.StageCall{Key: wire.StageKey{Trainer: 4, Stage: 1, Attempt: 1}},
	} {
		for _, from := range []wire.PeerID{stranger, third, successor} {
			p, out := remotePipe(t, 1, true)
			orders := serving(p, nil)
			call(p, key, true)
			tell(p, worker.PassComputed{Key: key, Answer: worker.MakeAnswer(worker.AnswerBackward, 0, nil)})
			orders.Take()
			out.take()
			cargo := []byte(nil)
			if _, call := m.(*wire.StageCall); call {
				cargo = wire.EncodeCargo(&wire.Cargo{})
			}
			hear(p, from, m, cargo)
			if did := orders.Take(); len(did) > 0 {
				t.Errorf("%s of another peer: the worker is ordered %T", name, did[0])
			}
			hear(p, first, &wire.StageAccept{Key: key}, nil)
			if did := orders.Take(); len(did) != 1 || did[0] != any(worker.AddOrder{Key: key}) {
				t.Errorf("%s of another peer: what the trainer accepts then makes %v", name, did)
			}
		}
	}
}

// TestAbsurdCargoIsNotKept sends more than a micro-batch can be.
func TestAbsurdCargoIsNotKept(t *testing.T) {
	p, out := remotePipe(t, 1, false)
	serving(p, nil)
	for size, want := range map[int]wire.StageRefusalCode{p.mostCargo() - 100: 0, p.mostCargo(): wire.StageInvalid} {
		cargo := wire.EncodeCargo(&wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: make([]byte, size)})
		hear(p, first, &wire.StageCall{Key: wire.StageKey{Trainer: trains, Stage: 1, Attempt: 1, Micro: uint64(size)}, Bytes: uint64(len(cargo))}, cargo)
		var code wire.StageRefusalCode
		for _, m := range out.take() {
			code = m.Message.(*wire.StageRefusal).Code
		}
		if code != want {
			t.Errorf("a call with %d bytes is refused as %s, want %s", len(cargo), code, want)
		}
	}
	if len(p.calls) != 1 {
		t.Errorf("%d calls are kept", len(p.calls))
	}
}

// TestRepeatedCallIsKeptOnce asks again for a micro-batch under keys that differ in what
// says nothing with local steps, while it waits, is computed and is held.
func TestRepeatedCallIsKeptOnce(t *testing.T) {
	p, _ := remotePipe(t, 1, false)
	serving(p, nil)
	key := wire.StageKey{Trainer: trains, Stage: 1, Attempt: 1}
	again := func() {
		t.Helper()
		other := key
		other.Step = 5
		if call(p, other, true); len(p.calls) != 2 {
			t.Errorf("%d calls are kept of two micro-batches", len(p.calls))
		}
	}
	call(p, key, true)
	key.Micro++
	call(p, key, true)
	again()
	key.Micro--
	again()
	tell(p, worker.PassComputed{Key: key, Answer: worker.MakeAnswer(worker.AnswerBackward, 0, nil)})
	again()
}

// TestLateAnswersAreNotKept answers for others, twice and too late: what the next stages
// compute on is what the awaited peer sent.
func TestLateAnswersAreNotKept(t *testing.T) {
	lateAnswers(t, worker.AnswerBackward, 0, "of the other kind")
	lateAnswers(t, worker.AnswerForward, 0, strings.Repeat("too much", 1<<12))
	for _, loss := range []float64{math.NaN(), math.Inf(1), -1, 1e30} { // heartbeats would carry it
		lateAnswers(t, worker.AnswerForward, float32(loss), "with an absurd loss")
	}
}

func lateAnswers(t *testing.T, kind byte, loss float32, bad string) {
	t.Helper()
	p, out := remotePipe(t, 0, false)
	spec, tokens := p.spec, make([]byte, 4000)
	text, err := NewText(spec, tokens)
	if err != nil {
		t.Fatal(err)
	}
	serving(p, text)
	own := wire.StageKey{Trainer: trains, Stage: 0, Attempt: 1}
	answerLoss := func(from wire.PeerID, key wire.StageKey, kind byte, loss float32, body string) {
		b := worker.MakeAnswer(kind, loss, []byte(body))
		hear(p, from, &wire.StageAnswer{Key: key, Bytes: uint64(len(b))}, b)
	}
	answer := func(from wire.PeerID, key wire.StageKey, kind byte, body string) {
		answerLoss(from, key, kind, 0, body)
	}
	awaited := func() wire.StageKey {
		t.Helper()
		for _, m := range out.take() {
			if c, ok := m.Message.(*wire.StageCall); ok {
				return c.Key
			}
		}
		t.Fatal("nothing is called")
		return wire.StageKey{}
	}
	input := func(stage int, want string) {
		t.Helper()
		if got := p.trainer.micros[0].inputs[stage]; !bytes.Equal(got, []byte(want)) {
			t.Fatalf("stage %d's input is %.40q, want %q", stage, got, want)
		}
	}
	tell(p, worker.PassComputed{Key: own, Answer: worker.MakeAnswer(worker.AnswerForward, 0, []byte("own"))})
	input(1, "own")
	answer(first, own, worker.AnswerForward, "again")
	input(1, "own")

	key := awaited()
	answer(stranger, key, worker.AnswerForward, "a stranger's")
	input(2, "")
	answerLoss(second, key, kind, loss, bad) // it is called again, for that was no answer
	if p.trainer.micros[0].gradients[0] != nil {
		t.Fatal("a forward call is answered with a gradient")
	}
	answer(second, key, worker.AnswerForward, "of an attempt that is over")
	input(2, "")
}

// TestUnawaitedAnswersAreForgotten cancels a call while it is computed, and loses its trainer.
func TestUnawaitedAnswersAreForgotten(t *testing.T) {
	p, _ := remotePipe(t, 1, false)
	serving(p, nil)
	for attempt, end := range []func(wire.StageKey){
		func(k wire.StageKey) { hear(p, first, &wire.StageCancel{Key: k}, nil) },
		func(wire.StageKey) { tell(p, PeerDown{first}) },
	} {
		key := wire.StageKey{Trainer: trains, Stage: 1, Attempt: 1 + uint64(attempt)}
		call(p, key, true)
		end(key)
		tell(p, worker.PassComputed{Key: key, Answer: worker.MakeAnswer(worker.AnswerBackward, 0, nil)})
		if len(p.answers)+len(p.calls) > 0 {
			t.Errorf("%d answers and %d calls are kept of what nobody awaits", len(p.answers), len(p.calls))
		}
	}
}

// TestSumsOfOthersAreNotKept gives sums to a member of a stage, who keeps those of members.
func TestSumsOfOthersAreNotKept(t *testing.T) {
	p, _ := remotePipe(t, 1, true)
	orders := serving(p, nil)
	member, early := wire.PeerID{5}, wire.PeerID{6} // the log has one; the other is in the close
	tell(p, Listed{Slot: 5, Peer: member, Stage: 1})
	give := func(from wire.PeerID, step uint64, want int) {
		t.Helper()
		sum := make([]byte, 4*p.stageValues())
		hear(p, from, &wire.StageSum{Trainer: trains, Step: step, Edition: 1, Stage: 1, Bytes: uint64(len(sum))}, sum)
		if got := len(p.reduction.sums); got != want {
			t.Errorf("%d sums wait after %s's, want %d", got, from.Short(), want)
		}
	}
	give(stranger, 0, 0)
	give(third, 0, 0)
	give(early, 0, 0)
	give(member, 0, 1)
	c := closeOf(trains, 0)
	c.Members = []wire.PeerID{second, member, early}
	hear(p, first, c, nil)
	orders.Take()
	give(early, 0, 0) // all are here: they are the worker's now
	if did := orders.Take(); len(did) != 1 {
		t.Errorf("all sums are here and the worker is ordered %v", did)
	}
	tell(p, worker.StageStepped{Version: 1})
	give(member, 0, 0) // of a step that is made
}

// TestLeavingPeerSendsCallsAway has a peer leave: what it holds and what comes is given
// back, no step is closed with it, and its trainer begins nothing more.
func TestLeavingPeerSendsCallsAway(t *testing.T) {
	p, out := remotePipe(t, 1, true)
	serving(p, nil)
	key := wire.StageKey{Trainer: trains, Stage: 1, Attempt: 1}
	call(p, key, true)
	tell(p, worker.PassComputed{Key: key, Answer: worker.MakeAnswer(worker.AnswerBackward, 0, nil)})
	out.take()
	tell(p, Unserved{})
	tell(p, Leaves{})
	if got := out.take(); len(got) != 1 || *got[0].Message.(*wire.StageCounted) != (wire.StageCounted{Key: key, Fate: wire.StageGivenUp}) {
		t.Errorf("it leaves with %v", got)
	}
	key.Attempt++
	call(p, key, true)
	if got := out.take(); len(got) != 1 || got[0].Message.(*wire.StageRefusal).Code != wire.StageMoving {
		t.Errorf("a call is answered with %v", got)
	}
	hear(p, first, closeOf(trains, 0), nil)
	if got := out.take(); len(got) != 1 || !got[0].Message.(*wire.StageMissing).Behind {
		t.Errorf("a close is answered with %v", got)
	}

	p, _ = remotePipe(t, 0, false)
	text, err := NewText(p.spec, make([]byte, 4000))
	if err != nil {
		t.Fatal(err)
	}
	serving(p, text)
	tell(p, Leaves{})
	for _, e := range p.trainer.machine.Step(time.Now().Add(2*time.Second), pipeline.Tick{}) {
		if _, draw := e.(pipeline.Draw); draw {
			t.Errorf("a leaving trainer does %v", e)
		}
	}
}

// TestBannedPeerIsTriedAgain has a peer fail whose session stays up: nothing but time tells
// that it may be well again.
func TestBannedPeerIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := remotePipe(t, 0, false)
		out := &guarded{}
		text, err := NewText(p.spec, make([]byte, 4000))
		if err != nil {
			t.Fatal(err)
		}
		serving(p, text)
		ctx, end := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer end()
		go p.Run(ctx, out)
		p.Inbox.Put(worker.PassComputed{Key: wire.StageKey{Trainer: trains, Attempt: 1}, Answer: worker.MakeAnswer(worker.AnswerForward, 0, nil)})
		called := func() (keys []wire.StageKey) {
			synctest.Wait()
			for _, m := range out.take() {
				if c, ok := m.Message.(*wire.StageCall); ok && m.From == second {
					keys = append(keys, c.Key)
				}
			}
			return keys
		}
		for try := range 3 {
			keys := called()
			if len(keys) == 0 {
				t.Fatalf("try %d: it is not called", try)
			}
			p.Network <- Passed{From: second, Message: &wire.StageRefusal{Key: keys[len(keys)-1], Code: wire.StageBroken}}
			if keys = called(); len(keys) > 0 {
				t.Fatalf("try %d: it is called at once", try)
			}
			time.Sleep(5 * time.Minute)
		}
	})
}

// TestAbsurdStepIsNotFollowed: the trainer itself does not lead its servers so far that no
// other trainer reaches them.
func TestAbsurdStepIsNotFollowed(t *testing.T) {
	p, out := remotePipe(t, 1, true)
	serving(p, nil)
	for step, follows := range map[uint64]bool{1 << 60: false, 7: true} {
		call(p, wire.StageKey{Trainer: trains, Step: step, Stage: 1, Attempt: 1}, true)
		if got := out.take(); (p.version == step) != follows || (len(got) == 0) != follows {
			t.Errorf("a call of step %d: version %d, answered with %v", step, p.version, got)
		}
	}
}
