package wire

// StageCount returns the number of stages that the model is spread over, 1 when
// every peer holds all of it.
func (s *RunSpec) StageCount() int {
	if len(s.Stages) == 0 {
		return 1
	}
	return int(s.Stages[len(s.Stages)-1]) + 1
}

// Staged reports whether the model is spread over several stages.
func (s *RunSpec) Staged() bool { return len(s.Stages) > 0 }

// StageOf returns the stage of fragment f.
func (s *RunSpec) StageOf(f int) int {
	if len(s.Stages) == 0 {
		return 0
	}
	return int(s.Stages[f])
}

// Holding says which fragments a peer holds that serves a stage, all with AllStages and
// none with NoStage.
func (s *RunSpec) Holding(stage int) []bool {
	held := make([]bool, s.Fragments)
	for f := range held {
		held[f] = stage == AllStages || s.StageOf(f) == stage
	}
	return held
}

// Stages of peers that hold the whole model, or nothing of it.
const (
	AllStages = -1
	NoStage   = -2
)

// validateStages checks that stages are counted without a gap, and what belongs
// to them.
func (s *RunSpec) validateStages(fault faultFunc) {
	if !s.Staged() {
		if s.Activation != "" || s.Micro != 0 || s.Synchronous {
			fault("activations %q, %d windows in a micro-batch, or steps together: only a run with stages has them", clip(s.Activation), s.Micro)
		}
		return
	}
	if uint64(len(s.Stages)) != s.Fragments {
		fault("stages of %d fragments, the run has %d", len(s.Stages), s.Fragments)
		return
	}
	next := uint64(0)
	for f, stage := range s.Stages {
		if stage != next && (f == 0 || stage != next-1) {
			fault("fragment %d is in stage %d: stages are counted from 0 without a gap", f, stage)
			return
		}
		next = stage + 1
	}
	if next < 2 {
		fault("one stage: leave stages out")
	}
	if s.Activation == "" || len(s.Activation) > 32 {
		fault("activations %q: the name of a codec is needed", clip(s.Activation))
	}
	switch {
	case s.Micro < 1 || s.Data.Batch%s.Micro != 0:
		fault("%d windows in a micro-batch: a divisor of the batch of %d is needed", s.Micro, s.Data.Batch)
	case s.H*s.Data.Batch/s.Micro > MaxClaims: // a contribution names each apart at worst
		fault("%d micro-batches between two rounds, at most %d are allowed: choose larger ones, or a smaller H", s.H*s.Data.Batch/s.Micro, MaxClaims)
	}
}
