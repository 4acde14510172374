package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"dunlin/compute"
)

// headName is the output head's parameter, where it has one of its own.
const headName = "lm_head.weight"

// Model is a decoder on one device, with room for batches up to MaxBatch
// windows of Config.Context positions.
type Model struct {
	cfg    Config
	dev    compute.Device
	part   Part
	room   Room
	params []Param
	layers []compute.Range  // of params, one a block
	owned  []compute.Buffer // all that Close frees

	weights, grads compute.Buffer // all parameters and their gradients
	desk           compute.Buffer // for the logits, and in turn for what passes from operation to operation in a block
	embed          embedding
	blocks         []block
	last           norm
	head           head
	act            activations
	tokens         compute.Ints // [rows]
	targets        compute.Ints // [rows]
	losses         []float32    // [rows] on the host
}

// embedding is the parameters of the first layer and their gradients. Llama has
// no positions.
type embedding struct {
	tokens, tokensGrad       compute.Buffer // [V,C]
	positions, positionsGrad compute.Buffer // [context,C], or empty
}

// head is the weights of the scores and their gradient: a parameter of their
// own or the token embedding's.
type head struct{ weight, grad compute.Buffer } // [V,C]

// activations are what forward leaves for backward, for rows = batch·context.
// Values of a batch with fewer rows lie at the beginning.
type activations struct {
	streams  []compute.Buffer // [rows,C] the residual stream before each block, and after the last
	lastNorm compute.Buffer   // [rows,C]
	logits   compute.Buffer   // [chunk,V]; between forward and backward, other values lie there
	losses   compute.Buffer   // [rows]
	chunk    int              // rows of logits at a time
	flight   flight
}

// New allocates a model with zero parameters on dev, for at most maxBatch
// windows at a time (1 to 4,096), that keeps every product for backward.
func New(cfg Config, dev compute.Device, maxBatch int) (*Model, error) {
	return NewIn(Room{Batch: maxBatch}, cfg, dev)
}

// NewIn is New with the memory that room says.
func NewIn(room Room, cfg Config, dev compute.Device) (*Model, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return newPart(cfg.Whole(), room, cfg, dev)
}

// newPart allocates a part of a valid model.
func newPart(part Part, room Room, cfg Config, dev compute.Device) (*Model, error) {
	if err := room.Validate(part.Len()); err != nil {
		return nil, err
	}
	if err := cfg.Suits(dev); err != nil {
		return nil, err
	}
	m := &Model{cfg: cfg, dev: dev, part: part, room: room, params: cfg.PartParams(part)}
	m.layers = layersOf(m.params, part)
	if err := m.allocate(); err != nil {
		return nil, errors.Join(fmt.Errorf("allocate model of %d parameters for %d windows of %d tokens: %w",
			sizeOf(m.params), room.Batch, cfg.Context, err), m.Close())
	}
	return m, nil
}

func (m *Model) allocate() error {
	b := newBuilder(m)
	m.weights, m.grads, m.desk = b.weights, b.grad, b.desk
	add := m.allocateGPT2
	if m.cfg.Family == Llama {
		add = m.allocateLlama
	}
	newBlock := add(b)
	for i, span := range m.layers {
		b.until(span)
		m.act.streams = append(m.act.streams, b.values(m.cfg.Width))
		m.blocks = append(m.blocks, newBlock(m.part.From+i))
	}
	m.finish(b)
	m.owned = b.owned
	if b.failed != nil {
		return b.failed
	}
	var err error
	if m.tokens, err = m.dev.AllocInts(b.rows); err != nil {
		return err
	}
	m.targets, err = m.dev.AllocInts(b.rows)
	return err
}

// finish allocates what comes after the blocks.
func (m *Model) finish(b *builder) {
	cfg, a := m.cfg, &m.act
	b.until(m.layers[len(m.layers)-1])
	a.streams = append(a.streams, b.values(cfg.Width))
	a.flight.stream, a.flight.outside = b.gradient()
	a.flight.narrow = b.buffer(b.rows * cfg.Width)
	if b.failed == nil {
		a.flight.wide = b.desk.Slice(0, b.rows*cfg.hidden())
	}
	m.losses = make([]float32, b.rows)
	if !m.part.Last(cfg) {
		return
	}
	a.lastNorm = b.values(cfg.Width)
	if cfg.Family == Llama {
		last := b.rmsNorm("model.norm")
		m.last = &last
	} else {
		last := b.layerNorm("transformer.ln_f")
		m.last = &last
	}
	a.losses, a.chunk = b.buffer(b.rows), cfg.chunk(b.rows)
	if b.failed == nil {
		a.logits = b.desk.Slice(0, a.chunk*cfg.Vocab)
	}
}

