package checkpoint

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/x448/float16"
)

// Number is how a file writes a value; in memory all are float32.
type Number string

// The numbers that are read and written, by their names in safetensors.
const (
	Float32  Number = "F32"
	Float16  Number = "F16"  // IEEE 754 half precision
	BFloat16 Number = "BF16" // the upper half of a float32
)

// ParseNumber returns the number called fp32, fp16 or bf16.
func ParseNumber(word string) (Number, error) {
	for _, n := range []Number{Float32, Float16, BFloat16} {
		if word == n.Word() {
			return n, nil
		}
	}
	return "", fmt.Errorf("number format %.20q: fp32, fp16 and bf16 are supported", word)
}

// Word is the name on the command line: fp32, fp16 or bf16.
func (n Number) Word() string {
	switch n {
	case Float16:
		return "fp16"
	case BFloat16:
		return "bf16"
	case Float32:
		return "fp32"
	}
	return strings.ToLower(string(n))
}

// size returns the bytes of a value, 0 for a type whose values are not read.
func (n Number) size() int64 {
	switch n {
	case Float32:
		return 4
	case Float16, BFloat16:
		return 2
	}
	return 0
}

// put writes values rounded to the nearest number, ties to even, and returns the
// bytes. A finite value that rounds to infinity is an error.
func (n Number) put(dst []byte, values []float32) ([]byte, error) {
	for _, v := range values {
		switch bits := math.Float32bits(v); n {
		case Float16:
			half := float16.Fromfloat32(v)
			if half.IsInf(0) && !math.IsInf(float64(v), 0) {
				return dst, fmt.Errorf("value %v is beyond fp16, whose largest is 65504: choose bf16 or fp32", v)
			}
			dst = binary.LittleEndian.AppendUint16(dst, half.Bits())
		case BFloat16:
			half := uint16((bits + 0x7fff + bits>>16&1) >> 16)
			if v != v {
				half = uint16(bits>>16) | 0x40 // rounding must not turn a NaN into infinity
			}
			if half&0x7fff == 0x7f80 && !math.IsInf(float64(v), 0) {
				return dst, fmt.Errorf("value %v is beyond bf16: choose fp32", v)
			}
			dst = binary.LittleEndian.AppendUint16(dst, half)
		case Float32:
			dst = binary.LittleEndian.AppendUint32(dst, bits)
		}
	}
	return dst, nil
}

// get reads values, exactly.
func (n Number) get(values []float32, src []byte) {
	for i := range values {
		switch n {
		case Float16:
			values[i] = float16.Frombits(binary.LittleEndian.Uint16(src[2*i:])).Float32()
		case BFloat16:
			values[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		case Float32:
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	}
}

const chunkValues = 16 << 10 // converted at a time

func (n Number) write(w io.Writer, values []float32) error {
	chunk := make([]byte, 0, min(len(values), chunkValues)*int(n.size()))
	for len(values) > 0 {
		k := min(len(values), chunkValues)
		b, err := n.put(chunk[:0], values[:k])
		if err != nil {
			return err
		}
		if err := writeAll(w, b); err != nil {
			return err
		}
		values = values[k:]
	}
	return nil
}

func (n Number) read(r io.Reader, values []float32) error {
	chunk := make([]byte, min(len(values), chunkValues)*int(n.size()))
	for len(values) > 0 {
		k := min(len(values), chunkValues)
		b := chunk[:k*int(n.size())]
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		n.get(values[:k], b)
		values = values[k:]
	}
	return nil
}
