package recipe

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
	"dunlin/replica"
	"dunlin/wire"
)

// described is the spec of a model in one fragment.
func described(cfg model.Config) *wire.RunSpec {
	spec := &wire.RunSpec{}
	describeModel(spec, cfg, make([]uint64, len(cfg.Params())))
	return spec
}

// TestSpecKeepsEveryPreset turns every preset into a RunSpec and back.
func TestSpecKeepsEveryPreset(t *testing.T) {
	for _, name := range model.Presets() {
		cfg, err := model.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Model(described(cfg))
		if err != nil || got != cfg {
			t.Errorf("%s comes back as %+v (%v), was %+v", name, got, err, cfg)
		}
	}
}

// TestSpecKeepsEveryField changes one field of a model's shape after the other:
// each must come back, and each must change the RunSpec, hence the run id.
func TestSpecKeepsEveryField(t *testing.T) {
	base := model.Config{
		Family: model.Llama, Layers: 2, Heads: 4, Width: 16, Context: 8, Vocab: 256,
		KVHeads: 2, Hidden: 24, RopeTheta: 10000, NormEps: 1e-5,
	}
	other := map[string]model.Config{}
	for name, change := range map[string]func(*model.Config){
		"Family": func(c *model.Config) {
			*c = model.Config{Layers: c.Layers, Heads: c.Heads, Width: c.Width, Context: c.Context, Vocab: c.Vocab}
		},
		"Layers": func(c *model.Config) { c.Layers++ }, "Heads": func(c *model.Config) { c.Heads = 2 },
		"Width": func(c *model.Config) { c.Width = 32 }, "Context": func(c *model.Config) { c.Context++ },
		"Vocab": func(c *model.Config) { c.Vocab++ }, "KVHeads": func(c *model.Config) { c.KVHeads = 1 },
		"Hidden": func(c *model.Config) { c.Hidden++ }, "RopeTheta": func(c *model.Config) { c.RopeTheta = 500000 },
		"NormEps": func(c *model.Config) { c.NormEps = 1e-6 }, "Untied": func(c *model.Config) { c.Untied = true },
		"Subspace": func(c *model.Config) { c.Untied, c.Subspace = true, 6 },
	} {
		c := base
		change(&c)
		other[name] = c
	}
	id := described(base).ID()
	for i := range reflect.TypeFor[model.Config]().NumField() {
		name := reflect.TypeFor[model.Config]().Field(i).Name
		cfg, ok := other[name]
		if !ok {
			t.Errorf("field %s of model.Config is not covered here", name)
			continue
		}
		spec := described(cfg)
		if got, err := Model(spec); err != nil || got != cfg {
			t.Errorf("%s: comes back as %+v (%v), was %+v", name, got, err, cfg)
		}
		if spec.ID() == id {
			t.Errorf("%s: does not change the run id", name)
		}
	}
	bent := described(other["Hidden"])
	bent.Model = described(base).Model
	if _, err := Model(bent); err == nil {
		t.Error("tensors of another shape are accepted")
	}
	for name, change := range map[string]func(*wire.RunSpec){
		"moves elsewhere":       func(s *wire.RunSpec) { s.Tensors[0].Corner[1]++ },
		"starts otherwise":      func(s *wire.RunSpec) { s.Tensors[0].Init = wire.InitNormal },
		"is of a free model":    func(s *wire.RunSpec) { s.Model.Subspace = 0 },
		"is of a narrower one":  func(s *wire.RunSpec) { s.Model.Subspace = 4 },
		"moves where none does": func(s *wire.RunSpec) { s.Tensors[4].Corner = nil },
	} {
		spec := described(other["Subspace"])
		change(spec)
		if _, err := Model(spec); err == nil || !strings.Contains(err.Error(), "corner") {
			t.Errorf("a spec whose tensor %s: %v", name, err)
		}
	}
	// The other way about: no number of the spec is passed over.
	for i := range reflect.TypeFor[wire.ModelSpec]().NumField() {
		spec := described(base)
		name := reflect.TypeFor[wire.ModelSpec]().Field(i).Name
		switch field := reflect.ValueOf(&spec.Model).Elem().Field(i); field.Kind() {
		case reflect.Uint64:
			field.SetUint(field.Uint() + 4)
		case reflect.Uint32: // bits of a float32
			field.SetUint(field.Uint() + 1)
		case reflect.Bool:
			field.SetBool(!field.Bool())
		case reflect.String:
			field.SetString("gpt2")
		default:
			t.Fatalf("%s: no change for a %v", name, field.Kind())
		}
		if cfg, err := Model(spec); err == nil && cfg == base {
			t.Errorf("%s: the model does not depend on it", name)
		}
	}
	spec := described(base)
	spec.Model.Family = "rnn"
	if _, err := Model(spec); err == nil {
		t.Error("an unknown family is accepted")
	}
}

// TestStateZeroIsWhereTheModelStarts: replicas read the spec, trainers that begin with the run the model's shape.
func TestStateZeroIsWhereTheModelStarts(t *testing.T) {
	for _, subspace := range []int{0, 16} {
		spec, err := specOf(t, All()[1], func(r *Run) { r.Stages, r.Model.Subspace = 2, subspace })
		if err != nil {
			t.Fatal(err)
		}
		zero, err := replica.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := Model(spec)
		if err != nil {
			t.Fatal(err)
		}
		for i, tensor := range zero.Tensors() {
			p := cfg.Params()[i]
			want := make([]float32, p.Size)
			p.Fill(want, spec.Seed)
			if tensor.Name != p.Name || !slices.Equal(tensor.Data, want) {
				t.Errorf("subspace %d: %s starts otherwise in the model", subspace, tensor.Name)
			}
		}
	}
}

// TestSubspaceThatDoesNotFit is refused where the run is made.
func TestSubspaceThatDoesNotFit(t *testing.T) {
	for says, change := range map[string]func(*Run){
		"subspace 64: ":              func(r *Run) { r.Stages, r.Model.Subspace = 2, 64 },
		"subspace 15: ":              func(r *Run) { r.Stages, r.Model.Subspace = 2, 15 },
		"give it a head of its own":  func(r *Run) { r.Model.Subspace = 16 },
		"at most 4194304 are passed": func(r *Run) { r.Stages, r.Batch, r.Micro = 2, 4096, 4096 },
		"at most 16773120 pass":      func(r *Run) { r.Stages, r.Batch, r.Micro, r.Activation = 2, 1500, 1500, "fp32" },
	} {
		if _, err := specOf(t, All()[1], change); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	// What passes is bounded, not the width.
	if _, err := specOf(t, All()[1], func(r *Run) { r.Stages, r.Batch, r.Micro, r.Model.Subspace = 2, 4096, 4096, 16 }); err != nil {
		t.Error(err)
	}
}
