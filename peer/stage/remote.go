package stage

import (
	"dunlin/pipeline"
	"dunlin/wire"
)

// take gives a message to the machine that it is for.
func (p *Pipe) take(m Passed) {
	switch msg := m.Message.(type) {
	case *wire.StageCall:
		if refusal := p.admit(m.From, msg, m.Cargo); refusal != nil {
			p.send(m.From, refusal, nil)
			return
		}
		p.toServer(pipeline.From{Peer: m.From, Message: msg})
	case *wire.StageClose:
		if why := p.untaken(m.From, msg.Trainer); why != "" {
			p.send(m.From, pipeline.Missing(msg, msg.Micros, why, true), nil)
			return
		}
		p.toServer(pipeline.From{Peer: m.From, Message: msg})
	case *wire.StageCancel, *wire.StageAccept, *wire.StageApply, *wire.StageVoid:
		if p.trains(m.From, pipeline.TrainerOf(msg)) {
			p.toServer(pipeline.From{Peer: m.From, Message: msg})
		}
	case *wire.StageSum:
		p.summed(m.From, msg, m.Cargo)
	case *wire.StageAnswer:
		p.answered(m.From, msg, m.Cargo)
	case *wire.StageRefusal, *wire.StageCounted, *wire.StageReduced, *wire.StageMissing, *wire.StageApplied:
		p.toTrainer(pipeline.From{Peer: m.From, Message: m.Message})
	}
}

// admit keeps what a call brings, or says why it is not taken.
func (p *Pipe) admit(from wire.PeerID, call *wire.StageCall, cargo []byte) *wire.StageRefusal {
	refuse := func(code wire.StageRefusalCode, reason string) *wire.StageRefusal {
		return &wire.StageRefusal{Key: call.Key, Code: code, Reason: reason[:min(len(reason), wire.MaxReason)]}
	}
	if p.leaves { // for good: trainers look elsewhere at once
		return refuse(wire.StageMoving, "it leaves the stage")
	}
	if why := p.untaken(from, call.Key.Trainer); why != "" {
		return refuse(wire.StageBusy, why)
	}
	if call.Key.Step >= pipeline.MaxStep {
		return refuse(wire.StageInvalid, "no run has so many steps")
	}
	if len(cargo) > p.mostCargo() {
		return refuse(wire.StageInvalid, "more bytes than a micro-batch of this run has")
	}
	c, err := wire.DecodeCargo(cargo)
	if err != nil {
		return refuse(wire.StageInvalid, err.Error())
	}
	p.catchUp(call.Key.Step)
	p.calls[call.Key] = c
	return nil
}

// mostCargo bounds the bytes of a call or an answer, of which many wait: a head, and for
// input and gradient 5 bytes for the token and each value that passes of a position; the
// widest codec and the widest tokens take 4.
func (p *Pipe) mostCargo() int {
	return 1<<12 + 2*5*int(p.spec.Micro*p.spec.Model.Context*(p.spec.Model.Passed()+1))
}

// trains reports whether the log has a slot as this peer's and as one that has a
// trainer: at the first stage and, where all step together, before all others there.
func (p *Pipe) trains(peer wire.PeerID, slot wire.Slot) bool {
	l := p.listed[slot]
	return l.Peer == peer && l.Stage == 0 && !(p.spec.Synchronous && p.trainsBefore(slot))
}

// trainsBefore reports whether another slot has the trainer of a run where all step together.
func (p *Pipe) trainsBefore(slot wire.Slot) bool {
	for _, l := range p.listed {
		if l.Stage == 0 && l.Slot < slot {
			return true
		}
	}
	return false
}

// untaken says why neither a call nor a close of a trainer is taken now; "" when they are.
func (p *Pipe) untaken(from wire.PeerID, slot wire.Slot) string {
	switch {
	case !p.serving:
		return "it does not train now"
	case !p.trains(from, slot):
		return "it has not heard of this trainer yet"
	}
	return ""
}
