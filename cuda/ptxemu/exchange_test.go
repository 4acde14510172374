package ptxemu

import (
	"fmt"
	"testing"
)

// TestShuffles compares what each lane gets with the words of the CUDA C++ Programming Guide (warp shuffle functions) for
// groups of a width, and whether the lane that it reads lies in its group.
func TestShuffles(t *testing.T) {
	in := make([]uint32, 64)
	for i := range in {
		in[i] = uint32(100 + i*i)
	}
	for _, width := range []int{32, 16, 8} {
		for _, by := range []int{0, 1, 3, 7, 16, 31} {
			for _, mode := range []string{"up", "down", "bfly", "idx"} {
				segment, last := (32-width)<<8, 31
				if mode == "up" {
					last = 0
				}
				b := newBench(t, Config{}, kernelOf("", fmt.Sprintf(`
	add.s64 %%d1, %%in, %%d0;
	add.s64 %%d2, %%out, %%d0;
	ld.global.u32 %%r1, [%%d1];
	shfl.sync.%s.b32 %%r2|%%p1, %%r1, %d, %d, -1;
	selp.u32 %%r3, 1, 0, %%p1;
	st.global.u32 [%%d2], %%r2;
	st.global.u32 [%%d2+128], %%r3;`, mode, by, segment|last)))
				from, to := b.buffer(in), b.buffer(make([]uint32, 64))
				if err := b.launch("k", 1, 32, 0, uint64(from), uint64(to)); err != nil {
					t.Fatal(err)
				}
				got := b.words(to, 64)
				for lane := range 32 {
					group := lane / width * width
					source := map[string]int{"up": lane - by, "down": lane + by, "bfly": lane ^ by, "idx": group + by%width}[mode]
					inside := uint32(1)
					switch {
					case mode == "bfly" && source < group: // an earlier group may be read
					case source < group || source >= group+width:
						source, inside = lane, 0
					}
					if got[lane] != in[source] || got[32+lane] != inside {
						t.Fatalf("%s by %d in groups of %d: lane %d gets %d (inside %d), want lane %d's %d (inside %d)",
							mode, by, width, lane, got[lane], got[32+lane], source, in[source], inside)
					}
				}
			}
		}
	}
}
