package status

import (
	"crypto/sha256"
	"time"

	"dunlin/wire"
)

func value(v float64) *float64 { return &v }

// sample is a snapshot with something in every place.
func sample() *Snapshot {
	at := time.Date(2026, 5, 4, 12, 3, 10, 0, time.UTC)
	agree := true
	state := wire.Hash(sha256.Sum256([]byte("state")))
	s := &Snapshot{
		At: at, Version: "0.1.0", Self: "self", Role: "coordinator", Invite: "dunlin1-secret",
		Run: Run{
			ID: wire.Hash(sha256.Sum256([]byte("run"))), Name: "Go tutor", Model: "gpt2 4L/4H/128", Parameters: 841_000,
			Phase: "training", Height: 118, Term: 1, Tokens: 912_000, TokenBudget: 1_200_000, Started: at.Add(-130 * time.Second),
			Fragments: 2, H: 24, StepTokens: 256, Codec: "int8", Versions: []uint64{30, 29}, StateHash: state,
		},
		Learning: Learning{
			Train: value(2.61), HeldOut: value(2.654), Unigram: value(3.41), Bigram: value(2.83),
			Curve:    []Point{{0, 5.545, 0}, {400_000, 2.9, 50}, {912_000, 2.61, 120}},
			HeldOuts: []Point{{0, 5.55, 0}, {800_000, 2.654, 100}},
			Moves:    []Move{{0, true, "slot 1 joins"}, {400_000, false, "slot 5 leaves: no heartbeat for 20 s"}},
		},
		Speed:  Speed{TokensPerSecond: value(8040), Own: value(2010), Step: value(0.5), StepP95: value(0.6), SecondsLeft: value(36), Classes: []string{"GeForce RTX 3060", "cpu avx512"}, History: []Rate{{At: 0}, {1, 8040, 4, 2010, []float64{6030, 2010}}}},
		Health: Health{Training: 4, Syncing: 1, Lost: 1, LastLost: "ab12: no heartbeat", Commits: 59, Contributed: 4, FailedAttempts: 1, LastFailure: "slab 3 below quorum", StatesAgree: &agree},
		Cost:   Cost{BitsPerParameter: value(8.02), UploadBitsPerParameter: value(9.61), BytesRatio: value(79.8), BytesPerPeerDay: value(2.13e9)},
		Rounds: []Round{
			{Fragment: 0, Base: 29, Attempt: "1/58", Phase: "committing", Members: 4, Waiting: []string{"slot 3: 2 steps behind"}, Ready: value(110), Opened: value(110.4), Summed: value(110.9), Held: value(111.2), Closed: value(111.3)},
			{Fragment: 1, Base: 29, Attempt: "1/59", Phase: "summing", Members: 4, Ready: value(129), Opened: value(129.5)},
			{Fragment: 1, Base: 28, Attempt: "1/57", Members: 4, Ready: value(120), Opened: value(120.5), Closed: value(121), Failed: "slab 3 below quorum"},
		},
		Ledger: []Entry{{118, "commit", "fragment 1 to version 29"}, {117, "attempt", "fragment 1 to version 29, attempt 1/58"}},
		Notes:  []Note{{at, "round of fragment 0 opens with 4 of 4: all ready"}},
	}
	s.Cards = []Card{{Name: "NVIDIA GeForce RTX 3060", Utilisation: 0.97, Used: 10e9, Total: 12e9, Temperature: 71, Power: 168.4, PowerLimit: 170, Throttled: []string{"power limit", "heat"}}}
	s.Stages = []Stage{{0, 300_000, 2, 2, state, value(0.012)}, {1, 541_000, 3, 2, wire.Hash{}, nil}}
	s.StageMoves = []StageMove{{at, 0, 1, "ab12 moves: move stage 1 to 2: short of peers"}}
	s.Thanks = Thanks{Since: 40, Givers: 2, Ranks: []Giver{{1, "ananananan", "Ana", false, 700_000, 50}, {2, "bobobobobo", "", true, 212_000, 30}}}
	s.Samples = []Sample{{0, 0, 5.55, "func ", "\u2588q<b>x"}, {96, 800_000, 2.654, "func ", "(r *Reader) Next() error {"}}
	s.Machine = &Machine{
		State: "paused", Reason: "outside its hours, 22:00-07:00", Until: &at, Device: "cpu", Estimate: value(2010), Expects: &Traffic{2.1e9, 2.1e9}, Others: 1.25, Cores: 8, SentToday: 1_900_000, ReceivedToday: 2_500_000,
		Limits: []Limit{{"up", "8mbit", "rate", "most that it sends", "like 10mbit"}, {"pause-when-busy", "true", "bool", "pause while others work", "true, false"}},
		Log:    []Note{{at, "pause: outside its hours"}},
	}
	for slot := uint64(1); slot <= 4; slot++ {
		s.Peers = append(s.Peers, Peer{
			ID: "peer", Slot: slot, You: slot == 2, Alive: true, State: "training", Device: "cpu avx512, 2 threads", Class: "cpu avx512", Way: "direct", Latency: value(0.048), Step: 1000, Tokens: 228_000, Loss: 2.6,
			TokensPerSecond: 2010, Utilisation: 0.957, Sent: 1_900_000, Received: 1_800_000, Height: 118, StateHash: state, SeenSeconds: 1.2,
		})
	}
	s.Peers = append(s.Peers,
		Peer{ID: "lost", Slot: 5, State: "gone", Reason: "no heartbeat for 20 s", Step: 500, Tokens: 120_000, SeenSeconds: 44},
		Peer{ID: "new", Slot: 6, Stage: 1, Alive: true, State: "syncing", Reason: "checkpoint 12 of 20 MB"})
	return s
}
