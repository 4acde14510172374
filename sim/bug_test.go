package sim

import (
	"strings"
	"testing"
)

// known is a seed at which each mistake was found when it was last looked for;
// the search starts there.
func known(b Bug) uint64 {
	return map[Bug]uint64{
		BugLateSum: 2, BugFeedbackAtSend: 2, BugEntriesBare: 3, BugResultNotVerified: 7, BugFeedbackKept: 14, BugStateNotCompared: 14,
		BugAssignedEarly: 20, BugMissNotMerged: 29, BugSlabNotVerified: 33, BugTablesLost: 34, BugAppendUnchecked: 67,
	}[b]
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
					t.Logf("%s: seed %d: %s", bug, sc.Seed, first)
					return
				}
			}
			t.Errorf("%s: not found within %d seeds from %d on", bug, most, known(bug))
		})
	}
}
