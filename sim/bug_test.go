package sim

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestBugs is the test of the test: the referee must find every deliberate
// mistake of the driver within a bounded number of seeds.
func TestBugs(t *testing.T) {
	most := uint64(300)
	if s := os.Getenv("SIM_BUG_SEEDS"); s != "" {
		most, _ = strconv.ParseUint(s, 10, 64)
	}
	for _, bug := range Bugs() {
		t.Run(strings.ReplaceAll(string(bug), " ", "-"), func(t *testing.T) {
			t.Parallel()
			for seed := range most {
				sc := Random(seed)
				sc.Bug = bug
				w, err := New(sc)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.Run(); err != nil {
					first, _, _ := strings.Cut(err.Error(), "\n")
					t.Logf("seed %d: %s", seed, first)
					return
				}
			}
			t.Errorf("not found within %d seeds", most)
		})
	}
}
