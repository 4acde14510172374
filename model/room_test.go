package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dunlin/compute"
	"dunlin/compute/cpu"
)

// rooms are all that a model of so many blocks may have, for a batch.
func rooms(layers, batch int) []Room {
	var all []Room
	for kept := KeptProducts; kept <= KeptInput; kept++ {
		for thrifty := range layers + 1 {
			for _, lend := range []bool{false, true} {
				r := Room{Batch: batch, Kept: kept, Thrifty: thrifty, Lend: lend}
				if r.Validate(layers) == nil {
					all = append(all, r)
				}
			}
		}
	}
	return all
}

// TestRoomChangesNoBit compares loss and gradients in every room with those of
// a model that keeps every product, on every path. What is shared or was lent is
// spoilt first, so that nothing stale is of use.
func TestRoomChangesNoBit(t *testing.T) {
	for _, path := range cpu.Paths() {
		t.Run(path, func(t *testing.T) { each(t, func(t *testing.T, cfg Config) { roomChangesNoBit(t, path, cfg) }) })
		t.Run(path+" pico", func(t *testing.T) {
			eachPico(t, func(t *testing.T, cfg Config) { roomChangesNoBit(t, path, cfg) })
		})
	}
}

func roomChangesNoBit(t *testing.T, path string, cfg Config) {
	const batch = 2
	dev, err := cpu.New(cpu.Options{Threads: 2, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	rng := rand.New(rand.NewPCG(5, 7))
	tokens, targets := randomTokens(rng, batch*cfg.Context, cfg.Vocab), randomTokens(rng, batch*cfg.Context, cfg.Vocab)
	var weights, want []compute.Tensor
	var loss float32
	for _, room := range rooms(cfg.Layers, batch) {
		m, err := NewIn(room, cfg, dev)
		if err != nil {
			t.Fatal(err)
		}
		if weights == nil {
			weights = disturb(t, m, 5)
		} else if err := m.Load(weights); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time in memory that was used
			spoil(m.grads)
			spoil(m.act.logits)
			if m.ZeroGrad(); room.Lend && !math.IsNaN(float64(m.grads.Host[0])) {
				t.Fatal("lent memory was cleared for nothing")
			}
			positions, err := m.place(tokens, targets, batch)
			if err != nil {
				t.Fatal(err)
			}
			m.forward(batch, 0, positions)
			m.score(len(tokens), true)
			spoil(m.desk)
			m.backward(batch, positions)
		}
		got, err := m.GradTensors()
		if err != nil {
			t.Fatal(err)
		}
		mean, err := m.meanLoss(len(tokens))
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want, loss = got, mean
		}
		if mean != loss {
			t.Errorf("%+v: loss %v, want %v", room, mean, loss)
		}
		for i := range want {
			if !slices.Equal(got[i].Data, want[i].Data) {
				t.Fatalf("%+v: the gradient of %s differs", room, want[i].Name)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func spoil(b compute.Buffer) {
	for i := range b.Host {
		b.Host[i] = float32(math.NaN())
	}
}

// TestRoomTakesLess says that each room needs less than the one before it, and
// adds at least as much work.
func TestRoomTakesLess(t *testing.T) {
	for _, name := range []string{"nano", "small-llama", "gpt2", "llama-1b"} {
		cfg, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		var before int64
		var work float64
		for kept := KeptProducts; kept <= KeptInput; kept++ {
			for _, thrifty := range []int{0, cfg.Layers / 2} {
				room := Room{Batch: 4, Kept: kept, Thrifty: thrifty}
				if room.Validate(cfg.Layers) != nil {
					continue
				}
				var tally compute.Tally
				if _, err := NewIn(room, cfg, &tally); err != nil {
					t.Fatal(err)
				}
				again := cfg.Again(room, cfg.Context)
				if before > 0 && (tally.Bytes >= before || again <= work) {
					t.Errorf("%s: %+v takes %d bytes and %.3f of the work again; %d and %.3f before it", name, room, tally.Bytes, again, before, work)
				}
				before, work = tally.Bytes, again
			}
		}
		if work < 0.1 || work > 0.4 {
			t.Errorf("%s: whole blocks again are %.2f of the work", name, work)
		}
	}
}

func TestBadRooms(t *testing.T) {
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for _, room := range []Room{{}, {Batch: 4097}, {Batch: 1, Kept: 3}, {Batch: 1, Thrifty: 3}, {Batch: 1, Thrifty: -1}, {Batch: 1, Kept: KeptInput, Thrifty: 1}} {
		if _, err := NewIn(room, tiny, dev); err == nil {
			t.Errorf("%+v accepted", room)
		}
	}
	m, err := NewIn(Room{Batch: 1, Kept: KeptInput}, tiny, dev)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Generate(t.Context(), []int32{1}, 1, Sampling{}, func(int32) bool { return true }); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("generation without keys: %v", err)
	}
}

// TestGenerateInLittleRoom checks that what blocks share does no harm to
// generation.
func TestGenerateInLittleRoom(t *testing.T) { each(t, generateInLittleRoom) }

func generateInLittleRoom(t *testing.T, cfg Config) {
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	whole, err := New(cfg, dev, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	weights := disturb(t, whole, 3)
	want := fmt.Sprint(generate(t, whole, []int32{1, 2}, 12, Sampling{}))
	for _, room := range []Room{{Batch: 1, Kept: KeptProducts}, {Batch: 1, Kept: KeptAttention}, {Batch: 1, Kept: KeptAttention, Lend: true}} {
		m, err := NewIn(room, cfg, dev)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Load(weights); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(generate(t, m, []int32{1, 2}, 12, Sampling{})); got != want {
			t.Errorf("%+v continues with %s, want %s", room, got, want)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
