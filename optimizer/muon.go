package optimizer

import (
	"errors"
	"fmt"
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
//
// With Every above 1 each hidden matrix takes up every gradient, but moves only in one
// of so many steps, as many times as far: its momentum turns little from one step to
// the next, and the orthogonal factor costs as much for a step of few tokens as for one
// of many.
type MuonConfig struct {
	Momentum float64     // decay of the running mean of gradients, [0, 1)
	Every    int         // steps between two moves of a hidden matrix, 1 to 4
	AdamW    AdamWConfig // of everything else; its Clip is that of the whole gradient
}

// MuonEvery returns the Every with which a move comes after about eight tokens for each
// value of a model's width, so that orthogonal factors add a seventh to the step's
// operations, up to the most.
func MuonEvery(width, tokens int) int {
	return min(max(1, (8*width+tokens-1)/tokens), mostMuonEvery)
}

// MuonTokens returns on how many tokens a model of a width trains in the time that the
// orthogonal factors of a step of so many tokens take, on average.
func MuonTokens(width, tokens int) float64 {
	return 8 * float64(width) / 7 / float64(MuonEvery(width, tokens))
}

// mostMuonEvery is a few of the twenty or so steps that a momentum of 0.95 remembers.
const mostMuonEvery = 4

// Name implements Config.
func (c MuonConfig) Name() string { return "muon" }

// Validate implements Config.
func (c MuonConfig) Validate() error {
	var every error
	if c.Every < 1 || c.Every > mostMuonEvery {
		every = fmt.Errorf("%s moves every %d steps: allowed are 1 to %d", c.Name(), c.Every, mostMuonEvery)
	}
	return errors.Join(every, checkDecay(c.Name(), "momentum", c.Momentum), c.AdamW.validate(c.Name()))
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
	turner *turner         // nil without hidden matrices
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
		m.turner, err4 = openTurner(core, largest, gram)
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
	beta := m.cfg.Momentum
	own := float32((1 - beta) * scale)
	for _, h := range m.hidden {
		m.device.Combine(h.momentum, float32(beta), h.momentum, own, h.grads)
		if every := m.cfg.Every; m.steps%every == 0 {
			m.move(h, own, learningRate*float64(every), weightDecay)
		}
	}
	return norm, nil
}

// move moves one hidden matrix; own is the gradient's share in its momentum.
func (m *muon) move(h hidden, own float32, learningRate, weightDecay float64) {
	update := m.update.Slice(0, h.params.Len())
	m.device.Combine(update, float32(m.cfg.Momentum), h.momentum, own, h.grads)
	turned, factor := m.turner.orthogonal(update, h.rows, h.columns)
	factor *= learningRate * muonSize * math.Sqrt(float64(max(h.rows, h.columns)))
	m.device.Combine(h.params, float32(1-learningRate*weightDecay), h.params, float32(-factor), turned)
}
