package pipeline

import (
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// activation and gradient are what a stage's input and the gradient of its
// output are of a micro-batch: numbers that no other has.
func activation(trainer wire.Slot, micro uint64, stage int) uint64 {
	return 1 + uint64(trainer)<<40 + micro<<16 + uint64(stage)<<8
}

// anAttempt is what the number of the attempt that made it adds to either.
const anAttempt = 1 << 48

func gradient(trainer wire.Slot, micro uint64, stage int) uint64 {
	return activation(trainer, micro, stage) + 128
}

// doTrainer is a trainer's driver.
func (w *world) doTrainer(h *host, e Effect) {
	slot := h.trainer.cfg.Slot
	last := w.plan.stages - 1
	switch e := e.(type) {
	case Draw:
		if w.rng.IntN(12) == 0 {
			w.later(h, w.between(100*time.Millisecond), NotDrawn{e.Micro, "made up"})
			return
		}
		k := &keptMicro{inputs: make([]uint64, w.plan.stages), grads: make([]uint64, w.plan.stages)}
		k.inputs[0], k.grads[last] = activation(slot, e.Micro, 0), gradient(slot, e.Micro, last)
		h.kept[e.Micro] = k
		w.later(h, w.between(100*time.Millisecond), Drawn{e.Micro})
	case Send:
		to := w.find(e.To)
		if to == nil {
			w.fail("a message to nobody: %s", e)
			return
		}
		env := envelope{message: e.Message}
		if c, call := e.Message.(*wire.StageCall); call {
			k := h.kept[c.Key.Micro]
			if k == nil {
				w.fail("a call for what is released: %s", e)
				return
			}
			env.payload = [2]uint64{k.inputs[c.Key.Stage], k.grads[c.Key.Stage]}
			if c.Backward && w.plan.bug == "trainer's driver forgets a stage's input after its forward pass" && c.Key.Attempt > 2 {
				env.payload[0] = 0
			}
			w.say("   payload %v", env.payload)
		}
		w.transmit(h, to, env)
	case Release:
		w.referee.released(w, h, e)
		delete(h.kept, e.Micro)
	case Decide:
		d := e
		if w.plan.bug == "decision names another set" && len(d.Micros) > 1 {
			d.Micros = d.Micros[1:]
		}
		if w.referee.decide(slot, d) {
			w.later(h, w.between(300*time.Millisecond), Decided{e.Step, e.Try, e.Edition})
			w.followLog(e.Step)
		} else {
			w.after(0, func() { w.kill(h) }) // another's step stands; its process begins anew
		}
	case Outage, Note:
	}
}

// transmit sends one message, twice when the network is in that mood.
func (w *world) transmit(from, to *host, env envelope) {
	for i := range 2 {
		if _, call := env.message.(*wire.StageCall); i == 1 && (call || !(from.twice || to.twice)) {
			return
		}
		w.deliver(from, to, func() { w.arrived(from, to, env) })
	}
}

// arrived gives a message to a machine, after the driver has kept what came with it.
func (w *world) arrived(from, to *host, env envelope) {
	if to.trainer == nil && to.server == nil {
		return // a stranger
	}
	if to.frozen > w.now {
		life := to.life
		w.after(to.frozen-w.now, func() {
			if to.life == life {
				w.arrived(from, to, env)
			}
		})
		return
	}
	if to.server != nil && !w.admitted(from, to, env.message) {
		return
	}
	switch m := env.message.(type) {
	case *wire.StageCall:
		if to.server == nil {
			break
		}
		if to.calls[m.Key] == nil {
			to.calls[m.Key] = &keptCall{backward: m.Backward, input: env.payload[0], grad: env.payload[1]}
		}
		if w.plan.bug == "server's driver takes every try for the present one" {
			c := *m
			c.Key.Try = to.server.steps.try
			to.calls[c.Key] = to.calls[m.Key]
			env.message = &c
		}
	case *wire.StageAccept:
		if w.plan.bug == "server's driver takes every try for the present one" && to.server != nil {
			a := *m
			a.Key.Try = to.server.steps.try
			env.message = &a
		}
	case *wire.StageAnswer:
		if to.trainer != nil {
			w.keepAnswer(to, from, m.Key, env.payload[0])
		}
	case *wire.StageCounted:
		if w.plan.bug == "server denies what it counted" && m.Fate == wire.StageInSum && m.Key.Micro%3 == 0 {
			c := *m
			c.Fate = wire.StageGivenUp
			env.message = &c
		}
	}
	w.step(to, From{from.id, env.message})
}

// keepAnswer keeps a pass's output where the next stage's call finds it.
func (w *world) keepAnswer(h, from *host, k wire.StageKey, out uint64) {
	kept := h.kept[k.Micro]
	if kept == nil {
		return
	}
	backward, awaited := h.trainer.Awaits(from.id, k)
	switch w.plan.bug {
	case "trainer's driver keeps late answers":
		backward = out%256 >= 128
		awaited = from.server != nil && (backward || int(k.Stage) < w.plan.stages-1)
	case "trainer's driver keeps strangers' answers":
		if _, p := h.trainer.calling(k); p != nil {
			backward, awaited = p.backward, true
		}
	}
	if !awaited {
		return
	}
	if backward {
		if k.Stage > 0 {
			kept.grads[k.Stage-1] = out
		}
	} else {
		kept.inputs[k.Stage+1] = out
	}
}

// doServer is a server's driver.
func (w *world) doServer(h *host, e Effect) {
	switch e.(type) {
	case Compute, Add, InnerStep, Reduce, ApplyStep, Clear:
		if !h.serving {
			w.fail("%s has no weights yet: %s", h.id.Short(), e)
			return
		}
	case Send, Drop, Note:
	}
	switch e := e.(type) {
	case Send:
		to := w.find(e.To)
		if to == nil {
			return
		}
		env := envelope{message: e.Message}
		if a, answer := e.Message.(*wire.StageAnswer); answer {
			c := h.calls[a.Key]
			if c == nil || c.out == 0 {
				w.fail("%s answers without an output: %s", h.id.Short(), e)
				return
			}
			env.payload[0] = c.out
		}
		w.transmit(h, to, env)
	case Compute:
		w.compute(h, e)
	case Add:
		c := h.calls[e.Key]
		if c == nil || !c.heldGrad || c.addedOnce {
			w.fail("%s adds what it does not hold: %s", h.id.Short(), e)
			return
		}
		c.addedOnce = true
		h.endReduction(w)
		life := h.life
		w.after(w.duration(h, 0.5), func() {
			if h.life != life {
				return
			}
			delete(h.calls, e.Key)
			if w.plan.bug != "server adds at the answer" {
				h.sum = append(h.sum, idOf(e.Key))
				w.referee.added(w, h, idOf(e.Key))
			}
			w.step(h, Added(e))
		})
	case Drop:
		delete(h.calls, e.Key)
	case InnerStep:
		w.referee.innerStep(w, h, e.Micros)
		h.sum = nil
		w.later(h, w.duration(h, 0.3), Stepped{h.server.version + 1})
	case Reduce:
		h.endReduction(w)
		w.joinReduction(h, e.Close)
	case ApplyStep:
		set := h.reduced
		if w.plan.bug == "step is applied on the peer's own sum" {
			set = h.sum
		}
		w.referee.apply(w, h, e.Step, set)
		h.sum, h.reduced = nil, nil
		w.later(h, w.duration(h, 0.3), Stepped{e.Step + 1})
	case Clear:
		if w.plan.bug != "server's driver does not clear" {
			h.sum = nil
		}
		h.reduced = nil
		h.endReduction(w)
	case Note:
	}
}

func (w *world) duration(h *host, size float64) time.Duration {
	return time.Duration(float64(w.plan.compute)*size*h.slow) + w.between(20*time.Millisecond)
}

// compute runs a pass; its input has to be the stage's own of that micro-batch.
func (w *world) compute(h *host, e Compute) {
	c := h.calls[e.Key]
	if c == nil {
		w.fail("%s computes what did not come: %s", h.id.Short(), e)
		return
	}
	k := e.Key
	w.referee.computes(w, h, e, c.input, c.grad)
	size := callSize(e.Backward)
	if w.rng.IntN(200) == 0 && !w.calm {
		w.later(h, w.duration(h, size), ComputeFailed{k, "made up"})
		return
	}
	d, life := w.duration(h, size), h.life
	w.after(d, func() {
		if h.life != life {
			return
		}
		if e.Backward {
			c.out, c.heldGrad = gradient(k.Trainer, k.Micro, h.stage-1)+k.Attempt*anAttempt, true
			if w.plan.bug == "server adds at the answer" {
				h.sum = append(h.sum, idOf(k))
				w.referee.added(w, h, idOf(k))
			}
		} else {
			c.out = activation(k.Trainer, k.Micro, h.stage+1) + k.Attempt*anAttempt
		}
		w.step(h, Computed{k, d})
	})
}

// joinReduction enters a peer's sum; when all members have, each gets the whole.
func (w *world) joinReduction(h *host, c *wire.StageClose) {
	name := fmt.Sprintf("%d %d.%d.%d %d", c.Trainer, c.Step, c.Try, c.Edition, c.Stage)
	var r *reduction
	for _, o := range w.servers {
		if o.reduce != nil && o.reduce.name == name && !o.reduce.over {
			r = o.reduce
		}
	}
	if r == nil {
		r = &reduction{name: name, members: c.Members, sums: map[wire.PeerID][]MicroID{}}
		w.after(4*time.Second, func() { w.failReduction(r) })
	}
	h.reduce = r
	r.sums[h.id] = slices.Clone(h.sum)
	if len(r.sums) < len(r.members) {
		return
	}
	r.over = true
	var all []MicroID
	for _, id := range r.members {
		all = append(all, r.sums[id]...)
	}
	for _, id := range r.members {
		o := w.find(id)
		if o.reduce != r {
			continue
		}
		own := all
		if w.plan.bug == "adding up forgets the other members" {
			own = r.sums[id]
		}
		life := o.life
		w.after(w.between(500*time.Millisecond), func() {
			if o.life == life && o.reduce == r {
				o.reduce, o.reduced = nil, own
				w.step(o, Reduced{c.Step, c.Try, c.Edition, float64(len(own))})
			}
		})
	}
}

// failReduction ends an adding up in which a member is missing.
func (w *world) failReduction(r *reduction) {
	if r.over {
		return
	}
	r.over = true
	var trainer, stage, step, try, edition uint64
	if _, err := fmt.Sscanf(r.name, "%d %d.%d.%d %d", &trainer, &step, &try, &edition, &stage); err != nil {
		w.fail("%v", err)
	}
	for _, o := range w.servers {
		if o.alive && o.reduce == r {
			o.reduce = nil
			w.later(o, w.between(500*time.Millisecond), ReduceFailed{step, try, edition, "a member is missing"})
		}
	}
}

func (h *host) endReduction(w *world) {
	if r := h.reduce; r != nil {
		h.reduce = nil
		w.failReduction(r)
	}
}

// followLog brings servers that missed a step to it after a while.
func (w *world) followLog(step uint64) {
	for _, h := range w.servers {
		w.follow(h, h.life, step, 10*time.Second+w.between(2*time.Second))
	}
}

func (w *world) follow(h *host, life int, step uint64, in time.Duration) {
	w.after(in, func() {
		switch {
		case h.life != life || !h.alive || h.server.version > step || h.server.steps.stepping:
		case h.frozen > w.now:
			w.follow(h, life, step, h.frozen-w.now)
		default:
			h.sum, h.reduced = nil, nil
			w.step(h, Moved{w.referee.head()})
		}
	})
}
