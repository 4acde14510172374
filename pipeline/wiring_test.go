package pipeline

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"dunlin/wire"
)

// spread keeps so many calls under way at peers that take so long for a
// forward pass, each one call at a time, and returns how many each ended.
func spread(w *wiring, seconds map[wire.PeerID]float64, under int, now time.Time, length time.Duration) map[wire.PeerID]int {
	type call struct {
		s              *server
		started, ended time.Time
	}
	end := now.Add(length)
	free := map[wire.PeerID]time.Time{}
	done := map[wire.PeerID]int{}
	var calls []call
	for now.Before(end) {
		for len(calls) < under {
			s := w.pick(now, false)
			if s == nil {
				break
			}
			begins := now
			if free[s.id].After(now) {
				begins = free[s.id]
			}
			free[s.id] = begins.Add(time.Duration(seconds[s.id] * float64(time.Second)))
			calls = append(calls, call{s, now, free[s.id]})
		}
		next := 0
		for i := range calls {
			if calls[i].ended.Before(calls[next].ended) {
				next = i
			}
		}
		c := calls[next]
		calls = append(calls[:next], calls[next+1:]...)
		now = c.ended
		w.answered(c.s, now, c.started, false)
		done[c.s.id]++
	}
	return done
}

func testWiring(limit int) *wiring {
	return &wiring{rng: rand.New(rand.NewPCG(1, 1)), limit: limit, lim: DefaultLimits()}
}

func online(w *wiring, number byte, link Link) wire.PeerID {
	id := wire.PeerID{number}
	w.announce(Announced{Peer: id, State: Online, Seq: 1, Link: link}, time.Unix(0, 0))
	return id
}

// TestWiringSharesBySpeed: three peers, of speeds 1, 2 and 4.
func TestWiringSharesBySpeed(t *testing.T) {
	w := testWiring(16)
	seconds := map[wire.PeerID]float64{online(w, 1, Link{}): 4, online(w, 2, Link{}): 2, online(w, 3, Link{}): 1}
	done := spread(w, seconds, 12, time.Unix(0, 0), time.Hour)
	all := 0
	for _, n := range done {
		all += n
	}
	for id, s := range seconds {
		if want := 4 / s / 7; math.Abs(float64(done[id])/float64(all)-want) > 0.03 {
			t.Errorf("a peer that takes %v s has %.3f of the calls, its speed is %.3f of all", s, float64(done[id])/float64(all), want)
		}
	}
	if could := 3600 * 7 / 4.0; float64(all) < 0.97*could {
		t.Errorf("%d calls in an hour, the peers could do %.0f", all, could)
	}
}

// TestNewPeerIsTriedAndDoesNotMonopolise: after an hour of two others a third
// comes. It gets its share, not an hour's calls.
func TestNewPeerIsTriedAndDoesNotMonopolise(t *testing.T) {
	w := testWiring(16)
	one, two := online(w, 1, Link{}), online(w, 2, Link{})
	spread(w, map[wire.PeerID]float64{one: 1, two: 1}, 4, time.Unix(0, 0), time.Hour)
	three := online(w, 3, Link{})
	done := spread(w, map[wire.PeerID]float64{one: 1, two: 1, three: 1}, 6, time.Unix(4000, 0), time.Minute)
	if done[three] < 50 || done[three] > 70 {
		t.Errorf("the newcomer ran %d of %d calls of its first minute, a third is its share", done[three], done[one]+done[two]+done[three])
	}
}

// TestTimeOutsCount: a peer that never answers loses its good score.
func TestTimeOutsCount(t *testing.T) {
	w := testWiring(1)
	dead, alive := online(w, 1, Link{}), online(w, 2, Link{})
	spread(w, map[wire.PeerID]float64{dead: 0.1, alive: 0.1}, 2, time.Unix(0, 0), time.Minute)
	s := w.find(dead)
	before := s.rate()
	s.calls++
	w.timedOut(s, time.Unix(100, 0), time.Unix(70, 0), false)
	if s.rate() < 20*before {
		t.Errorf("after 30 s without an answer a pass is taken for %v s, before for %v", s.rate(), before)
	}
}

// TestLinksCount: of unmeasured peers the one with the better link is preferred.
func TestLinksCount(t *testing.T) {
	w := testWiring(100)
	w.bytes = 1 << 20
	slow, fast := online(w, 1, Link{RTT: 200 * time.Millisecond, Bandwidth: 250e3}), online(w, 2, Link{RTT: 10 * time.Millisecond, Bandwidth: 100e6})
	picks := map[wire.PeerID]int{}
	for range 100 {
		picks[w.pick(time.Unix(0, 0), false).id]++
	}
	if picks[fast] < 5*picks[slow] {
		t.Errorf("%d calls over the fast link, %d over the slow one, which takes 9 times as long", picks[fast], picks[slow])
	}
}

