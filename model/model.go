package model

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/compute"
)

// maxLogits bounds the values of the logits buffer: a large vocabulary goes
// through the head in chunks of rows.
const maxLogits = 1 << 24

// Model is a decoder on one device, with room for batches up to MaxBatch
// windows of Config.Context positions.
type Model struct {
	cfg      Config
	dev      compute.Device
	maxBatch int
	params   []Param
	weights  weights
	grads    weights
	act      activations
	owned    []compute.Buffer // all that Close frees
	tokens   compute.Ints     // [rows]
	targets  compute.Ints     // [rows]
	losses   []float32        // [rows] on the host
}

// activations are what forward leaves for backward, for rows = batch·context.
// Values of a batch with fewer rows lie at the beginning.
type activations struct {
	layers    []layerActivations
	last      compute.Buffer // [rows,C] the residual stream after all blocks
	lastNorm  compute.Buffer // [rows,C]
	lastStats stats
	logits    compute.Buffer // [chunk,V]
	losses    compute.Buffer // [rows]
	chunk     int            // rows of logits at a time

	// Gradients in flight.
	stream compute.Buffer // [rows,C] of the residual stream
	narrow compute.Buffer // [rows,C]
	wide   compute.Buffer // [rows,4C]
}

type layerActivations struct {
	in     compute.Buffer // [rows,C] the residual stream before the block
	ln1    compute.Buffer // [rows,C]
	qkv    compute.Buffer // [rows,3C]
	att    compute.Buffer // [rows,C]
	lse    compute.Buffer // [rows·H]
	mid    compute.Buffer // [rows,C] the residual stream after attention
	ln2    compute.Buffer // [rows,C]
	pre    compute.Buffer // [rows,4C] before GELU
	up     compute.Buffer // [rows,4C] after GELU
	stats1 stats
	stats2 stats
}

// stats are what a LayerNorm keeps for its gradient.
type stats struct{ mean, rstd compute.Buffer } // [rows]

// New allocates a model with zero parameters on dev, for at most maxBatch
// windows at a time (1 to 4,096).
func New(cfg Config, dev compute.Device, maxBatch int) (*Model, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if maxBatch < 1 || maxBatch > 4096 {
		return nil, fmt.Errorf("model batch %d: allowed are 1 to 4096", maxBatch)
	}
	m := &Model{cfg: cfg, dev: dev, maxBatch: maxBatch, params: cfg.Params()}
	if err := m.allocate(); err != nil {
		return nil, errors.Join(fmt.Errorf("allocate model of %d parameters for %d windows of %d tokens: %w",
			cfg.Parameters(), maxBatch, cfg.Context, err), m.Close())
	}
	return m, nil
}

func (m *Model) allocate() error {
	c, rows := m.cfg.Width, m.maxBatch*m.cfg.Context
	var failed error
	buffer := func(n int) compute.Buffer {
		if failed != nil {
			return compute.Buffer{}
		}
		b, err := m.dev.Alloc(n)
		failed = err
		if err == nil {
			m.owned = append(m.owned, b)
		}
		return b
	}
	norm := func() stats { return stats{mean: buffer(rows), rstd: buffer(rows)} }
	params, grads := buffer(m.cfg.Parameters()), buffer(m.cfg.Parameters())
	a := &m.act
	for range m.cfg.Layers {
		a.layers = append(a.layers, layerActivations{
			in: buffer(rows * c), ln1: buffer(rows * c), qkv: buffer(rows * 3 * c), att: buffer(rows * c),
			lse: buffer(rows * m.cfg.Heads), mid: buffer(rows * c), ln2: buffer(rows * c),
			pre: buffer(rows * 4 * c), up: buffer(rows * 4 * c), stats1: norm(), stats2: norm(),
		})
	}
	a.last, a.lastNorm, a.lastStats = buffer(rows*c), buffer(rows*c), norm()
	a.chunk = min(rows, max(1, maxLogits/m.cfg.Vocab))
	a.logits, a.losses = buffer(a.chunk*m.cfg.Vocab), buffer(rows)
	a.stream, a.narrow, a.wide = buffer(rows*c), buffer(rows*c), buffer(rows*4*c)
	if failed != nil {
		return failed
	}
	m.weights, m.grads = viewWeights(m.params, params), viewWeights(m.params, grads)
	m.losses = make([]float32, rows)
	var err error
	if m.tokens, err = m.dev.AllocInts(rows); err != nil {
		return err
	}
	m.targets, err = m.dev.AllocInts(rows)
	return err
}

