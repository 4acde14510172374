package optimizer

import (
	"errors"
	"math"

	"dunlin/compute"
)

// MuonConfig holds the constants of Muon (Jordan et al. 2024, github.com/KellerJordan/Muon):
// the matrices of hidden layers move along the orthogonal factor of their momentum,
// everything else (embeddings, head, norms, biases) by AdamW:
//
//	m ← Momentum·m + (1 − Momentum)·g      u = Momentum·m + (1 − Momentum)·g
//	W ← W·(1 − lr·wd) − lr · 0.2·√max(rows, columns) · orthogonal(u)
//
// The factor gives a step about the size of AdamW's, 0.2 in the mean square of its
// values, so that both take the same learning rate and weight decay (Liu et al.,
// arXiv 2502.16982, section 2.2).
type MuonConfig struct {
	Momentum float64     // decay of the running mean of gradients, [0, 1)
	AdamW    AdamWConfig // of everything else; its Clip is that of the whole gradient
}

// Name implements Config.
func (c MuonConfig) Name() string { return "muon" }

// Validate implements Config.
func (c MuonConfig) Validate() error {
	return errors.Join(checkDecay(c.Name(), "momentum", c.Momentum), c.AdamW.validate(c.Name()))
}

// RateFactor implements Config, as AdamW does.
func (c MuonConfig) RateFactor(kappa float64) float64 { return math.Sqrt(kappa) }

func (c MuonConfig) clipping() float64 { return c.AdamW.Clip }

// muonSize is the root mean square of a hidden matrix's step at a learning rate of 1.
const muonSize = 0.2

type muon struct {
	*core
	cfg    MuonConfig
	hidden []hidden
	others []compute.AdamW // a step of every other tensor
	update compute.Buffer  // as large as the largest hidden matrix
	newton *newtonSchulz   // nil without hidden matrices
}

// hidden is a matrix that Muon steps.
type hidden struct {
	params, grads, momentum compute.Buffer
	rows, columns           int
}

func (c MuonConfig) open(core *core) (Inner, error) {
	m := &muon{core: core, cfg: c}
	largest, gram, other := 0, 0, 0
	for _, p := range core.pieces {
		if !p.hidden() {
			other += p.to - p.from
			continue
		}
		largest = max(largest, p.to-p.from)
		gram = max(gram, min(p.shape[0], p.shape[1]))
	}
	first, err1 := core.alloc(core.params.Len())
	second, err2 := core.alloc(other)
	var err3, err4 error
	if largest > 0 {
		m.update, err3 = core.alloc(largest)
		m.newton, err4 = openNewtonSchulz(core, largest, gram)
	}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	m.divide(first, second)
	return m, nil
}

// hidden reports whether Muon steps the tensor.
func (p piece) hidden() bool { return len(p.shape) == 2 && !p.lookup }

// divide gives every tensor its state: of the first moments its own place, of the
// second ones, which only AdamW has, the next.
func (m *muon) divide(first, second compute.Buffer) {
	for _, p := range m.pieces {
		if p.hidden() {
			h := hidden{p.of(m.params), p.of(m.grads), p.of(first), p.shape[0], p.shape[1]}
			m.hidden = append(m.hidden, h)
			m.kept = append(m.kept, kept{"muon.m." + p.name, p.shape, h.momentum})
			continue
		}
		n := p.to - p.from
		adam := m.cfg.AdamW
		op := compute.AdamW{
			Params: p.of(m.params), Grads: p.of(m.grads), M: p.of(first), V: second.Slice(0, n),
			Beta1: adam.Beta1, Beta2: adam.Beta2, Eps: adam.Eps,
		}
		if p.decays {
			op.Decay = []compute.Range{{From: 0, To: n}}
		}
		second = second.Slice(n, second.Len())
		m.others = append(m.others, op)
		m.kept = append(m.kept, kept{firstMoment + p.name, p.shape, op.M}, kept{secondMoment + p.name, p.shape, op.V})
	}
}

