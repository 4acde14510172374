package pipeline

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dunlin/wire"
)

// FuzzSteps feeds both machines arbitrary events, hostile ones among them: no
// panic, bounded effects, never a deadline that has passed already, and every
// effect and event has a transcript line.
func FuzzSteps(f *testing.F) {
	f.Add([]byte("a step"))
	f.Add(slices.Repeat([]byte{0, 1, 3, 4, 9, 12, 5, 13, 17, 14}, 12))
	f.Fuzz(func(t *testing.T, script []byte) { playScript(t, script) })
}

func TestStepsOfManyRandomScripts(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 0))
	b := make([]byte, 800)
	for range 400 {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		playScript(t, b)
	}
}

// reader takes numbers from a script; an exhausted one gives zeros.
type reader struct{ b []byte }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// small returns mostly small numbers, sometimes absurd ones.
func (r *reader) small() uint64 {
	v := r.byte()
	if v < 240 {
		return uint64(v % 4)
	}
	return ^uint64(0) >> (v - 240)
}

func (r *reader) peer() wire.PeerID { return wire.PeerID{r.byte() % 5} }

func (r *reader) micros() []uint64 {
	return slices.Repeat([]uint64{r.small()}, int(r.byte()%3))
}

type scripted struct {
	trainer *Trainer
	server  *Server
	sent    []wire.StageMessage // repeated back now and then
}

