package pipeline

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dunlin/wire"
)

// TestMoverTranscripts plays what one peer decides as others come and go.
func TestMoverTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/mover", func(t *testing.T, path string) {
		s := &moverStory{names: names{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.names.replace(s.command(t, d)) })
	})
}

type moverStory struct {
	names  names
	now    time.Time
	stages int
	mover  *Mover
	self   wire.PeerID
	view   []Published
}

func (s *moverStory) command(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "new":
		s.now, s.view, s.stages = storyStart, nil, int(number(t, d, "stages", 2))
		s.self = s.names.peer(number(t, d, "self", 1))
		cfg := DefaultMoverConfig(s.self, s.stages, 5*time.Minute, rand.New(rand.NewPCG(1, 1)))
		if d.HasArg("state-time") {
			cfg.StateTime, _ = time.ParseDuration(argument(d, "state-time", ""))
		}
		var err error
		if s.mover, err = NewMover(s.now, cfg); err != nil {
			return err.Error() + "\n"
		}
		return ""
	case "peers": // p1 in stage 0, wait=…
		for _, line := range strings.Split(d.Input, "\n") {
			s.publish(t, line)
		}
		return ""
	case "gone":
		id := s.names.peer(number(t, d, "p", 0))
		for i := range s.view {
			if s.view[i].Peer == id {
				s.view = append(s.view[:i], s.view[i+1:]...)
				break
			}
		}
		return ""
	case "place":
		return fmt.Sprintf("stage %d\n", Place(s.stages, s.view))
	case "look": // at the next time that is due
		s.now = s.mover.Deadline()
		decision := s.mover.Look(s.now, s.view)
		for i := range s.view {
			if s.view[i].Peer == s.self {
				s.view[i].Moving = decision.Action == Intend || decision.Action == Move
				s.view[i].Intent = decision.To
			}
		}
		return fmt.Sprintf("%s\n(next after %v)\n", decision, s.mover.Deadline().Sub(s.now).Round(time.Second))
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

// publish reads "p<number> stage=<n> [joining|leaving] [wait=<s>] [rate=<x>] [intent=<n>]".
func (s *moverStory) publish(t *testing.T, line string) {
	var p Published
	p.State, p.Wait, p.Rate = Online, 1, 1
	for i, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch {
		case i == 0:
			var n uint64
			_, err = fmt.Sscanf(word, "p%d", &n)
			p.Peer = s.names.peer(n)
		case key == "stage":
			_, err = fmt.Sscan(value, &p.Stage)
		case key == "joining":
			p.State = Joining
		case key == "leaving":
			p.State = Leaving
		case key == "wait":
			_, err = fmt.Sscan(value, &p.Wait)
		case key == "rate":
			_, err = fmt.Sscan(value, &p.Rate)
		case key == "intent":
			p.Moving = true
			_, err = fmt.Sscan(value, &p.Intent)
		default:
			t.Fatalf("unknown word %s", word)
		}
		if err != nil {
			t.Fatalf("%s: %v", word, err)
		}
	}
	for i := range s.view {
		if s.view[i].Peer == p.Peer {
			s.view[i] = p
			return
		}
	}
	s.view = append(s.view, p)
}

// TestSeveralMoversSettle lets every peer of a large, torn swarm look in turn,
// all on one view: the gaps are filled, no stage is ever empty, and then nobody
// moves any more.
func TestSeveralMoversSettle(t *testing.T) {
	const stages = 8
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var view []Published
		var movers []*Mover
		now := time.Unix(0, 0)
		for i := range stages + rng.IntN(60) {
			id := wire.PeerID{byte(i), 1}
			stage := i
			if i >= stages {
				stage = rng.IntN(1 + rng.IntN(stages))
			}
			view = append(view, Published{Peer: id, Stage: stage, State: Online, Rate: 1, Wait: 1})
			m, err := NewMover(now, DefaultMoverConfig(id, stages, time.Minute, rng))
			if err != nil {
				t.Fatal(err)
			}
			movers = append(movers, m)
		}
		moves, last := 0, now
		for end := now.Add(time.Hour); now.Before(end); now = now.Add(time.Second) {
			for i, m := range movers {
				if m.Deadline().After(now) {
					continue
				}
				switch d := m.Look(now, view); d.Action {
				case Intend:
					view[i].Moving, view[i].Intent = true, d.To
				case Withdraw:
					view[i].Moving = false
				case Move:
					view[i].Stage, view[i].Moving = d.To, false // its state is there at once
					moves++
					last = now
				case Stay:
				}
			}
			count := make([]int, stages)
			for _, p := range view {
				count[p.Stage]++
			}
			for s, n := range count {
				if n == 0 {
					t.Fatalf("seed %d: stage %d is empty at %v", seed, s, now)
				}
			}
		}
		count := make([]int, stages)
		for _, p := range view {
			count[p.Stage]++
		}
		for s, n := range count {
			if n < len(view)/stages {
				t.Errorf("seed %d: stage %d has %d of %d peers after %d moves: %v", seed, s, n, len(view), moves, count)
			}
		}
		if last.After(time.Unix(1800, 0)) {
			t.Errorf("seed %d: peers still move after half an hour", seed)
		}
	}
}

func TestRecoveryTiers(t *testing.T) {
	for name, c := range map[string]struct {
		loss Loss
		want Recovery
	}{
		"replica at the head":             {Loss{Stages: 3, Head: 9, Replicas: []uint64{7, 9}, Checkpoint: true, At: 4, Results: 9}, Recovery{Tier: FromReplica, Version: 9}},
		"replica behind what is replayed": {Loss{Stages: 3, Head: 9, Replicas: []uint64{7}, Checkpoint: true, At: 4, Results: 9}, Recovery{Tier: FromCheckpoint, Version: 9}},
		"replica alone":                   {Loss{Stages: 3, Head: 9, Replicas: []uint64{7}}, Recovery{Tier: FromReplica, Version: 7, Behind: 2}},
		"replica of a fork":               {Loss{Stages: 3, Head: 9, Replicas: []uint64{12}, Checkpoint: true, At: 4, Results: 5}, Recovery{Tier: FromCheckpoint, Version: 5, Behind: 4}},
		"checkpoint without results":      {Loss{Stages: 3, Head: 9, Checkpoint: true, At: 4}, Recovery{Tier: FromCheckpoint, Version: 4, Behind: 5}},
		"neighbours":                      {Loss{Stage: 1, Stages: 3, Head: 9, Alike: true, Norms: [2]float64{1, 2}}, Recovery{Tier: FromNeighbours, Version: 9, Weights: [2]float64{0.2, 0.8}, Rate: 1.1}},
		"neighbours without gradients":    {Loss{Stage: 1, Stages: 3, Head: 9, Alike: true}, Recovery{Tier: FromNeighbours, Version: 9, Weights: [2]float64{0.5, 0.5}, Rate: 1.1}},
		"first stage":                     {Loss{Stage: 0, Stages: 3, Head: 9, Alike: true}, Recovery{Tier: NoWay, Behind: 9}},
		"other shapes":                    {Loss{Stage: 1, Stages: 3, Head: 9}, Recovery{Tier: NoWay, Behind: 9}},
	} {
		if got := Recover(c.loss); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
