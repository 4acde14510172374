package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/data"
	"dunlin/model"
)

// short is a study that takes seconds.
func short(t *testing.T, steps int) *study {
	t.Helper()
	var b strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&b, "func f%d(x int) int { return x + %d }\n", i%37, i%11)
	}
	path := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &study{steps: steps, windows: 16, curve: 8}
	var err error
	if s.model, err = model.Preset("pico"); err != nil {
		t.Fatal(err)
	}
	if s.corpus, err = data.Open(path); err != nil {
		t.Fatal(err)
	}
	if s.heldOut, err = data.WindowsOf(s.model.Context, data.ByteTokens(s.corpus.HeldOut)); err != nil {
		t.Fatal(err)
	}
	return s
}

func play(t *testing.T, s *study, name string) outcome {
	t.Helper()
	a, err := parseArm(name)
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.runOne(context.Background(), a, 1)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestOneWorkerIsDataParallel: with one worker, a rate of one and no momentum the committed
// weights are the worker's own, whatever the rounds do between.
func TestOneWorkerIsDataParallel(t *testing.T) {
	s := short(t, 24)
	alone, global := play(t, s, "diloco:workers=1,outer-lr=1,momentum=0,h=6,tau=0"), play(t, s, "data-parallel")
	if d := math.Abs(alone.Loss - global.Loss); d > 1e-4 {
		t.Errorf("one worker comes to %.6f, data-parallel to %.6f", alone.Loss, global.Loss)
	}
	if first := global.Curve[0].Loss; global.Loss > 0.9*first {
		t.Errorf("the loss went from %.3f to %.3f: nothing was learned", first, global.Loss)
	}
}

// TestStagesTogetherAreDataParallel: the peers of all stages, two a stage, make the steps of one machine; with local steps
// they do not, and a backward pass elsewhere than the forward pass makes it worse.
func TestStagesTogetherAreDataParallel(t *testing.T) {
	s := short(t, 24)
	s.model.Untied = true
	together, global := play(t, s, "diloco:workers=2,stages=2,together=true,activations=fp32,outer-lr=1,momentum=0,h=1,tau=0"), play(t, s, "data-parallel")
	if d := math.Abs(together.Loss - global.Loss); d > 1e-4 {
		t.Errorf("stages together come to %.6f, data-parallel to %.6f", together.Loss, global.Loss)
	}
	narrow := play(t, s, "diloco:workers=2,stages=2,together=true,activations=fp32,outer-lr=1,momentum=0,h=1,tau=0,subspace=16")
	if alone := play(t, s, "data-parallel:subspace=16"); math.Abs(narrow.Loss-alone.Loss) > 1e-4 || alone.Loss == global.Loss {
		t.Errorf("stages together in a subspace come to %.6f, data-parallel to %.6f, without a subspace to %.6f", narrow.Loss, alone.Loss, global.Loss)
	}
	local, elsewhere := play(t, s, "diloco:workers=2,stages=2,lag=3,h=6"), play(t, s, "diloco:workers=2,stages=2,lag=3,h=6,elsewhere=true")
	if again := play(t, s, "diloco:workers=2,stages=2,lag=3,h=6"); again.Loss != local.Loss || local.Loss == elsewhere.Loss || local.Loss == global.Loss {
		t.Errorf("losses %v, again %v, elsewhere %v, of one machine %v", local.Loss, again.Loss, elsewhere.Loss, global.Loss)
	}
}

// TestEqualArgumentsGiveEqualLosses, and bits are those of the codecs.
func TestEqualArgumentsGiveEqualLosses(t *testing.T) {
	s := short(t, 24)
	const name = "diloco:contribution=ternary-20,result=ternary-35,decay=0.95,owner-decay=0.95,outer-lr=1,momentum=0.5,fragments=2,h=6,miss=0.2"
	one, two := play(t, s, name), play(t, s, name)
	if one.Loss != two.Loss {
		t.Errorf("losses %v and %v", one.Loss, two.Loss)
	}
	if one.OuterSteps < 3 || one.OuterSteps > 4 || one.ContributionBits < 0.5 || one.ContributionBits > 1.5 || one.ResultBits < 1 || one.ResultBits > 2 {
		t.Errorf("%+v", one)
	}
	if exact := play(t, s, "diloco:h=6"); exact.ContributionBits < 32 || exact.ContributionBits > 40 {
		t.Errorf("fp32 takes %v bits a parameter", exact.ContributionBits)
	}
}

// TestJoiner: a worker that comes in mid-run changes the result, and so does its ramp.
func TestJoiner(t *testing.T) {
	s := short(t, 24)
	ramp, none := play(t, s, "diloco:h=6,join=0.5"), play(t, s, "diloco:h=6,join=0.5,ramp=false")
	if all := play(t, s, "diloco:h=6"); ramp.Loss == all.Loss || ramp.Loss == none.Loss {
		t.Errorf("losses %v with the ramp, %v without, %v with all from the start", ramp.Loss, none.Loss, all.Loss)
	}
}

func TestArms(t *testing.T) {
	a, err := parseArm("diloco:workers=8,momentum=0.3,decay=0.9,h=30,tau=5,contribution=int8")
	if err != nil || a.Workers != 8 || a.Recipe.Momentum != 0.3 || a.Recipe.Decay != 0.9 || a.Recipe.H != 30 || a.Tau != 5 || a.Recipe.Contribution != "int8" {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"best", "diloco:speed=1", "diloco:h=many", "diloco:workers=3", "diloco:tau=24", "diloco:join=1", "diloco:ramp=maybe", "diloco:stages=2,micro=3", "diloco:stages=2,together=true,lag=1"} {
		if _, err := parseArm(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

// TestReport: losses are compared seed by seed with the reference of as many workers.
func TestReport(t *testing.T) {
	r := &report{Preset: "pico", Steps: 20, Tokens: 20480, Bigram: 2.8, Outcomes: []outcome{
		{Arm: "diloco", Seed: 1, Workers: 4, Loss: 2, Curve: []point{{10, 3}, {20, 2}}}, {Arm: "diloco", Seed: 2, Workers: 4, Loss: 4},
		{Arm: "diloco:workers=8", Seed: 1, Workers: 8, Loss: 1},
		{Arm: "default", Seed: 1, Workers: 4, Loss: 2.02}, {Arm: "default", Seed: 2, Workers: 4, Loss: 4.08},
		{Arm: "default:workers=8", Seed: 1, Workers: 8, Loss: 1.5},
	}}
	text := r.table()
	for _, want := range []string{"+1.50 %  +2.00 %", "+50.00 %"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	var back report
	b, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	svg, err2 := os.ReadFile(filepath.Join(dir, "losses.svg"))
	if err != nil || err2 != nil || len(back.Outcomes) != 6 || !strings.Contains(string(svg), "<svg") {
		t.Errorf("%v, %v: %d outcomes, %d bytes of picture", err, err2, len(back.Outcomes), len(svg))
	}
}
