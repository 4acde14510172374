package recipe

import (
	"fmt"

	"dunlin/wire"
)

// DescribeStage is Describe for a peer that serves a stage.
func DescribeStage(spec *wire.RunSpec, stage int) string {
	if !spec.Staged() {
		return Describe(spec)
	}
	return fmt.Sprintf("stage %d of %d, %.2f M parameters, of %s", stage+1, spec.StageCount(), float64(StageSize(spec, stage))/1e6, Describe(spec))
}

// StageSize counts the parameters of a stage.
func StageSize(spec *wire.RunSpec, stage int) uint64 {
	var values uint64
	for i := range spec.Tensors {
		if spec.StageOf(int(spec.Tensors[i].Fragment)) == stage {
			values += uint64(spec.Tensors[i].Size())
		}
	}
	return values
}

// Describe tells people what a run trains.
func Describe(spec *wire.RunSpec) string {
	m, subspace := spec.Model, ""
	if m.Subspace > 0 {
		subspace = fmt.Sprintf(" with a subspace of %d", m.Subspace)
	}
	return fmt.Sprintf("%s with %d layers, %d wide%s, %.2f M parameters", m.Family, m.Layers, m.Width, subspace, float64(spec.Parameters())/1e6)
}
