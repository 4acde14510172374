package model

import "dunlin/compute"

// builder allocates a model's memory and cuts it into layers. It keeps the
// first error, so that a layer reads as a list of its parts.
type builder struct {
	dev           compute.Device
	cfg           Config
	room          Room
	rows          int // of the largest batch
	first         int // block of the part
	params        map[string]Param
	weights, grad compute.Buffer
	lender        lender
	desk          compute.Buffer // see Model
	owned         []compute.Buffer
	failed        error
}

func newBuilder(m *Model) *builder {
	cfg, room := m.cfg, m.room
	b := &builder{dev: m.dev, cfg: cfg, room: room, rows: room.Batch * cfg.Context, params: map[string]Param{}, first: m.part.From}
	for _, p := range m.params {
		b.params[p.Name] = p
	}
	b.weights, b.grad = b.buffer(sizeOf(m.params)), b.buffer(sizeOf(m.params))
	b.lender.grads = b.grad
	if !cfg.Untied {
		b.lender.from = cfg.Vocab * cfg.Width // the head's gradient, which backward begins with
	}
	desk := b.rows * cfg.passing(room.kept(0))
	if m.part.Last(cfg) {
		desk = max(desk, cfg.chunk(b.rows)*cfg.Vocab)
	}
	b.desk = b.buffer(desk)
	return b
}

// until lets what is allocated from now on borrow the memory of the gradients of
// the layers before this one.
func (b *builder) until(layer compute.Range) {
	if b.room.Lend {
		b.lender.to = layer.From
	}
}

// buffer returns n values, or nothing after an error.
func (b *builder) buffer(n int) compute.Buffer {
	if b.failed != nil {
		return compute.Buffer{}
	}
	buffer, err := b.dev.Alloc(n)
	b.failed = err
	if err == nil {
		b.owned = append(b.owned, buffer)
	}
	return buffer
}

// values returns n values for each row that nothing but the layer they belong to needs.
func (b *builder) values(n int) compute.Buffer {
	if b.failed == nil {
		if lent, ok := b.lender.take(b.rows * n); ok {
			return lent
		}
	}
	return b.buffer(b.rows * n)
}

// parameter returns parameters that lie side by side, and their gradients.
func (b *builder) parameter(names ...string) (value, grad compute.Buffer) {
	if b.failed != nil {
		return value, grad
	}
	first, last := b.params[names[0]], b.params[names[len(names)-1]]
	size := 0
	for _, name := range names {
		p, ok := b.params[name]
		if !ok || p.Offset != first.Offset+size {
			panic("model: no parameter " + name + " there")
		}
		size += p.Size
	}
	end := last.Offset + last.Size
	return b.weights.Slice(first.Offset, end), b.grad.Slice(first.Offset, end)
}

// affine is a linear layer of GPT-2: name.weight [in, out] and name.bias [out].
func (b *builder) affine(in, out int, name string) linear {
	l := linear{dev: b.dev, in: in, out: out, replace: b.room.Lend}
	l.weight, l.weightGrad = b.parameter(name + ".weight")
	l.bias, l.biasGrad = b.parameter(name + ".bias")
	return l
}

// projection is a linear layer of Llama, or several with one input: weights
// [out, in] that lie side by side, no bias.
func (b *builder) projection(in, out int, names ...string) linear {
	l := linear{dev: b.dev, in: in, out: out, outFirst: true, replace: b.room.Lend}
	for i := range names {
		names[i] += ".weight"
	}
	l.weight, l.weightGrad = b.parameter(names...)
	return l
}

func (b *builder) layerNorm(name string) layerNorm {
	n := layerNorm{dev: b.dev, width: b.cfg.Width, replace: b.room.Lend, mean: b.values(1), rstd: b.values(1)}
	n.gain, n.gainGrad = b.parameter(name + ".weight")
	n.bias, n.biasGrad = b.parameter(name + ".bias")
	return n
}

func (b *builder) rmsNorm(name string) rmsNorm {
	n := rmsNorm{dev: b.dev, width: b.cfg.Width, replace: b.room.Lend, eps: b.cfg.NormEps, rstd: b.values(1)}
	n.gain, n.gainGrad = b.parameter(name + ".weight")
	return n
}

// kept returns what a block of the model keeps.
func (b *builder) kept(layer int) Kept { return b.room.kept(layer - b.first) }
