package compute

import (
	"slices"
	"time"
)

// Stopwatch is a device that times another's operations, kind by kind. It is for
// devices that are done when a call returns, as processors are. Operations it does
// not name are not timed.
type Stopwatch struct {
	Device
	Clock func() time.Duration // since any moment
	laps  []Lap
}

// Lap is all the operations of one kind.
type Lap struct {
	Name  string
	Calls int
	Time  time.Duration
	FLOP  float64 // of products and attention, as model.Config.FLOPPerToken counts them; 0 for the others
	Bytes float64 // of float32 values that the others read and write at least
}

// Laps returns what was timed since the last Reset, the longest first.
func (s *Stopwatch) Laps() []Lap {
	laps := slices.Clone(s.laps)
	slices.SortStableFunc(laps, func(a, b Lap) int { return int(b.Time - a.Time) })
	return laps
}

// Reset forgets what was timed.
func (s *Stopwatch) Reset() { s.laps = s.laps[:0] }

func (s *Stopwatch) lap(name string, began time.Duration, flop, values int) {
	took := s.Clock() - began
	i := slices.IndexFunc(s.laps, func(l Lap) bool { return l.Name == name })
	if i < 0 {
		i, s.laps = len(s.laps), append(s.laps, Lap{Name: name})
	}
	l := &s.laps[i]
	l.Calls++
	l.Time += took
	l.FLOP += float64(flop)
	l.Bytes += 4 * float64(values)
}

// Zero implements Device.
func (s *Stopwatch) Zero(x Buffer) {
	began := s.Clock()
	s.Device.Zero(x)
	s.lap("zero", began, 0, x.Len())
}

// Copy implements Device.
func (s *Stopwatch) Copy(dst, src Buffer) {
	began := s.Clock()
	s.Device.Copy(dst, src)
	s.lap("copy", began, 0, 2*dst.Len())
}

// Scale implements Device.
func (s *Stopwatch) Scale(x Buffer, by float32) {
	began := s.Clock()
	s.Device.Scale(x, by)
	s.lap("scale", began, 0, 2*x.Len())
}

// Combine implements Device.
func (s *Stopwatch) Combine(dst Buffer, by float32, a Buffer, t float32, b Buffer) {
	began := s.Clock()
	s.Device.Combine(dst, by, a, t, b)
	s.lap("combine", began, 0, 3*dst.Len())
}

// SumSquares implements Device.
func (s *Stopwatch) SumSquares(x Buffer) float64 {
	began := s.Clock()
	sum := s.Device.SumSquares(x)
	s.lap("sum of squares", began, 0, x.Len())
	return sum
}

// MatMul implements Device.
func (s *Stopwatch) MatMul(op MatMul) {
	began := s.Clock()
	s.Device.MatMul(op)
	s.lap("product "+op.Form.String(), began, 2*op.M*op.N*op.K, 0)
}

// BiasGrad implements Device.
func (s *Stopwatch) BiasGrad(op BiasGrad) {
	began := s.Clock()
	s.Device.BiasGrad(op)
	s.lap("bias gradient", began, 0, op.Rows*op.N)
}

// LayerNorm implements Device.
func (s *Stopwatch) LayerNorm(op LayerNorm) {
	began := s.Clock()
	s.Device.LayerNorm(op)
	s.lap("norm", began, 0, 2*op.Rows*op.N)
}

// LayerNormGrad implements Device.
func (s *Stopwatch) LayerNormGrad(op LayerNormGrad) {
	began := s.Clock()
	s.Device.LayerNormGrad(op)
	s.lap("norm gradient", began, 0, 4*op.Rows*op.N)
}

// RMSNorm implements Device.
func (s *Stopwatch) RMSNorm(op RMSNorm) {
	began := s.Clock()
	s.Device.RMSNorm(op)
	s.lap("norm", began, 0, 2*op.Rows*op.N)
}

// RMSNormGrad implements Device.
func (s *Stopwatch) RMSNormGrad(op RMSNormGrad) {
	began := s.Clock()
	s.Device.RMSNormGrad(op)
	s.lap("norm gradient", began, 0, 4*op.Rows*op.N)
}

// GELU implements Device.
func (s *Stopwatch) GELU(y, x Buffer) {
	began := s.Clock()
	s.Device.GELU(y, x)
	s.lap("activation", began, 0, 2*y.Len())
}

// GELUGrad implements Device.
func (s *Stopwatch) GELUGrad(dx, y, dy, x Buffer) {
	began := s.Clock()
	s.Device.GELUGrad(dx, y, dy, x)
	s.lap("activation gradient", began, 0, 4*dx.Len())
}

// SwiGLU implements Device.
func (s *Stopwatch) SwiGLU(op SwiGLU) {
	began := s.Clock()
	s.Device.SwiGLU(op)
	s.lap("activation", began, 0, 3*op.Rows*op.N)
}

// SwiGLUGrad implements Device.
func (s *Stopwatch) SwiGLUGrad(op SwiGLUGrad) {
	began := s.Clock()
	s.Device.SwiGLUGrad(op)
	s.lap("activation gradient", began, 0, 5*op.Rows*op.N)
}

// Rotary implements Device.
func (s *Stopwatch) Rotary(op Rotary) {
	began := s.Clock()
	s.Device.Rotary(op)
	s.lap("rotation", began, 0, 2*op.B*op.T*op.H*op.S)
}

// Attention implements Device.
func (s *Stopwatch) Attention(op Attention) {
	began := s.Clock()
	s.Device.Attention(op)
	s.lap("attention", began, 2*op.B*(op.T-op.From)*op.T*op.C, 0)
}

// AttentionGrad implements Device.
func (s *Stopwatch) AttentionGrad(op AttentionGrad) {
	began := s.Clock()
	s.Device.AttentionGrad(op)
	s.lap("attention gradient", began, 4*op.B*op.T*op.T*op.C, 0)
}

// Embed implements Device.
func (s *Stopwatch) Embed(op Embed) {
	began := s.Clock()
	s.Device.Embed(op)
	s.lap("embedding", began, 0, 2*op.B*op.T*op.C)
}

// EmbedGrad implements Device.
func (s *Stopwatch) EmbedGrad(op EmbedGrad) {
	began := s.Clock()
	s.Device.EmbedGrad(op)
	s.lap("embedding gradient", began, 0, 3*op.B*op.T*op.C)
}

// CrossEntropy implements Device.
func (s *Stopwatch) CrossEntropy(op CrossEntropy) {
	began := s.Clock()
	s.Device.CrossEntropy(op)
	values := op.Rows * op.V
	if op.Grad {
		values *= 2
	}
	s.lap("cross-entropy", began, 0, values)
}

// AdamW implements Device.
func (s *Stopwatch) AdamW(op AdamW) {
	began := s.Clock()
	s.Device.AdamW(op)
	s.lap("AdamW", began, 0, 7*op.Params.Len())
}
