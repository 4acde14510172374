package ptxemu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// multiply is a kernel that loads A [16,k] and B [k,8], both row major in 16 bits, into shared memory, from there with
// ldmatrix as the manual shows it, multiplies and stores C [16,8] in float32.
func multiply(kind string, k int) string {
	load := `
	ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%a0, %a1}, [%r5];`
	a, b, loadB := "{%a0, %a1}", "{%b0}", "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%b0}, [%r6];"
	if k == 16 {
		load = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%a0, %a1, %a2, %a3}, [%r5];"
		a, b, loadB = "{%a0, %a1, %a2, %a3}", "{%b0, %b1}", "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%b0, %b1}, [%r6];"
	}
	return kernelOf(".shared .align 16 .b8 s[768];\n.reg .b32 %a<4>, %b<2>; .reg .f32 %c<4>;", fmt.Sprintf(`
	mov.u32 %%r7, 0;
FILL: // 768 bytes, word by word
	mad.lo.u32 %%r1, %%r7, 128, %%r0;
	cvt.u64.u32 %%d1, %%r1;
	add.s64 %%d1, %%d1, %%in;
	ld.global.u32 %%r2, [%%d1];
	st.shared.u32 [%%r1], %%r2;
	add.u32 %%r7, %%r7, 1;
	setp.lt.u32 %%p0, %%r7, 6;
	@%%p0 bra FILL;
	bar.sync 0;
	// Lanes 0-7 name rows 0-7, 8-15 rows 8-15, 16-23 rows 0-7 from column 8 on, 24-31 rows 8-15 from there.
	and.b32 %%r1, %%t, 15;
	shr.u32 %%r2, %%t, 4;
	mul.lo.u32 %%r5, %%r1, %d;
	mad.lo.u32 %%r5, %%r2, 16, %%r5;
	mul.lo.u32 %%r6, %%r1, 16;
	add.u32 %%r6, %%r6, 512;
	%s
	%s
	mov.f32 %%c0, 0f3F800000; mov.f32 %%c1, 0f3F800000; mov.f32 %%c2, 0f3F800000; mov.f32 %%c3, 0f3F800000;
	mma.sync.aligned.m16n8k%d.row.col.f32.%s.%s.f32 {%%c0, %%c1, %%c2, %%c3}, %s, %s, {%%c0, %%c1, %%c2, %%c3};
	// c0 and c1 stand in row lane/4, columns 2·(lane mod 4) and the next, c2 and c3 eight rows below.
	shr.u32 %%r1, %%t, 2;
	and.b32 %%r2, %%t, 3;
	mad.lo.u32 %%r1, %%r1, 8, %%r2;
	add.u32 %%r1, %%r1, %%r2;
	mul.wide.u32 %%d1, %%r1, 4;
	add.s64 %%d1, %%d1, %%out;
	st.global.v2.f32 [%%d1], {%%c0, %%c1};
	st.global.v2.f32 [%%d1+256], {%%c2, %%c3};`, 2*k, load, loadB, k, kind, kind, a, b))
}

func TestMatrixProducts(t *testing.T) {
	const seed = 3
	random := rand.New(rand.NewPCG(seed, 0))
	for _, kind := range []string{"f16", "bf16"} {
		for _, k := range []int{8, 16} {
			for mode := Nearest; mode <= Reversed; mode++ {
				h := halfOf(parseType(kind))
				values := make([]float64, 384) // A, then at 256 B
				words := make([]uint32, 192)
				for i := range values {
					bits := h.encode(random.Float64()*4-2, nearest)
					values[i] = h.decode(bits)
					words[i/2] |= bits << (16 * (i % 2))
				}
				b := newBench(t, Config{Accumulation: mode}, multiply(kind, k))
				in, out := b.buffer(words), b.buffer(make([]uint32, 128))
				if err := b.launch("k", 1, 32, 0, uint64(in), uint64(out)); err != nil {
					t.Fatal(err)
				}
				for i, got := range b.words(out, 128) {
					want, size := 1.0, 1.0
					for d := range k {
						p := values[i/8*k+d] * values[256+d*8+i%8]
						want += p
						size += math.Abs(p)
					}
					if v := float64(math.Float32frombits(got)); math.Abs(v-want) > 1e-6*size {
						t.Errorf("%s k=%d mode %d: C[%d,%d] = %v, want %v", kind, k, mode, i/8, i%8, v, want)
					}
				}
				c := b.Counters()[0]
				if c.MMA != 1 || c.MMAFlops != uint64(2*16*8*k) {
					t.Errorf("counters %+v", c)
				}
				// A row of A with k = 8 is 16 bytes, so eight rows meet all banks once; with k = 16 every second row meets the same.
				if want := uint64(6 + k/8*2 + k/8); c.IdealWavefronts != want {
					t.Errorf("k=%d: %d wavefronts without conflicts, want %d", k, c.IdealWavefronts, want)
				}
				if want := uint64(6 + k/8*2*(k/8) + k/8); c.Wavefronts != want {
					t.Errorf("k=%d: %d wavefronts, want %d", k, c.Wavefronts, want)
				}
			}
		}
	}
}