// allocateHead takes the head's weights, or the token embedding's.
func (m *Model) allocateHead(b *builder) {
	switch {
	case !m.part.Last(m.cfg):
	case m.cfg.Untied:
		m.head.weight, m.head.grad = b.parameter(headName)
	default:
		m.head = head{weight: m.embed.tokens, grad: m.embed.tokensGrad}
	}
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
func (m *Model) MaxBatch() int { return m.room.Batch }

// Params returns all parameters in one flat buffer, in Config.Params' order.
func (m *Model) Params() compute.Buffer { return m.weights }

// Grads returns all gradients, laid out like Params.
func (m *Model) Grads() compute.Buffer { return m.grads }

// ZeroGrad sets every gradient to 0. A model that lends their memory does so by
// itself in ForwardBackward.
func (m *Model) ZeroGrad() {
	if !m.room.Lend {
		m.dev.Zero(m.grads)
	}
}

// Init sets every parameter to its initial value for a seed: the same bits on
// every machine.
func (m *Model) Init(seed uint64) {
	for _, p := range m.params {
		span := p.span(m.weights)
		if span.Host != nil { // no copy of what may be a third of the model
			p.Fill(span.Host, seed)
			continue
		}
		values := make([]float32, p.Size)
		p.Fill(values, seed)
		m.dev.Upload(span, values)
	}
}

// Shapes returns the parameters' names and shapes in order, without values.
func (m *Model) Shapes() []compute.Tensor { return shapesOf(m.params) }

// Shapes returns the parameters' names and shapes in order, without values.
func (c Config) Shapes() []compute.Tensor { return shapesOf(c.Params()) }

func shapesOf(params []Param) []compute.Tensor {
	tensors := make([]compute.Tensor, len(params))
	for i, p := range params {
		tensors[i] = compute.Tensor{Name: p.Name, Shape: p.Shape}
	}
	return tensors
}

// Tensors returns copies of the parameters in order, under their names. All
// views one new slice.
func (m *Model) Tensors() ([]compute.Tensor, error) { return m.download(m.weights) }

// View returns the parameters in order, under their names, until the next step:
// where the device shares the host's memory nothing is copied.
func (m *Model) View() ([]compute.Tensor, error) {
	tensors := make([]compute.Tensor, len(m.params))
	var err error
	for i, p := range m.params {
		if tensors[i], err = compute.View(m.dev, p.Name, p.Shape, p.span(m.weights)); err != nil {
			return nil, err
		}
	}
	return tensors, nil
}

// GradTensors returns copies of the gradients in order, under the parameters'
// names.
func (m *Model) GradTensors() ([]compute.Tensor, error) { return m.download(m.grads) }

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
// order, see Config.Arrange. After an error nothing is changed.
func (m *Model) Load(tensors []compute.Tensor) error {
	arranged, err := m.cfg.Arrange(tensors)
	if err != nil {
		return fmt.Errorf("load model: %w", err)
	}
	for i, p := range m.params {
		m.dev.Upload(p.span(m.weights), arranged[i].Data)
	}
	return m.dev.Sync()
}

// Arrange returns tensors in the order of the parameters. A missing, unknown,
// repeated or misshapen tensor is an error. "lm_head.weight" is left out where
// it is tied to the token embedding.
func (c Config) Arrange(tensors []compute.Tensor) ([]compute.Tensor, error) {
	byName := make(map[string]compute.Tensor, len(tensors))
	for _, t := range tensors {
		if t.Name == headName && !c.Untied {
			continue
		}
		if _, twice := byName[t.Name]; twice {
			return nil, fmt.Errorf("tensor %q appears twice", t.Name)
		}
		byName[t.Name] = t
	}
	params := c.Params()
	arranged := make([]compute.Tensor, len(params))
	for i, p := range params {
		t, ok := byName[p.Name]
		if !ok {
			return nil, fmt.Errorf("tensor %q is missing", p.Name)
		}
		if err := t.Validate(); err != nil {
			return nil, err
		}
		if !slices.Equal(t.Shape, p.Shape) {
			return nil, fmt.Errorf("tensor %q has shape %v, the model needs %v", p.Name, t.Shape, p.Shape)
		}
		if err := p.rests(t.Data); err != nil {
			return nil, err
		}
		arranged[i] = t
		delete(byName, p.Name)
	}
	if len(byName) > 0 {
		return nil, fmt.Errorf("tensor %q is unknown", slices.Sorted(maps.Keys(byName))[0])
	}
	return arranged, nil
}