// Step implements Inner.
func (m *muon) Step(learningRate, weightDecay, gradScale float64) (float64, error) {
	norm, scale, err := m.begin(gradScale)
	if err != nil {
		return norm, err
	}
	learningRate *= m.cfg.AdamW.ramp(m.steps)
	for i := range m.others {
		op := &m.others[i]
		op.Step, op.GradScale, op.LR, op.WeightDecay = m.steps, float32(scale), learningRate, weightDecay
		m.device.AdamW(*op)
	}
	for _, h := range m.hidden {
		m.turn(h, learningRate, weightDecay, scale)
	}
	return norm, nil
}

// turn steps one hidden matrix.
func (m *muon) turn(h hidden, learningRate, weightDecay, scale float64) {
	beta := m.cfg.Momentum
	own := float32((1 - beta) * scale)
	update := m.update.Slice(0, h.params.Len())
	m.device.Combine(h.momentum, float32(beta), h.momentum, own, h.grads)
	m.device.Combine(update, float32(beta), h.momentum, own, h.grads)
	turned := m.newton.orthogonal(update, h.rows, h.columns)
	size := muonSize * math.Sqrt(float64(max(h.rows, h.columns)))
	m.device.Combine(h.params, float32(1-learningRate*weightDecay), h.params, float32(-learningRate*size), turned)
}

// newtonSchulz holds the scratch of the iteration.
type newtonSchulz struct {
	device       compute.Device
	next         compute.Buffer // as large as the largest matrix
	gram, square compute.Buffer // as large as the largest Gram matrix
}

// Newton-Schulz by Jordan et al.: a polynomial of degree five whose repetition
// moves every singular value in (0, 1] into about [0.7, 1.2], fastest from near 0.
const (
	newtonSteps = 5
	newtonA     = 3.4445
	newtonB     = -4.7750
	newtonC     = 2.0315
)

// vanishing is the norm below which a matrix counts as zero: its squares are at the
// end of float32.
const vanishing = 1e-30

func openNewtonSchulz(c *core, values, gram int) (*newtonSchulz, error) {
	n := &newtonSchulz{device: c.device}
	var err1, err2, err3 error
	n.next, err1 = c.alloc(values)
	n.gram, err2 = c.alloc(gram * gram)
	n.square, err3 = c.alloc(gram * gram)
	return n, errors.Join(err1, err2, err3)
}

// orthogonal replaces x [rows, columns] and returns, in x or in scratch of its
// size, a matrix with x's singular vectors whose singular values are about 1; zero
// for a vanishing x. The result does not depend on x's scale.
func (n *newtonSchulz) orthogonal(x compute.Buffer, rows, columns int) compute.Buffer {
	norm := math.Sqrt(n.device.SumSquares(x))
	if norm < vanishing {
		n.device.Zero(x)
		return x
	}
	n.device.Scale(x, float32(1/norm))
	y := n.next.Slice(0, x.Len())
	for range newtonSteps {
		n.step(y, x, rows, columns)
		x, y = y, x
	}
	return x
}

// step sets y to a·x + (b·A + c·A²)·x with A = x·xᵀ, or for a tall x to the
// transpose of that of its transpose, a·x + x·(b·A + c·A²) with A = xᵀ·x, so that A
// is the smaller Gram matrix.
func (n *newtonSchulz) step(y, x compute.Buffer, rows, columns int) {
	small, tall := min(rows, columns), rows > columns
	gram, square := n.gram.Slice(0, small*small), n.square.Slice(0, small*small)
	product := compute.MatMul{Form: compute.NT, M: rows, N: rows, K: columns, A: x, B: x, C: gram}
	if tall {
		product = compute.MatMul{Form: compute.TN, M: columns, N: columns, K: rows, A: x, B: x, C: gram}
	}
	n.device.MatMul(product)
	n.device.MatMul(compute.MatMul{Form: compute.NN, M: small, N: small, K: small, A: gram, B: gram, C: square})
	n.device.Combine(gram, newtonB, gram, newtonC, square)
	product = compute.MatMul{Form: compute.NN, M: rows, N: columns, K: small, A: gram, B: x, C: y}
	if tall {
		product.A, product.B = x, gram
	}
	n.device.MatMul(product)
	n.device.Combine(y, 1, y, newtonA, x)
}