// TestFragmentsOfTF32 spells out which lane holds what, from the figures of the manual.
func TestFragmentsOfTF32(t *testing.T) {
	b := newBench(t, Config{}, kernelOf(".reg .f32 %a<4>, %b<2>, %c<4>;", `
	// A[r,c] = 1 for r = c, else 0: C is B in its upper 8 rows. Lane 4g+q holds A[g,q], A[g+8,q], A[g,q+4], A[g+8,q+4], B[q,g], B[q+4,g].
	mov.f32 %a0, 0f00000000; mov.f32 %a1, 0f00000000; mov.f32 %a2, 0f00000000; mov.f32 %a3, 0f00000000;
	shr.u32 %r1, %t, 2;
	and.b32 %r2, %t, 3;
	setp.eq.u32 %p0, %r1, %r2;
	@%p0 mov.f32 %a0, 0f3F800000;
	add.u32 %r3, %r2, 4;
	setp.eq.u32 %p0, %r1, %r3;
	@%p0 mov.f32 %a2, 0f3F800000;
	mad.lo.u32 %r4, %r2, 8, %r1;
	cvt.rn.f32.u32 %b0, %r4;
	add.u32 %r4, %r4, 32;
	cvt.rn.f32.u32 %b1, %r4;
	mov.f32 %c0, 0f00000000;
	mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%c0, %c1, %c2, %c3}, {%a0, %a1, %a2, %a3}, {%b0, %b1}, {%c0, %c0, %c0, %c0};
	mul.wide.u32 %d1, %t, 16;
	add.s64 %d1, %d1, %out;
	st.global.v4.f32 [%d1], {%c0, %c1, %c2, %c3};`))
	out := b.buffer(make([]uint32, 128))
	if err := b.launch("k", 1, 32, 0, uint64(out), uint64(out)); err != nil {
		t.Fatal(err)
	}
	got := b.words(out, 128)
	for lane := range 32 {
		for n := range 4 {
			want := float32(lane/4*8 + lane%4*2 + n) // of B [8,8] = 0, 1, 2, …
			if n > 1 {
				want = 0
			}
			if v := math.Float32frombits(got[4*lane+n]); v != want {
				t.Errorf("lane %d, value %d: got %v, want %v", lane, n, v, want)
			}
		}
	}
}

func TestAccumulations(t *testing.T) {
	one := []float64{1, 1, 1, 1}
	cases := []struct {
		mode Accumulation
		b    []float64
		c    float64
		want float32
	}{
		{Nearest, []float64{1, 1, 1, 0}, 1 << 24, 1<<24 + 4},    // 3 is a tie, the even neighbour is above
		{Truncating, []float64{1, 1, 1, 0}, 1 << 24, 1 << 24},   // each addend is cut to a multiple of 2
		{Truncating, []float64{3, 0, 0, 0}, 1 << 24, 1<<24 + 2}, // 3 is cut to 2
		{Reversed, []float64{1, 1, 1, 0}, 1 << 24, 1 << 24},     // each 1 is a tie, the even neighbour is below
		{Reversed, []float64{1, 0, 0, 2}, 1 << 24, 1<<24 + 4},   // first 2, then a tie with the even neighbour above
		{Truncating, []float64{-1, 0, 0, 0}, 1 << 24, 1 << 24},  // towards zero
		{Nearest, []float64{-1, 0, 0, 0}, 1 << 24, 1<<24 - 1},   //
		{Truncating, []float64{math.Inf(1), 0, 0, 0}, 1, float32(math.Inf(1))},
	}
	for _, c := range cases {
		var columns [16][8]float64
		for k, v := range c.b {
			columns[k][5] = v
		}
		row := [8]float64{5: c.c}
		c.mode.add(&row, one, &columns)
		if got := float32(row[5]); got != c.want {
			t.Errorf("mode %d: %v + %v = %v, want %v", c.mode, c.c, c.b, got, c.want)
		}
	}
}

// TestApproximationsErrWithinTheirBounds measures the error of each approximate instruction against float64.
func TestApproximationsErrWithinTheirBounds(t *testing.T) {
	cases := []struct {
		op       string
		f        func(float64) float64
		from, to float64
		bound    float64 // as the manual states it
		absolute bool
	}{
		{"rcp.approx.f32", func(x float64) float64 { return 1 / x }, 0.5, 4, 0x1p-23, false},
		{"rsqrt.approx.f32", func(x float64) float64 { return 1 / math.Sqrt(x) }, 0.5, 4, math.Exp2(-22.9), false},
		{"sqrt.approx.f32", math.Sqrt, 0.5, 4, 0x1p-23, false},
		{"ex2.approx.f32", math.Exp2, -10, 10, math.Exp2(-22.5), false},
		{"lg2.approx.f32", math.Log2, 0.51, 1.99, math.Exp2(-22.6), true},
		{"sin.approx.f32", math.Sin, -3, 3, math.Exp2(-20.9), true},
		{"cos.approx.f32", math.Cos, -3, 3, math.Exp2(-20.9), true},
		{"tanh.approx.f32", math.Tanh, -4, 4, 0x1p-11, false},
	}
	const seed = 5
	random := rand.New(rand.NewPCG(seed, 0))
	for _, c := range cases {
		var rows []row
		for range 200 {
			rows = append(rows, row{code: c.op + " %r9, %r0;", in: in(f32(c.from + random.Float64()*(c.to-c.from)))})
		}
		measure := func(config Config) (worst float64) {
			for i, bits := range evaluate(t, config, rows) {
				x := float64(math.Float32frombits(uint32(rows[i].in[0])))
				e := math.Abs(float64(math.Float32frombits(uint32(bits))) - c.f(x))
				if !c.absolute {
					e /= math.Abs(c.f(x))
				}
				worst = max(worst, e)
			}
			return worst
		}
		exact, mean := measure(Config{}), measure(Config{Seed: 9, ApproximationError: 1})
		if mean > c.bound*1.0001 || mean < c.bound/4 {
			t.Errorf("%s errs by up to %g, its bound is %g", c.op, mean, c.bound)
		}
		if exact > 0x1.1p-24 && !strings.Contains(c.op, "lg2") {
			t.Errorf("%s without errors is off by %g", c.op, exact)
		}
	}
}
