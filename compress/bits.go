package compress

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// bitSlack is how far behind its last bit a bitWriter may write.
const bitSlack = 8

// bitWriter packs bits into bytes, the first in the lowest bit. out must have
// bitSlack bytes more than the bits need.
type bitWriter struct {
	out  []byte
	at   int
	acc  uint64
	held uint // bits in acc, below 8 between calls
}

// put writes the low n bits of v, whose other bits must be 0; n is at most 56.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << w.held
	w.held += n
	binary.LittleEndian.PutUint64(w.out[w.at:], w.acc)
	w.at += int(w.held >> 3)
	w.acc >>= w.held &^ 7
	w.held &= 7
}

// close fills the last byte with zeros and returns the number of bytes.
func (w *bitWriter) close() int { return w.at + int(w.held+7)/8 }

// bitReader is the other way. Reading behind the end gives zeros and sets short.
type bitReader struct {
	in    []byte
	at    int
	acc   uint64
	held  uint // bits of acc that count
	short bool
}

// refill makes at least 56 bits available, fewer only at the end of the input.
func (r *bitReader) refill() {
	if len(r.in)-r.at >= 8 {
		r.acc |= binary.LittleEndian.Uint64(r.in[r.at:]) << r.held
		r.at += int(63-r.held) >> 3
		r.held |= 56
		return
	}
	for r.held < 56 && r.at < len(r.in) {
		r.acc |= uint64(r.in[r.at]) << r.held
		r.at++
		r.held += 8
	}
}

// take reads n bits, at most 32.
func (r *bitReader) take(n uint) uint64 {
	if r.held < n {
		r.refill()
		if r.held < n {
			r.short = true
			r.held, r.acc = 0, 0
			return 0
		}
	}
	v := r.acc & (1<<n - 1)
	r.acc >>= n
	r.held -= n
	return v
}

// zeros reads zero bits up to and with the one bit that ends them and returns
// how many they are.
func (r *bitReader) zeros() int {
	n := 0
	for {
		if r.held == 0 {
			if r.refill(); r.held == 0 {
				r.short = true
				return n
			}
		}
		z := uint(bits.TrailingZeros64(r.acc))
		if z < r.held {
			r.acc >>= z + 1
			r.held -= z + 1
			return n + int(z)
		}
		n += int(r.held)
		r.acc, r.held = 0, 0
	}
}

// err tells whether more was read than there is.
func (r *bitReader) err() error {
	if r.short {
		return fmt.Errorf("%w: it ends too early", ErrFrame)
	}
	return nil
}

// closed says whether all of the input was read but for zeros in its last byte.
func (r *bitReader) closed() bool {
	r.refill()
	return !r.short && r.at == len(r.in) && r.held < 8 && r.acc == 0
}