// Close waits for the device and frees the model's memory there; the device
// stays open. The model must not be used afterwards.
func (m *Model) Close() error {
	err := m.dev.Sync()
	for _, b := range m.owned {
		m.dev.Free(b)
	}
	m.owned = nil
	m.dev.FreeInts(m.tokens)
	m.dev.FreeInts(m.targets)
	m.tokens, m.targets = compute.Ints{}, compute.Ints{}
	return err
}

// Config returns the model's shape.
func (m *Model) Config() Config { return m.cfg }

// MaxBatch returns the largest number of windows of a call.
func (m *Model) MaxBatch() int { return m.maxBatch }

// Params returns all parameters in one flat buffer, in Config.Params' order.
func (m *Model) Params() compute.Buffer { return m.weights.flat }

// Grads returns all gradients, laid out like Params.
func (m *Model) Grads() compute.Buffer { return m.grads.flat }

// ZeroGrad sets every gradient to 0.
func (m *Model) ZeroGrad() { m.dev.Zero(m.grads.flat) }

// Init sets every parameter to its initial value for a seed: the same bits on
// every machine.
func (m *Model) Init(seed uint64) {
	for _, p := range m.params {
		values := make([]float32, p.Size)
		p.Fill(values, seed)
		m.dev.Upload(p.span(m.weights.flat), values)
	}
}

// Shapes returns the parameters' names and shapes in order, without values.
func (m *Model) Shapes() []compute.Tensor {
	tensors := make([]compute.Tensor, len(m.params))
	for i, p := range m.params {
		tensors[i] = compute.Tensor{Name: p.Name, Shape: p.Shape}
	}
	return tensors
}

// Tensors returns copies of the parameters in order, under their names. All
// views one new slice.
func (m *Model) Tensors() ([]compute.Tensor, error) { return m.download(m.weights.flat) }

// GradTensors returns copies of the gradients in order, under the parameters'
// names.
func (m *Model) GradTensors() ([]compute.Tensor, error) { return m.download(m.grads.flat) }

func (m *Model) download(flat compute.Buffer) ([]compute.Tensor, error) {
	values := make([]float32, flat.Len())
	if err := m.dev.Download(values, flat); err != nil {
		return nil, fmt.Errorf("read parameters from %s: %w", m.dev.Name(), err)
	}
	tensors := m.Shapes()
	for i, p := range m.params {
		tensors[i].Data = values[p.Offset : p.Offset+p.Size : p.Offset+p.Size]
	}
	return tensors, nil
}

// Load sets the parameters from tensors of the same names and shapes in any
// order. A missing, unknown, repeated or misshapen tensor is an error, and
// then nothing is changed. "lm_head.weight", tied to the token embedding, is
// ignored.
func (m *Model) Load(tensors []compute.Tensor) error {
	byName := make(map[string]compute.Tensor, len(tensors))
	for _, t := range tensors {
		if t.Name == "lm_head.weight" {
			continue
		}
		if _, twice := byName[t.Name]; twice {
			return fmt.Errorf("load model: tensor %q appears twice", t.Name)
		}
		byName[t.Name] = t
	}
	for _, p := range m.params {
		t, ok := byName[p.Name]
		if !ok {
			return fmt.Errorf("load model: tensor %q is missing", p.Name)
		}
		if err := t.Validate(); err != nil {
			return fmt.Errorf("load model: %w", err)
		}
		if !slices.Equal(t.Shape, p.Shape) {
			return fmt.Errorf("load model: tensor %q has shape %v, the model needs %v", p.Name, t.Shape, p.Shape)
		}
	}
	if len(byName) > len(m.params) {
		known := make(map[string]bool, len(m.params))
		for _, p := range m.params {
			known[p.Name] = true
		}
		for _, t := range tensors {
			if !known[t.Name] && t.Name != "lm_head.weight" {
				return fmt.Errorf("load model: tensor %q is unknown", t.Name)
			}
		}
	}
	for _, p := range m.params {
		m.dev.Upload(p.span(m.weights.flat), byName[p.Name].Data)
	}
	return m.dev.Sync()
}
