package peer

import "testing"

// TestOverlapIsTheMedianOfTheNewestMerges: merges without a snapshot of their own do not count.
func TestOverlapIsTheMedianOfTheNewestMerges(t *testing.T) {
	var l life
	if l.tau() != 0 {
		t.Errorf("τ of no merge is %d", l.tau())
	}
	for _, steps := range []uint64{0, 3, 0, 9, 4} {
		l.overlapped(steps)
	}
	if l.tau() != 4 {
		t.Errorf("τ is %d, want 4", l.tau())
	}
	for range recentMerges {
		l.overlapped(2)
	}
	if l.tau() != 2 || len(l.overlap) != recentMerges {
		t.Errorf("τ is %d over %d merges", l.tau(), len(l.overlap))
	}
}
