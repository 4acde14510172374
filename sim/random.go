package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/wire"
)

// Random draws a scenario: a few workers of different speed and a schedule of
// faults that are over at its calm.
func Random(seed uint64) Scenario {
	rng := rand.New(rand.NewPCG(seed, 0xfa17))
	pick := func(from, to int) int { return from + rng.IntN(to-from+1) }
	ms := func(from, to int) time.Duration { return time.Duration(pick(from, to)) * time.Millisecond }
	sc := Default(seed)
	sc.Workers = pick(1, 5)
	sc.LeadWork = rng.IntN(8) == 0
	sc.Setup.Values = slices.Repeat([]int{0}, pick(1, 3))
	sc.Setup.SlabValues = pick(8, 40)
	for i := range sc.Setup.Values {
		sc.Setup.Values[i] = pick(8, 160)
	}
	sc.Setup.H, sc.Setup.Batch, sc.Setup.Checkpoint = uint64(pick(4, 12)), uint64(pick(1, 3)), uint64(pick(2, 12))
	if rng.IntN(16) == 0 {
		sc.Workers = 8
	}
	if rng.IntN(4) == 0 {
		sc.Setup.Rules.Merge = "reset"
	}
	sc.Setup.Drift = true
	sc.Setup.StepTime = nil
	fastest := pick(150, 400)
	for range sc.Workers + 1 {
		sc.Setup.StepTime = append(sc.Setup.StepTime, ms(fastest, fastest*3/2))
	}
	sc.Links.Latency = [2]time.Duration{ms(1, 20), ms(20, 150)}
	sc.Calm = time.Duration(pick(12, 60)) * time.Second
	for range pick(1, 8) {
		sc.Faults = append(sc.Faults, randomFault(rng, &sc))
	}
	if f, tuned := randomTuning(seed, sc.Calm); tuned {
		sc.Faults = append(sc.Faults, f)
	}
	sc.Faults = apart(sc.Faults)
	sc.Setup.Rules = randomRules(seed, sc.Setup.Rules)
	return sc
}

// randomRules draws whether owners keep error feedback and whether workers do.
func randomRules(seed uint64, r Rules) Rules {
	rng := rand.New(rand.NewPCG(seed, 0x2073))
	switch rng.IntN(6) {
	case 0:
		r.OwnerDecay, r.OuterLR, r.Momentum = 1, 1, 0.5
	case 1:
		r.Contribution, r.Result = "ternary-20", "ternary-35"
		r.OwnerDecay, r.OuterLR, r.Momentum = 1, 1, 0.5
	case 5:
		r.Merge, r.Overlap, r.OuterLR = "rebase", wire.OverlapRound, 0.4
		if rng.IntN(2) == 0 {
			r.Merge, r.Alpha, r.OuterLR, r.Momentum = "eager", 0.7, 0.8, 0.6
		}
	case 2:
		r.Merge, r.Alpha, r.Decay, r.OuterLR = "lerp", 0.5, 0, 0.4
	}
	return r
}

// randomTuning draws whether the organiser tunes the run, and when.
func randomTuning(seed uint64, calm time.Duration) (f Fault, tuned bool) {
	rng := rand.New(rand.NewPCG(seed, 0x70e))
	f = Fault{Kind: Tune, N: rng.IntN(8), At: time.Duration(rng.Int64N(int64(calm - 3*time.Second)))}
	f.For = time.Duration(rng.Int64N(int64(calm - f.At)))
	return f, rng.IntN(3) == 0
}

// apart keeps other faults away from a restored backup: what the lost disk knew
// comes back from workers only if they are there to tell.
func apart(faults []Fault) []Fault {
	i := slices.IndexFunc(faults, func(f Fault) bool { return f.Kind == Backup })
	if i < 0 {
		return faults
	}
	back := faults[i]
	return slices.DeleteFunc(faults, func(f Fault) bool {
		return (f.Kind != Backup || f.At != back.At) && f.At+f.For > back.At-10*time.Second && f.At < back.At+back.For+20*time.Second
	})
}

func randomFault(rng *rand.Rand, sc *Scenario) Fault {
	kinds := []FaultKind{
		Kill, Kill, Kill, Power, Power, Crash, Crash, Crash, Freeze, Freeze, Cut, Cut, Split, Slow, Duplicate, Reorder, Corrupt, Unknown,
		Join, Leave, Backup, Flip, Full, Pause, Solo,
	}
	f := Fault{Kind: kinds[rng.IntN(len(kinds))], Peer: rng.IntN(sc.Workers + 1), N: 1 + rng.IntN(12)}
	f.At = time.Duration(rng.Int64N(int64(sc.Calm - 3*time.Second)))
	f.For = min(sc.Calm-f.At, time.Duration(rng.Int64N(int64(20*time.Second)))+10*time.Millisecond)
	if rng.IntN(2) == 0 {
		f.For /= 8
	}
	switch f.Kind {
	case Crash:
		f.N = 1 + rng.IntN(400)
	case Duplicate, Reorder, Corrupt:
		f.Rate = rng.Float64() * 0.5
	case Unknown:
		f.Rate, f.Peer = rng.Float64()*0.6, 0
	case Slow:
		f.Rate = 0.01 + rng.Float64()*0.2
	case Split, Cut:
		for i := range sc.Workers + 1 {
			if i != f.Peer && rng.IntN(2) == 0 {
				f.Rest = append(f.Rest, i)
			}
		}
	case Backup:
		f.Peer = 0
	case Flip, Leave, Full:
		f.Peer = 1 + rng.IntN(sc.Workers)
	case Join:
		f.For = 0
	default:
	}
	return f
}