// TestBansDoubleAndEndWithNews: a peer is let in when its ban is over and it
// has announced itself since, and earlier only when nobody else is left.
func TestBansDoubleAndEndWithNews(t *testing.T) {
	w := testWiring(1)
	bad, good := online(w, 1, Link{}), online(w, 2, Link{})
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	s := w.find(bad)
	w.fault(s, at(0), false)
	w.fault(s, at(100), false)
	if got := s.banned.Sub(at(100)); got != 30*time.Second {
		t.Errorf("the second ban in a row takes %v, want twice 15 s", got)
	}
	if w.allowed(s, at(1000), false) {
		t.Error("a peer comes back without a word of its own")
	}
	w.announce(Announced{Peer: bad, State: Online, Seq: 2}, at(110))
	if w.allowed(s, at(129), false) || !w.allowed(s, at(130), false) {
		t.Error("the ban does not end after 30 s")
	}
	if !w.allowed(s, at(110), true) || len(w.usable(at(110))) != 1 {
		t.Error("with another peer there, it is let in early; or not even when nobody else is")
	}
	w.fault(w.find(good), at(110), false)
	if usable := w.usable(at(110)); len(usable) != 1 || usable[0].id != bad {
		t.Error("nobody is let in when all are banned and one is back")
	}
}

// TestBackwardGoesWhereForwardWas: with local steps the peers of a stage differ, so a micro-batch goes back through those
// that it came through; one that is banned meanwhile is not waited for.
func TestBackwardGoesWhereForwardWas(t *testing.T) {
	trainer, err := NewTrainer(TrainerConfig{
		Slot: 1, Stages: 2, Mode: LocalSteps, InFlight: 5, PerPeer: 2, Limits: DefaultLimits(), Rand: rand.New(rand.NewPCG(1, 2)),
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	var events []Event
	for peer, stage := range map[byte]int{1: 0, 2: 0, 3: 0, 4: 1, 5: 1} {
		events = append(events, Announced{Peer: wire.PeerID{peer}, Stage: stage, State: Online, Seq: 1})
	}
	forward, back, elsewhere := map[uint64]wire.PeerID{}, 0, 0
	for back < 400 {
		if len(events) == 0 {
			t.Fatalf("nothing happens after %d micro-batches", back)
		}
		at := back % len(events) // answers overtake each other
		ev := events[at]
		events = append(events[:at:at], events[at+1:]...)
		now = now.Add(3 * time.Millisecond)
		for _, e := range trainer.Step(now, ev) {
			switch e := e.(type) {
			case Draw:
				events = append(events, Drawn{Micro: e.Micro})
			case Send:
				switch m := e.Message.(type) {
				case *wire.StageCall:
					if m.Key.Stage == 0 && m.Backward {
						if back++; forward[m.Key.Micro] != e.To {
							elsewhere++
						}
						if back == 200 { // and those that it was to run are run by others
							events = append(events, PeerDown{Peer: e.To})
							elsewhere = 0
							continue
						}
					} else if m.Key.Stage == 0 {
						forward[m.Key.Micro] = e.To
					}
					events = append(events, From{Peer: e.To, Message: &wire.StageAnswer{Key: m.Key}})
				case *wire.StageAccept:
					events = append(events, From{Peer: e.To, Message: &wire.StageCounted{Key: m.Key, Fate: wire.StageInSum}})
				}
			default:
			}
		}
		if back == 199 && elsewhere > 0 {
			t.Fatalf("%d of %d micro-batches went back through another peer", elsewhere, back)
		}
	}
	if elsewhere < 1 || elsewhere > 3 {
		t.Errorf("%d micro-batches went back through another peer after one was gone; it had at most %d under way", elsewhere, 3)
	}
}

// TestSlowPeerIsWaitedFor: a gradient that is accepted is added up behind passes, which take
// a slow peer long.
func TestSlowPeerIsWaitedFor(t *testing.T) {
	trainer, err := NewTrainer(TrainerConfig{
		Slot: 1, Stages: 1, Mode: LocalSteps, InFlight: 1, PerPeer: 1, Limits: DefaultLimits(), Rand: rand.New(rand.NewPCG(1, 2)),
	})
	if err != nil {
		t.Fatal(err)
	}
	now, slow := time.Unix(0, 0), wire.PeerID{1}
	var key wire.StageKey
	accepts := 0
	step := func(ev Event) {
		for _, e := range trainer.Step(now, ev) {
			if e, ok := e.(Send); ok {
				switch m := e.Message.(type) {
				case *wire.StageCall:
					key = m.Key
				case *wire.StageAccept:
					accepts++
				}
			}
		}
	}
	step(Announced{Peer: slow, State: Online, Seq: 1})
	step(Drawn{Micro: 0})
	now = now.Add(20 * time.Second)
	first := key
	step(From{Peer: slow, Message: &wire.StageAnswer{Key: key}})
	for range 3 {
		now = now.Add(14 * time.Second)
		step(Tick{})
	}
	step(From{Peer: slow, Message: &wire.StageCounted{Key: first, Fate: wire.StageInSum}})
	if totals := trainer.Snapshot().Totals; totals.Counted != 1 || accepts > maxAccepts {
		t.Errorf("%+v, %d times accepted: 42 s are little for a peer that takes 20 s for a call", totals, accepts)
	}
}
