package pipeline

import (
	"time"

	"dunlin/wire"
)

// admitted is the part of a server's driver that looks at who sends what and at its own
// state, before anything reaches the machine (peer/stage has the product's).
func (w *world) admitted(from, to *host, m wire.StageMessage) bool {
	slot, serving := TrainerOf(m), to.serving && !to.leaves
	if slot == 0 {
		return true
	}
	trains := from.trainer != nil && from.trainer.cfg.Slot == slot || w.plan.bug == "server's driver obeys strangers"
	switch m := m.(type) {
	case *wire.StageCall:
		if trains && serving {
			return true
		}
		code := wire.StageBusy
		if to.leaves {
			code = wire.StageMoving
		}
		w.transmit(to, from, envelope{message: &wire.StageRefusal{Key: m.Key, Code: code, Reason: "not now"}})
		return false
	case *wire.StageClose:
		if trains && (serving || w.plan.bug == "loading peer's driver takes closes") {
			return true
		}
		w.transmit(to, from, envelope{message: Missing(m, m.Micros, "not now", true)})
		return false
	}
	return trains
}

// strangersSpeak has somebody who is nobody's trainer and serves no stage say everything
// that there is to say, about what is under way and what is not, to everybody.
func (w *world) strangersSpeak() {
	if w.calm {
		return
	}
	stranger := &host{id: wire.PeerID{byte(w.rng.IntN(256)), 0x57}, alive: true, links: map[wire.PeerID]time.Duration{}, cuts: map[wire.PeerID]time.Duration{}}
	for _, t := range w.trainers {
		if !t.alive || len(t.trainer.micros) == 0 {
			continue
		}
		m := t.trainer.micros[w.rng.IntN(len(t.trainer.micros))]
		key, st := t.trainer.key(m, w.rng.IntN(w.plan.stages)), &t.trainer.step
		if key.Attempt == 0 {
			continue
		}
		for _, slot := range []wire.Slot{key.Trainer, key.Trainer + 1, 1 << 60} {
			k := key
			k.Trainer = slot
			for _, h := range w.servers {
				for _, m := range []wire.StageMessage{
					&wire.StageCall{Key: k}, &wire.StageCall{Key: k, Backward: true}, &wire.StageCancel{Key: k}, &wire.StageAccept{Key: k},
					&wire.StageClose{
						Trainer: slot, Step: k.Step, Try: st.try, Edition: st.edition + 1, Stage: uint64(h.stage), Members: []wire.PeerID{h.id}, Total: 1,
					},
					&wire.StageApply{Trainer: slot, Step: k.Step, Try: st.try, Edition: st.edition, Stage: uint64(h.stage)},
					&wire.StageVoid{Trainer: slot, Step: k.Step, Try: st.try + 1},
				} {
					w.transmit(stranger, h, envelope{message: m})
				}
			}
		}
		for stage := range uint64(w.plan.stages) {
			for _, m := range []wire.StageMessage{
				&wire.StageReduced{Trainer: key.Trainer, Step: key.Step, Try: st.try, Edition: st.edition, Stage: stage},
				&wire.StageMissing{Trainer: key.Trainer, Step: key.Step, Try: st.try, Edition: st.edition, Stage: stage, Micros: []uint64{key.Micro}, Behind: true},
				&wire.StageApplied{Trainer: key.Trainer, Step: key.Step, Stage: stage, Version: key.Step + 1},
				&wire.StageSum{Trainer: key.Trainer, Step: key.Step, Try: st.try, Edition: st.edition, Stage: stage},
			} {
				w.transmit(stranger, t, envelope{message: m})
			}
		}
		for _, m := range []wire.StageMessage{
			&wire.StageAnswer{Key: key}, &wire.StageRefusal{Key: key, Code: wire.StageAlready}, &wire.StageCounted{Key: key, Fate: wire.StageInSum},
		} {
			w.transmit(stranger, t, envelope{message: m, payload: [2]uint64{666}})
		}
	}
}
