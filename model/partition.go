package model

import (
	"errors"
	"fmt"

	"dunlin/compute"
)

// Part is the blocks [From, To) of a model. The part that begins with block 0 has
// the embeddings too, the one that ends with the last block the last norm and the
// head. Parts make the stages of a pipeline.
type Part struct{ From, To int }

// Whole is the part that is everything.
func (c Config) Whole() Part { return Part{To: c.Layers} }

// Len returns the number of blocks.
func (p Part) Len() int { return p.To - p.From }

// First reports whether the part reads tokens.
func (p Part) First() bool { return p.From == 0 }

// Last reports whether the part computes the loss.
func (p Part) Last(c Config) bool { return p.To == c.Layers }

// Validate reports a part that a model of this shape does not have.
func (p Part) Validate(c Config) error {
	switch {
	case p.From < 0 || p.To > c.Layers || p.Len() < 1:
		return fmt.Errorf("part [%d, %d) of %d blocks: 1 and more of them are allowed", p.From, p.To, c.Layers)
	case p != c.Whole() && !c.Untied:
		return errors.New("part of a model whose head is tied to its embedding: both would lie in two parts; give it a head of its own")
	}
	return nil
}

// Products returns the weights of a part that the values of a position are multiplied
// with: what a pass through it costs, but for attention.
func (p Part) Products(c Config) int {
	n := p.Len() * c.blockProducts()
	if p.Last(c) {
		n += c.Vocab * c.Width
	}
	return n
}

// PartParams returns the parameters of a part in the order of Params, with their
// offsets in the part's flat buffer.
func (c Config) PartParams(p Part) []Param {
	var out []Param
	offset := 0
	for _, param := range c.Params() {
		inside := param.Layer >= p.From && param.Layer < p.To
		if param.Layer < 0 {
			inside = p.First()
			if param.Name == headName {
				inside = p.Last(c)
			}
		}
		if inside {
			param.Offset = offset
			offset += param.Size
			out = append(out, param)
		}
	}
	return out
}

func sizeOf(params []Param) int {
	n := 0
	for _, p := range params {
		n += p.Size
	}
	return n
}

// Stage is one part of a model on one device. It keeps nothing between calls but
// parameters and gradients: Backward is given the input again and computes the
// forward pass anew, so that any machine with the stage can serve either call.
// One goroutine uses it.
type Stage struct{ model *Model }

// Pass is the input of a stage: some windows of equal length.
type Pass struct {
	Windows int
	Tokens  []int32   // first stage: [Windows·positions]; others do not read them
	Stream  []float32 // other stages: the output of the stage before, [Windows·positions, Width]
	Targets []int32   // last stage, for Backward: [Windows·positions]
}

// NewStage allocates a part with zero parameters and gradients. Gradients are
// added up, so that room must not lend their memory.
func NewStage(part Part, room Room, cfg Config, dev compute.Device) (*Stage, error) {
	if err := errors.Join(cfg.Validate(), part.Validate(cfg)); err != nil {
		return nil, err
	}
	if room.Lend {
		return nil, errors.New("a stage adds gradients up and cannot lend their memory")
	}
	m, err := newPart(part, room, cfg, dev)
	if err != nil {
		return nil, err
	}
	return &Stage{m}, nil
}

// Close frees the memory on the device.
func (s *Stage) Close() error { return s.model.Close() }

// Params returns the stage's parameters in one flat buffer, in PartParams' order.
func (s *Stage) Params() compute.Buffer { return s.model.Params() }

// Grads returns their gradients, laid out alike.
func (s *Stage) Grads() compute.Buffer { return s.model.Grads() }

// ZeroGrad sets every gradient to 0.
func (s *Stage) ZeroGrad() { s.model.ZeroGrad() }

// Squares returns the sum of the squares of all gradients.
func (s *Stage) Squares() float64 { return s.model.dev.SumSquares(s.model.grads) }

