package peer

import (
	"slices"
	"testing"

	"dunlin/peer/core"
	"dunlin/peer/keeper"
	"dunlin/recipe"
	"dunlin/recipe/recipetest"
	"dunlin/replica"
	"dunlin/wire"
)

// TestLastStateIsHashedByTheKeeper: once the run has ended, what is told of the state is what the keeper has computed from memory,
// and nothing while it computes. The loop itself hashes no weights: it would not see to anything else meanwhile.
func TestLastStateIsHashedByTheKeeper(t *testing.T) {
	spec, _ := recipetest.Spec(t, func(*recipe.Run) {})
	r, err := replica.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	p := &Peer{crew: crew{replica: r}}
	_, weights := r.Weights(0)
	weights[0]++
	if got := p.stateHeads(); !slices.Equal(got, r.Heads()) {
		t.Errorf("while the run goes on: %v, the commits named %v", got, r.Heads())
	}
	p.settingsIn.Phase = wire.PhaseEnded
	if got := p.stateHeads(); got != nil {
		t.Errorf("before the keeper has hashed the last state: %v", got)
	}
	wrong := r.Recompute()
	p.handle(t.Context(), keeper.Hashed{Heads: wrong})
	weights[0]++
	if got := p.stateHeads(); !slices.Equal(got, wrong) {
		t.Errorf("%v, the keeper computed %v", got, wrong)
	}
	if told, ok := p.pending[0].(core.StateHashed); !ok || !slices.Equal(told.Heads, wrong) {
		t.Errorf("the core was told %v", p.pending)
	}
	p.hashed = slices.Clone(wrong)
	p.hashed[1].Version++ // of another state than the replica's
	if got := p.stateHeads(); got != nil {
		t.Errorf("of another state: %v", got)
	}
}
