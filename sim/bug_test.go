package sim

import (
	"strings"
	"testing"
)

// known is a seed at which each mistake was found when it was last looked for;
// the search starts there.
func known(b Bug) uint64 {
	return map[Bug]uint64{}[b]
}

// TestBugs is the test of the test: the referee must find every deliberate
// mistake of the driver within a bounded number of seeds.
func TestBugs(t *testing.T) {
	_, most := seeds(t, 400)
	for _, bug := range Bugs() {
		t.Run(strings.ReplaceAll(string(bug), " ", "-"), func(t *testing.T) {
			t.Parallel()
			for i := range most {
				sc := Random(known(bug) + i)
				sc.Bug = bug
				if err := play(sc); err != nil {
					first, _, _ := strings.Cut(err.Error(), "\n")
					t.Logf("seed %d: %s", sc.Seed, first)
					return
				}
			}
			t.Errorf("%s: not found within %d seeds from %d on", bug, most, known(bug))
		})
	}
}