func playScript(t *testing.T, script []byte) {
	r := &reader{script[:min(len(script), 4096)]}
	mode := Mode(r.byte() % 2)
	var s scripted
	var err error
	s.trainer, err = NewTrainer(TrainerConfig{
		Slot: 1, Stages: 3, Mode: mode, Batch: 3, InFlight: 4, PerPeer: 2, Bytes: 1 << 20, Limits: DefaultLimits(), Rand: rand.New(rand.NewPCG(1, 2)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.server, err = NewServer(ServerConfig{Stage: int(r.byte() % 3), Stages: 3, Mode: mode, Queue: 3, Held: 2, Batch: 2, Limits: DefaultLimits()}); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	for len(r.b) > 0 {
		now = now.Add(time.Duration(r.byte()) * time.Duration(r.byte()) * time.Millisecond)
		s.step(t, now, s.event(r))
	}
	s.trainer.Snapshot()
	s.server.Snapshot()
}

// step gives the event to both machines, and a Tick.
func (s *scripted) step(t *testing.T, now time.Time, ev Event) {
	_ = ev.String()
	for _, m := range []struct {
		name     string
		step     func(time.Time, Event) []Effect
		deadline func() time.Time
	}{{"trainer", s.trainer.Step, s.trainer.Deadline}, {"server", s.server.Step, s.server.Deadline}} {
		effects := m.step(now, ev)
		for range 2 {
			if d := m.deadline(); !d.IsZero() && !d.After(now) {
				t.Fatalf("%s asks for a tick at %s, not after now, %s, after %s", m.name, d, now, ev)
			}
			if len(effects) > 64 {
				t.Fatalf("%s has %d effects after %s", m.name, len(effects), ev)
			}
			for _, e := range effects {
				_ = e.String()
				if e, ok := e.(Send); ok && len(s.sent) < 64 {
					if _, err := wire.DecodeStageMessage(wire.EncodeStageMessage(e.Message)); err != nil {
						t.Fatalf("%s sends what nobody can read: %v", m.name, err)
					}
					s.sent = append(s.sent, e.Message)
				}
			}
			effects = m.step(now, Tick{})
		}
	}
}

func (s *scripted) key(r *reader) wire.StageKey {
	k := wire.StageKey{Trainer: wire.Slot(r.small()), Step: r.small(), Try: r.small(), Micro: r.small(), Stage: r.small(), Attempt: r.small()}
	if r.byte()%4 > 0 { // one that has a chance
		k.Trainer, k.Step, k.Try = 1, s.trainer.stepNumber(), s.trainer.step.try
		if m := s.trainer.find(k.Micro); m != nil && k.Stage < 3 {
			k.Attempt = m.parts[k.Stage].attempt
		}
	}
	return k
}

func (s *scripted) event(r *reader) Event {
	st := s.trainer.step
	number, try, edition := r.small(), r.small(), r.small()
	if r.byte()%4 > 0 {
		number, try, edition = st.number, st.try, st.edition
	}
	k := s.key(r)
	switch r.byte() % 22 {
	case 0, 1:
		return Announced{r.peer(), int(r.small() & 0x7fff), PeerState(r.byte() % 4), r.small(), Link{time.Duration(r.small()), float64(r.small())}}
	case 2:
		return PeerDown{r.peer()}
	case 3, 4:
		return Drawn{r.small()}
	case 5:
		return NotDrawn{r.small(), "r"}
	case 6:
		return Failed{k, "r"}
	case 7:
		return Decided{number, try, edition}
	case 8:
		return Tick{}
	case 9:
		if r.byte()%8 > 0 {
			return Tick{}
		}
		return Stop{}
	case 10:
		return Computed{s.running(k), time.Duration(r.small())}
	case 11:
		return ComputeFailed{s.running(k), "r"}
	case 12:
		return Added{s.running(k)}
	case 13:
		return Reduced{number, try, edition, float64(r.small())}
	case 14:
		return ReduceFailed{number, try, edition, "r"}
	case 15:
		return Stepped{r.small()}
	case 16:
		return Moved{r.small()}
	case 17:
		if r.byte()%8 > 0 {
			return Tick{}
		}
		return Leave{}
	case 18:
		if len(s.sent) > 0 {
			return From{r.peer(), s.sent[int(r.byte())%len(s.sent)]}
		}
		return Tick{}
	default:
		peer := r.peer()
		if m := s.trainer.find(k.Micro); m != nil && k.Stage < 3 && r.byte()%4 > 0 {
			peer = m.parts[k.Stage].holder
		}
		m, err := wire.DecodeStageMessage(wire.EncodeStageMessage(s.message(r, k, number, try, edition)))
		if err != nil {
			return Tick{} // wire stops it
		}
		return From{peer, m}
	}
}

// running returns the key of what the server computes, now and then.
func (s *scripted) running(k wire.StageKey) wire.StageKey {
	if s.server.running != nil && k.Attempt != 2 {
		return s.server.running.call.Key
	}
	return k
}

func (s *scripted) message(r *reader, k wire.StageKey, number, try, edition uint64) wire.StageMessage {
	trainer, stage := k.Trainer, k.Stage
	switch r.byte() % 12 {
	case 0, 1:
		return &wire.StageCall{Key: k, Backward: r.byte()%2 == 0, Version: r.small()}
	case 2:
		return &wire.StageCancel{Key: k}
	case 3:
		return &wire.StageAccept{Key: k}
	case 4:
		return &wire.StageClose{Trainer: trainer, Step: number, Try: try, Edition: edition, Stage: stage, Members: []wire.PeerID{r.peer()}, Micros: r.micros(), Total: 3}
	case 5:
		return &wire.StageApply{Trainer: trainer, Step: number, Try: try, Edition: edition, Stage: stage, NormSq: r.small()}
	case 6:
		return &wire.StageVoid{Trainer: trainer, Step: number, Try: try}
	case 7:
		return &wire.StageRefusal{Key: k, Code: wire.StageRefusalCode(r.byte() % 9), Reason: "r", Version: r.small()}
	case 8:
		return &wire.StageCounted{Key: k, Fate: wire.StageFate(r.byte() % 4)}
	case 9:
		return &wire.StageReduced{Trainer: trainer, Step: number, Try: try, Edition: edition, Stage: stage, NormSq: r.small()}
	case 10:
		return &wire.StageMissing{Trainer: trainer, Step: number, Try: try, Edition: edition, Stage: stage, Micros: r.micros(), Behind: r.byte()%4 == 0}
	default:
		return &wire.StageAnswer{Key: k, Version: r.small(), Wait: r.small(), Took: r.small()}
	}
}
