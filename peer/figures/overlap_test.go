package figures

import "testing"

// TestOverlapIsTheMedianOfTheNewestMerges: merges without a snapshot of their own do not count.
func TestOverlapIsTheMedianOfTheNewestMerges(t *testing.T) {
	var l Life
	if l.Tau() != 0 {
		t.Errorf("τ of no merge is %d", l.Tau())
	}
	for _, steps := range []uint64{0, 3, 0, 9, 4} {
		l.Overlapped(steps)
	}
	if l.Tau() != 4 {
		t.Errorf("τ is %d, want 4", l.Tau())
	}
	for range recentMerges {
		l.Overlapped(2)
	}
	if l.Tau() != 2 || len(l.overlap) != recentMerges {
		t.Errorf("τ is %d over %d merges", l.Tau(), len(l.overlap))
	}
}
