package training

import (
	"math"
	"time"
)

// meter turns a Solo's steps into reports.
type meter struct {
	cfg SoloConfig

	all, span       time.Duration // inside steps: in all, and since the last report
	windows, recent uint64        // trained on, likewise
	loss            float64       // sum since the last report
	steps           int           // since the last report
}

func newMeter(cfg SoloConfig) *meter { return &meter{cfg: cfg} }

// tokens returns how many tokens so many windows have.
func (m *meter) tokens(windows uint64) uint64 { return windows * uint64(m.cfg.Trainer.Model.Context) }

// rate returns tokens a second over all steps so far, 0 before the first.
func (m *meter) rate() float64 {
	if m.all <= 0 {
		return 0
	}
	return float64(m.tokens(m.windows)) / m.all.Seconds()
}

// add takes in the step that s has just made.
func (m *meter) add(s *Solo, r StepResult, took time.Duration) {
	m.all, m.span = m.all+took, m.span+took
	m.windows, m.recent = m.windows+uint64(len(s.indices)), m.recent+uint64(len(s.indices))
	m.loss += r.Loss
	m.steps++
	if m.cfg.Report == nil || (s.step%m.cfg.LogEvery != 0 && s.windows < s.budget) {
		return
	}
	noise, measured := s.growth.state.Noise.Windows()
	if !measured {
		noise = math.NaN()
	}
	m.cfg.Report(SoloReport{
		Step: s.step, Loss: m.loss / float64(m.steps), Tokens: m.tokens(s.windows), LR: r.LR,
		TokensPerSecond: float64(m.tokens(m.recent)) / max(m.span.Seconds(), 1e-9),
		Progress:        float64(s.windows) / float64(s.budget),
		Windows:         len(s.indices), NoiseScale: noise,
	})
	m.span, m.recent, m.loss, m.steps = 0, 0, 0, 0
}
