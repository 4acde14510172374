package engine

import (
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/compress"
	"dunlin/compute"
	"dunlin/compute/cpu/cputest"
	"dunlin/data"
	"dunlin/model"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/wire"
)

// newStage opens a stage of a run at its start and lists its parameters.
func newStage(t *testing.T, spec *wire.RunSpec, stage int, d compute.Device) (*Stage, []int) {
	t.Helper()
	e, err := NewStage(spec, stage, d, false, "", model.Room{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	recipetest.Fill(t, spec, e.Live())
	var own []int
	for i, live := range e.Live() {
		if live != nil {
			own = append(own, i)
		}
	}
	if err := e.Push(own); err != nil {
		t.Fatal(err)
	}
	return e, own
}

// TestBorderOfASubspaceLosesNothing passes a stage's output on: bytes of its tokens and of six values each become the same
// stream at the next stage, which holds no embedding, and of its gradient what passes comes back.
func TestBorderOfASubspaceLosesNothing(t *testing.T) {
	spec := narrowStages(t)
	first, _ := newStage(t, spec, 0, cputest.Device(t))
	next, _ := newStage(t, spec, 1, cputest.Device(t))
	tokens := []int32{'a', 'b', 'c', 'a', 0, 255, 'b', 'c'}
	out, err := first.Forward(&wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: EncodeTokens(tokens)})
	if err != nil {
		t.Fatal(err)
	}
	sent := slices.Clone(first.other[:8*16])
	if want := 8 + first.border.codec.EncodedSlabBytes(8*6); len(out) != want {
		t.Errorf("%d bytes pass, want %d: a byte a token and a frame of six values each", len(out), want)
	}
	came := make([]float32, len(sent))
	read, err := next.border.decode(came, out)
	if err != nil || !slices.Equal(read, tokens) || !slices.Equal(came, sent) {
		t.Errorf("tokens %v and %v of %v, %v came as %v and %v", tokens, sent[:16], len(sent), err, read, came[:16])
	}
	if slices.Max(came[6:16]) == 0 {
		t.Error("there is no code of the token")
	}
	if again, err := next.border.encode(came, read); err != nil || !slices.Equal(again, out) {
		t.Errorf("the third stage would be given other bytes: %v", err)
	}
	back, err := next.border.encodeGradient(sent)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.border.decodeGradient(came, back); err != nil {
		t.Fatal(err)
	}
	for i, v := range came {
		if want := sent[i]; i%16 < 6 && v != want || i%16 >= 6 && v != 0 {
			t.Fatalf("value %d of a gradient's row went as %v and came as %v", i%16, want, v)
		}
	}
}

// TestPlanKnowsTheBorder: what passes and the codes of tokens take memory, too.
func TestPlanKnowsTheBorder(t *testing.T) {
	spec := narrowStages(t)
	cfg, err := recipe.Model(spec)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := borderBytes(spec, cfg), int64(4*8*6+4*256*16); got != want {
		t.Errorf("a border takes %d bytes, want %d", got, want)
	}
}

// TestBorderRefusesForeignBytes gives a stage in a subspace what no other stage sends.
func TestBorderRefusesForeignBytes(t *testing.T) {
	spec := narrowStages(t)
	spec.Model.Vocab = 200
	b := border{codec: compress.FP32{}, spec: spec, code: model.NewCode(model.Config{Width: 16, Subspace: 6, Vocab: 200}, 1, 1e-6), passed: make([]float32, 8*6)}
	stream := make([]float32, 8*16)
	good, err := b.encode(stream, make([]int32, 8))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.decode(stream, good); err != nil {
		t.Fatal(err)
	}
	unknown := slices.Clone(good)
	unknown[3] = 201
	for says, bytes := range map[string][]byte{"its tokens take 8": good[:7], "token 3 is 201": unknown, "bad frame": good[:len(good)-1]} {
		if _, err := b.decode(stream, bytes); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if err := b.decodeGradient(stream, good); err == nil {
		t.Error("a gradient with tokens is taken")
	}
}

// FuzzBorder: what a stage is given is bytes of a stranger.
func FuzzBorder(f *testing.F) {
	spec := &wire.RunSpec{Model: wire.ModelSpec{Family: "gpt2", Width: 16, Subspace: 6, Vocab: 256}, Data: wire.DataSpec{Tokenizer: wire.TokensByte}}
	b := border{codec: compress.Int8{}, spec: spec, code: model.NewCode(model.Config{Width: 16, Subspace: 6, Vocab: 256}, 1, 1e-6), passed: make([]float32, 4*6)}
	good, err := b.encode(make([]float32, 4*16), []int32{1, 2, 3, 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(data.AppendPacked(nil, []int32{1, 2, 3, 4}, 1))
	f.Fuzz(func(t *testing.T, input []byte) {
		stream := make([]float32, 4*16)
		tokens, err := b.decode(stream, input)
		if err != nil {
			return
		}
		for _, v := range stream {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("%v in the stream of tokens %v", v, tokens)
			}
		}
	})
}

// TestSubspaceOnACard does a pass of a stage in a subspace on a GPU and on the processor.
func TestSubspaceOnACard(t *testing.T) {
	spec := narrowStages(t)
	var results [2][]float32
	for i, d := range []compute.Device{cputest.Device(t), card(t)} {
		e, _ := newStage(t, spec, 1, d)
		values, tokens := make([]float32, 8*16), []int32{1, 2, 3, 4, 5, 6, 7, 8}
		for j := range values {
			values[j] = float32(j%7) - 3
		}
		input, err1 := e.border.encode(values, tokens)
		gradient, err2 := e.border.encodeGradient(values)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		key := wire.StageKey{Trainer: 1, Stage: 1, Attempt: 1}
		back, _, err := e.Backward(key, &wire.Cargo{Windows: []wire.Range{{From: 0, To: 1}}, Input: input, Gradient: gradient})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.border.decodeGradient(values, back); err != nil {
			t.Fatal(err)
		}
		sums := make([]float32, e.sum.Len())
		if err := d.Download(sums, e.stage.Grads()); err != nil {
			t.Fatal(err)
		}
		results[i] = append(values, sums...)
	}
	outside := 0
	for i, want := range results[0] {
		if math.Abs(float64(results[1][i]-want)) > 1e-4*(1+math.Abs(float64(want))) {
			t.Fatalf("value %d is %v on the card, %v on the processor", i, results[1][i], want)
		}
		if want == 0 && results[1][i] == 0 {
			outside++
		}
	}
	if outside < 8*10+4*16*10 {
		t.Errorf("only %d values are 0", outside)
	}
}
