package compress

import "fmt"

// Hadamard4 is Int4 of values that are turned first: each tile of 64 values (the last is
// filled up with zeros) is multiplied by the orthonormal Hadamard matrix, which spreads a
// value far outside of the others over the whole tile, so that it does not set the scale
// for all (QuaRot, Ashkboos et al., arXiv 2404.00456). It is meant for activations and
// their gradients. 4.25 bits a value.
//
// The frame is that of Int4 over whole tiles. Values above 2^112 may be refused.
type Hadamard4 struct{}

// hadamardTile is a group of Int4, and a power of four: the matrix's factor, ⅛, is exact.
const hadamardTile = int4Group

// Name returns "had4".
func (Hadamard4) Name() string { return "had4" }

// EncodedSlabBytes returns 12 + 34 bytes a tile.
func (Hadamard4) EncodedSlabBytes(values int) int {
	return headerBytes + ceilDiv(values, hadamardTile)*(2+hadamardTile/2)
}

// Encode implements Codec.
func (c Hadamard4) Encode(dst []byte, src []float32) ([]byte, error) {
	return c.encode(fastest(), dst, src)
}

func (c Hadamard4) encode(p path, dst []byte, src []float32) ([]byte, error) {
	return encodeGroups(p, c, idHadamard4, hadamardTile, encodeHadamard4, dst, src)
}

// encodeHadamard4 writes one tile and says whether all values are finite.
func encodeHadamard4(p path, out []byte, src []float32) bool {
	var tile [hadamardTile]float32
	copy(tile[:], src)
	turn(&tile)
	return encodeInt4(p, out, tile[:])
}

// Decode implements Codec.
func (c Hadamard4) Decode(dst []float32, frame []byte) error {
	return c.decode(fastest(), dst, frame)
}

func (c Hadamard4) decode(p path, dst []float32, frame []byte) error {
	in, err := fixedBody(frame, idHadamard4, len(dst), c.EncodedSlabBytes(len(dst)))
	table := int4Levels()
	for err == nil && len(dst) > 0 {
		var tile [hadamardTile]float32
		err = decodeNibbles(p, tile[:], in, int4Group, maxInt4Scale, &table)
		turn(&tile)
		n := copy(dst, tile[:])
		for _, x := range dst[:n] {
			if x-x != 0 {
				err = fmt.Errorf("%w: a value is not finite", ErrFrame)
				break
			}
		}
		dst, in = dst[n:], in[2+hadamardTile/2:]
	}
	if err != nil {
		return fmt.Errorf("decode had4: %w", err)
	}
	return nil
}

// turn multiplies a tile by the orthonormal Hadamard matrix, which is its own inverse.
func turn(tile *[hadamardTile]float32) {
	for i := range tile {
		tile[i] *= 0.125
	}
	for width := 1; width < hadamardTile; width *= 2 {
		for i := 0; i < hadamardTile; i += 2 * width {
			for j := i; j < i+width; j++ {
				a, b := tile[j], tile[j+width]
				tile[j], tile[j+width] = a+b, a-b
			}
		}
	}
}
