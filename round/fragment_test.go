package round

import (
	"slices"
	"testing"
)

func TestOwnSteps(t *testing.T) {
	for _, c := range []struct{ h, pace, own, want uint64 }{
		{24, 0, 100, 24}, {24, 100, 0, 24}, {24, 100, 100, 24}, {24, 100, 50, 24}, {24, 100, 200, 12}, {24, 100, 144, 17}, {24, 1, 1 << 40, 1},
	} {
		if got := OwnSteps(c.h, c.pace, c.own); got != c.want {
			t.Errorf("h %d, pace %d, own %d: %d steps, want %d", c.h, c.pace, c.own, got, c.want)
		}
	}
}

func TestFirstSnapshotsAreSpread(t *testing.T) {
	if a, b, c := FirstDue(24, 0, 3), FirstDue(24, 1, 3), FirstDue(24, 2, 3); a != 8 || b != 16 || c != 24 {
		t.Fatal(a, b, c)
	}
	if FirstDue(1, 0, 3) != 1 {
		t.Fatal("a snapshot before the first step")
	}
}

func TestPartition(t *testing.T) {
	nano := []Tensor{{-1, 32}, {-1, 16}}
	for l := range 5 {
		nano = append(nano, Tensor{l, 150}, Tensor{l, 48})
	}
	nano = append(nano, Tensor{-1, 1})
	for _, c := range []struct {
		name    string
		tensors []Tensor
		n       int
		want    []int // nil: refused
	}{
		{"one takes all", nano, 1, []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"two are strided, the rest joins the smaller", nano, 2, []int{1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1}},
		{"three keep the embeddings apart", nano, 3, []int{2, 2, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 2}},
		{"a large layer goes to the smaller fragment", []Tensor{{0, 5}, {1, 1}, {2, 9}, {3, 1}}, 2, []int{0, 1, 1, 0}},
		{"more fragments than layers", nano, 7, nil},
		{"no embeddings to keep apart", nano[2:6], 3, nil},
		{"none", nano, 0, nil},
		{"too many", nano, 65, nil},
	} {
		got, err := Partition(c.tensors, c.n)
		if (err != nil) != (c.want == nil) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}
