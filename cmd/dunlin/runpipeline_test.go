package main

import (
	"testing"

	"dunlin/model"
	"dunlin/plan"
)

// TestPipelineShapesHaveTheModelsParameters holds the pipeline's formulas to the models that are trained.
func TestPipelineShapesHaveTheModelsParameters(t *testing.T) {
	for _, name := range model.Presets() {
		shape, err := model.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if shape.Family == model.Llama {
			shape.Untied = true
		}
		want := 0
		for _, p := range shape.Params() {
			want += p.Size
		}
		if shape.Family == model.GPT2 {
			want += shape.Vocab * shape.Width // the head of its own
		}
		layers, err := pipelineShape(shape).Layers(1, 1)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, l := range layers {
			got += int(l.Memory)
		}
		if got != want {
			t.Errorf("%s: %d parameters, the model has %d", name, got, want)
		}
	}
}

func TestPlanPipelineDealsPeersToStages(t *testing.T) {
	shape, err := model.Preset("gpt2")
	if err != nil {
		t.Fatal(err)
	}
	p, err := planPipeline([]plan.Group{{Count: 6, Speed: 3000, Up: 1e9, Down: 1e9}, {Count: 1, Speed: 9000, Up: 1e9, Down: 1e9}}, shape, 3, 1, 0, true, 8)
	if err != nil {
		t.Fatal(err)
	}
	peers := 0
	for i, s := range p.Stages {
		peers += s.Peers
		if s.Peers < 1 || s.Use > 1.001 || s.Use < 0.4 {
			t.Errorf("stage %d: %+v", i, s)
		}
	}
	// Without recomputation and stages the seven do 27,000; the forward pass that backward runs again and the last
	// stage's that is saved leave five sixths of it, and stages are uneven.
	if peers != 7 || p.ComputeOnly < 18_000 || p.ComputeOnly > 22_600 || p.TokensPerSec > p.ComputeOnly || p.InFlight != 8*p.Stages[0].Peers || p.Steps != 0 {
		t.Errorf("%d peers, %+v", peers, p)
	}
	far, err := planPipeline([]plan.Group{{Count: 6, Speed: 3000, Up: 1e9, Down: 1e9, Latency: 0.05}, {Count: 1, Speed: 9000, Up: 1e9, Down: 1e9}}, shape, 3, 1, 0, true, 8)
	if err != nil || far.TokensPerSec >= p.TokensPerSec || far.Enough < p.Enough {
		t.Errorf("with links of 50 ms %+v, %v", far, err)
	}
	adamw, err := planPipeline([]plan.Group{{Count: 7, Speed: 3000, Up: 1e9, Down: 1e9}}, shape, 3, 1, 16, false, 8)
	muon, err2 := planPipeline([]plan.Group{{Count: 7, Speed: 3000, Up: 1e9, Down: 1e9}}, shape, 3, 1, 16, true, 8)
	if err != nil || err2 != nil || adamw.Steps <= 0 || muon.Steps <= 0 || adamw.TokensPerSec == muon.TokensPerSec || adamw.TokensPerSec > adamw.ComputeOnly {
		t.Errorf("inner steps cost %+v with AdamW and %+v with Muon; %v, %v", adamw, muon, err, err2)
	}
	if _, err := planPipeline([]plan.Group{{Count: 2, Speed: 3000, Up: 1e9, Down: 1e9}}, shape, 3, 1, 0, true, 8); err == nil {
		t.Error("two peers hold three stages")
	}
}
