package peer

import (
	"log/slog"
	"testing"
	"time"

	"dunlin/catchup"
	"dunlin/coordinator"
	"dunlin/peer/figures"
	"dunlin/peer/judge"
	"dunlin/peer/keeper"
	"dunlin/peer/mailbox"
	"dunlin/peer/stage"
	"dunlin/peer/worker"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/replica"
	"dunlin/wire"
)

// TestOnlyWeightsOfNowAreTaken: weights that the keeper was asked for before the replica was repaired, or that come while the
// inner loop is halted, are not trained from.
func TestOnlyWeightsOfNowAreTaken(t *testing.T) {
	p := &Peer{
		log: slog.New(slog.DiscardHandler), figures: figures.New(figures.Subject{Spec: &wire.RunSpec{}}, time.Now()), spec: &wire.RunSpec{},
		crew:   crew{keeper: &keeper.Keeper{Orders: mailbox.New[any]()}, worker: worker.New(&wire.RunSpec{}, &idle{}, nil, 0, nil)},
		tenure: tenure{restarts: 1},
	}
	asked := func() (list []keeper.WeightsAsked) {
		for _, o := range p.keeper.Orders.Take() {
			list = append(list, o.(keeper.WeightsAsked))
		}
		return list
	}
	begun := func() (n int) {
		for _, o := range p.worker.Orders.Take() {
			if _, is := o.(worker.Begin); is {
				n++
			}
		}
		return n
	}
	do := func(effects ...coordinator.JoinerEffect) {
		for _, e := range effects {
			p.doJoiner(t.Context(), e)
		}
	}
	give := func(q keeper.WeightsAsked) { p.handle(t.Context(), keeper.WeightsGiven{Restart: q.Restart}) }

	do(coordinator.TakeSlot{Slot: 1}, coordinator.StartTraining{})
	first := asked()
	p.doCatchup(catchup.Repair{Reason: "a test"})
	do(coordinator.StopTraining{}, coordinator.StartTraining{})
	second := asked()
	if len(first) != 1 || len(second) != 1 {
		t.Fatalf("asked %v, after the repair %v", first, second)
	}
	if give(first[0]); begun() != 0 {
		t.Error("it begins from what the replica was before its repair")
	}
	if give(second[0]); begun() != 1 {
		t.Error("it does not begin from what the replica is")
	}
	p.doCatchup(catchup.Jumped{At: 1})
	do(coordinator.StopTraining{}, coordinator.StartTraining{})
	third := asked()
	if do(coordinator.StopTraining{}); len(third) != 1 {
		t.Fatalf("asked %v", third)
	}
	if give(third[0]); begun() != 0 {
		t.Error("it begins while it is halted")
	}
	do(coordinator.StartTraining{})
	fourth := asked()
	if len(fourth) != 1 {
		t.Fatalf("after a halt asked %v", fourth)
	}
	if give(fourth[0]); begun() != 1 {
		t.Error("it does not begin after a halt")
	}
}

// TestOneStateIsJudgedAtATime: while one is measured, the next waits, and the run's last one comes right behind it.
func TestOneStateIsJudgedAtATime(t *testing.T) {
	spec, _ := recipetest.Spec(t, func(*recipe.Run) {})
	r, err := replica.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	p := &Peer{
		log: slog.New(slog.DiscardHandler), figures: figures.New(figures.Subject{Spec: spec}, time.Now()),
		crew: crew{replica: r, judge: &judge.Judge{Orders: mailbox.New[judge.Order]()}},
	}
	checkpoint := func(height uint64) {
		p.life.Height, p.judgeDue = height, true
		p.askDue()
	}
	p.ask(false)
	checkpoint(4)
	checkpoint(8)
	orders := p.judge.Orders.Take()
	if len(orders) != 1 || orders[0].Height != 0 || len(orders[0].Tensors()) != len(spec.Tensors) {
		t.Fatalf("%d orders under way", len(orders))
	}
	p.handle(t.Context(), judge.Judged{Height: 0})
	p.life.Height = 9
	p.askDue()
	p.ask(true)
	orders = p.judge.Orders.Take()
	if len(orders) != 1 || orders[0].Height != 9 || orders[0].Last {
		t.Fatalf("after the first: %+v", orders)
	}
	p.handle(t.Context(), judge.Judged{Height: 9})
	if orders = p.judge.Orders.Take(); len(orders) != 1 || !orders[0].Last {
		t.Errorf("at the end: %+v", orders)
	}
	p.handle(t.Context(), judge.Judged{Height: 9, Last: true, Took: time.Hour})
	if checkpoint(12); len(p.judge.Orders.Take()) != 0 {
		t.Error("the judge is busy all the time")
	}
}

// TestNothingIsNotPassed: who passes what cannot be decoded hears it from the transport, and leaves nothing here.
func TestNothingIsNotPassed(t *testing.T) {
	p := &Peer{crew: crew{pipe: &stage.Pipe{}}, queues: queues{network: make(chan any, 1), inbox: mailbox.New[any]()}}
	if err := p.Passed(wire.PeerID{}, []byte("nothing")); err == nil {
		t.Error("it is taken")
	}
	if n := len(p.inbox.Take()) + len(p.network); n != 0 {
		t.Errorf("%d words about it are kept", n)
	}
}
