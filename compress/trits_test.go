package compress

import (
	"errors"
	"math"
	"testing"
)

// TestTrits checks each code: no code begins another, lengths come near the entropy, and
// the table gives each symbol back.
func TestTrits(t *testing.T) {
	for share := denseShare; share <= MaxShare; share += 500 {
		c := newTrits(share)
		p := float64(share) / shareUnit
		kraft, mean := 0.0, 0.0
		for s, code := range c.codes {
			n := notZero(s)
			kraft += math.Ldexp(1, -int(code.length))
			mean += math.Pow(p/2, float64(n)) * math.Pow(1-p, float64(tritRun-n)) * float64(code.length)
			for rest := range 1 << (tritBits - code.length) {
				entry := c.table[int(code.bits)|rest<<code.length]
				if int(entry>>(2*tritRun)) != int(code.length) {
					t.Fatalf("share %d: the code of symbol %d begins another", share, s)
				}
				symbol := 0
				for i := tritRun - 1; i >= 0; i-- {
					symbol = 3*symbol + int(entry>>(2*i)&3)
				}
				if symbol != s {
					t.Fatalf("share %d: symbol %d comes back as %d", share, s, symbol)
				}
			}
		}
		entropy := -p*math.Log2(p) - (1-p)*math.Log2(1-p) + p
		if kraft > 1 || kraft < 0.99 || mean/tritRun > 1.008*entropy || mean/tritRun < entropy*0.999 {
			t.Errorf("share %d: Kraft sum %g, %g bits a value, entropy %g", share, kraft, mean/tritRun, entropy)
		}
	}
}

func TestTritsRefuse(t *testing.T) {
	c := mustSparse(NewTernary(3500))
	const n = 7
	frame := func(head uint64, symbols ...int) []byte {
		b, err := appendHeader(nil, c.id(), uint16(c.share), n)
		if err != nil {
			t.Fatal(err)
		}
		w := bitWriter{out: make([]byte, 100)}
		w.put(head, 16)
		for _, s := range symbols {
			w.put(uint64(c.trits.codes[s].bits), uint(c.trits.codes[s].length))
		}
		return append(b, w.out[:w.close()]...)
	}
	dst := make([]float32, n)
	if err := c.Decode(dst, frame(0x3f80, 2, 3)); err != nil || dst[0] != -1 || dst[6] != 1 || dst[5] != 0 {
		t.Errorf("a sound frame: %v, values %v", err, dst)
	}
	for name, b := range map[string][]byte{
		"behind the end":     frame(0x3f80, 2, 9),
		"only zeros":         frame(0x3f80, 0, 0),
		"infinite magnitude": frame(0x7f80, 1, 1),
		"negative magnitude": frame(0xbf80, 1, 1),
		"ends early":         frame(0x3f80, 242, 242)[:headerBytes+3],
		"far too long":       append(frame(0x3f80, 2, 3), make([]byte, 100)...),
	} {
		if err := c.Decode(dst, b); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