// Shapes returns the parameters' names and shapes in order.
func (s *Stage) Shapes() []compute.Tensor { return s.model.Shapes() }

// Part returns which blocks these are.
func (s *Stage) Part() Part { return s.model.part }

// Forward writes the stream behind the last block of the stage to out, [rows,
// Width]. The last stage has no output but the loss: it is asked by Backward.
func (s *Stage) Forward(out []float32, in Pass) error {
	m := s.model
	if m.part.Last(m.cfg) {
		return errors.New("forward of the last stage: its backward pass gives the loss")
	}
	rows, err := s.place(in)
	if err != nil {
		return err
	}
	if len(out) != rows*m.cfg.Width {
		return fmt.Errorf("forward: room for %d values, %d rows of width %d need %d", len(out), rows, m.cfg.Width, rows*m.cfg.Width)
	}
	m.forward(in.Windows, 0, rows/in.Windows)
	if err := m.dev.Download(out, m.act.streams[len(m.blocks)].Slice(0, len(out))); err != nil {
		return fmt.Errorf("read stage output: %w", err)
	}
	return nil
}

// Backward adds to the gradients and writes the gradient of the input to dIn,
// [rows, Width], which the first stage leaves alone. dOut is the gradient of the
// output; the last stage takes in.Targets instead and returns the mean loss in
// nats a token.
func (s *Stage) Backward(dIn []float32, in Pass, dOut []float32) (loss float32, err error) {
	m := s.model
	rows, err := s.place(in)
	if err != nil {
		return 0, err
	}
	n, last := rows*m.cfg.Width, m.part.Last(m.cfg)
	switch {
	case !last && len(dOut) != n:
		return 0, fmt.Errorf("backward: %d values of the output's gradient, %d rows of width %d need %d", len(dOut), rows, m.cfg.Width, n)
	case !m.part.First() && len(dIn) != n:
		return 0, fmt.Errorf("backward: room for %d values, %d rows of width %d need %d", len(dIn), rows, m.cfg.Width, n)
	case last && len(in.Targets) != rows:
		return 0, fmt.Errorf("backward: %d targets for %d rows", len(in.Targets), rows)
	}
	if last {
		if err := m.checkTokens("target", in.Targets); err != nil {
			return 0, err
		}
		m.dev.UploadInts(m.targets, in.Targets)
	}
	m.forward(in.Windows, 0, rows/in.Windows)
	if last {
		m.score(rows, true)
	} else {
		m.dev.Upload(m.act.flight.stream.Slice(0, n), dOut)
	}
	m.backward(in.Windows, rows/in.Windows)
	if !m.part.First() {
		if err := m.dev.Download(dIn, m.act.flight.stream.Slice(0, n)); err != nil {
			return 0, fmt.Errorf("read gradient of stage input: %w", err)
		}
	}
	if last {
		return m.meanLoss(rows)
	}
	return 0, nil
}

// place checks a stage's input and moves it to the device.
func (s *Stage) place(in Pass) (rows int, err error) {
	m := s.model
	if m.part.First() {
		if _, err := m.place(in.Tokens, nil, in.Windows); err != nil {
			return 0, err
		}
		return len(in.Tokens), nil
	}
	if in.Windows < 1 || in.Windows > m.room.Batch {
		return 0, fmt.Errorf("pass of %d windows: the stage has room for 1 to %d", in.Windows, m.room.Batch)
	}
	row := in.Windows * m.cfg.Width
	if len(in.Stream) == 0 || len(in.Stream)%row != 0 || len(in.Stream)/row > m.cfg.Context {
		return 0, fmt.Errorf("pass of %d values in %d windows: each takes 1 to %d positions of width %d", len(in.Stream), in.Windows, m.cfg.Context, m.cfg.Width)
	}
	m.dev.Upload(m.act.streams[0], in.Stream)
	return len(in.Stream) / m.cfg.Width, nil
}
