package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func TestOrderIsABijectionInEveryEpoch(t *testing.T) {
	sizes := []int{1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 255, 256, 257, 1000, 4095, 4097, 65537}
	for _, n := range sizes {
		for epoch := range uint64(3) {
			o := Order{Seed: 42, N: n}
			seen := make([]bool, n)
			for i := range n {
				w := o.At(epoch*uint64(n) + uint64(i))
				if w < 0 || w >= n || seen[w] {
					t.Fatalf("n %d, epoch %d: window %d at %d again or outside", n, epoch, w, i)
				}
				seen[w] = true
			}
		}
	}
}

func TestOrderDiffersByEpochAndSeed(t *testing.T) {
	const n = 1000
	same := func(a, b Order, shift uint64) (count int) {
		for i := range uint64(n) {
			if a.At(i) == b.At(i+shift) {
				count++
			}
		}
		return count
	}
	o := Order{Seed: 1, N: n}
	// A random pair of permutations agrees in one place on average.
	if c := same(o, o, n); c > 10 {
		t.Errorf("two epochs agree in %d of %d places", c, n)
	}
	if c := same(o, Order{Seed: 2, N: n}, 0); c > 10 {
		t.Errorf("two seeds agree in %d of %d places", c, n)
	}
	identity := 0
	for i := range uint64(n) {
		if o.At(i) == int(i) {
			identity++
		}
	}
	if identity > 10 {
		t.Errorf("%d of %d windows stay in place", identity, n)
	}
}

// Neighbours in the order must be far apart in the text, as random draws are.
func TestOrderSpreadsNeighbours(t *testing.T) {
	const n = 10_000
	o := Order{Seed: 3, N: n}
	var sum float64
	for i := range uint64(n - 1) {
		d := o.At(i) - o.At(i+1)
		sum += float64(max(d, -d))
	}
	if mean := sum / (n - 1) / n; mean < 0.32 || mean > 0.347 { // uniform draws: 1/3
		t.Fatalf("neighbours are %.4f of the text apart, want about 0.333", mean)
	}
}

// The order is part of what the peers of a run agree on.
func TestOrderGolden(t *testing.T) {
	d := sha256.New()
	for _, o := range []Order{{Seed: 0, N: 1}, {Seed: 1, N: 1000}, {Seed: 1<<64 - 1, N: 179_824}} {
		for i := range uint64(3000) {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], uint64(o.At(i*7)))
			d.Write(b[:])
		}
	}
	const want = "7c5e364baf24147270cb4cedc1385ebf721dadb111eca0b6a71fae5dfb0dee47"
	if got := hex.EncodeToString(d.Sum(nil)); got != want {
		t.Fatalf("the order has changed: %s", got)
	}
}

// Whatever the number of readers, and whichever of them is slow, the windows
// read in one epoch are the same multiset.
func TestWindowsReadDoNotDependOnTheNumberOfReaders(t *testing.T) {
	const n, lease, seed = 997, 16, 5
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, readers := range []int{1, 3, 8} {
		o := Order{Seed: 9, N: n}
		counts := make([]int, n)
		type span struct{ from, to uint64 }
		leases := make([]span, readers)
		next := uint64(0)
		for done := 0; done < n; {
			r := &leases[rng.IntN(readers)]
			if r.from == r.to {
				*r = span{next, min(next+lease, n)}
				next = r.to
			}
			if r.from < r.to {
				counts[o.At(r.from)]++
				r.from++
				done++
			}
		}
		for w, c := range counts {
			if c != 1 {
				t.Fatalf("%d readers: window %d read %d times", readers, w, c)
			}
		}
	}
}

func TestOrderValidate(t *testing.T) {
	if err := (Order{N: 0}).Validate(); err == nil {
		t.Fatal("an order over nothing is valid")
	}
	if err := (Order{N: 1}).Validate(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOrderAt(b *testing.B) {
	o := Order{Seed: 1, N: 179_824}
	for i := uint64(0); b.Loop(); i++ {
		o.At(i)
	}
}
