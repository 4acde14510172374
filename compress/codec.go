package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Codec turns the values of a slab into one frame and back. A Codec keeps no
// state and is safe for concurrent use.
type Codec interface {
	// Name is the codec's name in a RunSpec, for example "int8".
	Name() string

	// EncodedSlabBytes bounds the size of a frame of the given number of values
	// (1 to MaxSlabValues): no frame is larger, and for a codec of a fixed rate
	// none is smaller.
	EncodedSlabBytes(values int) int

	// Encode appends the frame of src (1 to MaxSlabValues values) to dst and
	// returns the longer slice. It refuses values that are not finite with
	// ErrNotFinite. It allocates nothing when dst has room.
	Encode(dst []byte, src []float32) ([]byte, error)

	// Decode fills dst from a frame that must hold exactly len(dst) values. Any
	// other frame, and one that gives a value that is not finite, is refused with
	// ErrFrame; dst is then undefined. It allocates nothing.
	Decode(dst []float32, frame []byte) error
}

var (
	// ErrNotFinite says that a value to encode is infinite or not a number.
	ErrNotFinite = errors.New("value is not finite")
	// ErrFrame is wrapped by every error about a frame that cannot be decoded.
	ErrFrame = errors.New("bad frame")
)

// A frame begins with 12 bytes: the magic "dnlf", the format's version, the
// codec's id, the codec's parameter (uint16; 0 for codecs without one), and the
// number of values (uint32), little-endian.
const (
	frameMagic   = "dnlf"
	frameVersion = 1
	headerBytes  = 12

	idFP32    = 1
	idInt8    = 2
	idInt4    = 3
	idE3M0    = 4
	idTernary = 5
	idTopK2   = 6
	idDCT     = 7
	idRank    = 8

	idHadamard4 = 9
)

// Names lists one codec of each kind that ByName knows, with the share or rank that it is
// mostly used with.
func Names() []string {
	return []string{"fp32", "int8", "int4", "e3m0", "ternary-20", "topk2-1.56", "dct-1.56", "rank-8", "had4"}
}

// ByName returns the codec of that name. In "ternary-P", "topk2-P" and "dct-P" P is the
// share of each block that is kept, in percent with at most two decimals, 0.1 to 50; in
// "rank-R" R is a number from 1 to MaxRank.
func ByName(name string) (Codec, error) {
	switch name {
	case "fp32":
		return FP32{}, nil
	case "int8":
		return Int8{}, nil
	case "int4":
		return Int4{}, nil
	case "e3m0":
		return E3M0{}, nil
	case "had4":
		return Hadamard4{}, nil
	}
	kind, number, _ := strings.Cut(name, "-")
	makers := map[string]func(share int) (Sparse, error){"ternary": NewTernary, "topk2": NewTopK2, "dct": NewDCT}
	if maker := makers[kind]; maker != nil {
		share, err := parseShare(number)
		if err != nil {
			return nil, fmt.Errorf("codec %q: %w", name, err)
		}
		return maker(share)
	}
	if kind == "rank" {
		rank, err := strconv.Atoi(number)
		if err != nil || strconv.Itoa(rank) != number {
			return nil, fmt.Errorf("codec %q: give the rank as a number from 1 to %d", name, MaxRank)
		}
		return NewRank(rank)
	}
	return nil, fmt.Errorf("unknown codec %q: choose fp32, int8, int4, e3m0, had4, ternary-P, topk2-P or dct-P with P percent of the values, or rank-R", name)
}

// EncodedBlockBytes returns what one block adds to a frame of the codec, the
// figure that NewLayout asks for.
func EncodedBlockBytes(c Codec) int {
	return c.EncodedSlabBytes(2*BlockValues) - c.EncodedSlabBytes(BlockValues)
}

// appendHeader appends the header of a frame after checking the count.
func appendHeader(dst []byte, id byte, parameter uint16, values int) ([]byte, error) {
	if values < 1 || values > MaxSlabValues {
		return dst, fmt.Errorf("encode %d values: a frame holds 1 to %d", values, MaxSlabValues)
	}
	dst = append(dst, frameMagic...)
	dst = append(dst, frameVersion, id)
	dst = binary.LittleEndian.AppendUint16(dst, parameter)
	return binary.LittleEndian.AppendUint32(dst, uint32(values)), nil
}

// body checks the header of a frame and returns what follows.
func body(frame []byte, id byte, parameter uint16, values int) ([]byte, error) {
	if len(frame) < headerBytes {
		return nil, fmt.Errorf("%w: %d bytes are less than a header", ErrFrame, len(frame))
	}
	head := frame[:headerBytes]
	switch {
	case !bytes.HasPrefix(head, []byte(frameMagic)):
		return nil, fmt.Errorf("%w: no frame magic", ErrFrame)
	case head[4] != frameVersion:
		return nil, fmt.Errorf("%w: version %d, this build reads %d", ErrFrame, head[4], frameVersion)
	case head[5] != id:
		return nil, fmt.Errorf("%w: codec id %d, want %d", ErrFrame, head[5], id)
	}
	if p := binary.LittleEndian.Uint16(head[6:]); p != parameter {
		return nil, fmt.Errorf("%w: codec parameter %d, want %d", ErrFrame, p, parameter)
	}
	if n := binary.LittleEndian.Uint32(head[8:]); uint64(n) != uint64(values) || values < 1 {
		return nil, fmt.Errorf("%w: %d values, want %d", ErrFrame, n, values)
	}
	return frame[headerBytes:], nil
}

// fixedBody is body for a codec of a fixed rate, whose frames have wantBytes.
func fixedBody(frame []byte, id byte, values, wantBytes int) ([]byte, error) {
	in, err := body(frame, id, 0, values)
	if err == nil && len(frame) != wantBytes {
		err = fmt.Errorf("%w: %d bytes for %d values, want %d", ErrFrame, len(frame), values, wantBytes)
	}
	return in, err
}

// encodeGroups is encode of a codec whose frames are groups of values (the last may be
// shorter), each written by group, which says whether its values are finite.
func encodeGroups(p path, c Codec, id byte, values int, group func(p path, out []byte, src []float32) bool, dst []byte, src []float32) ([]byte, error) {
	start := len(dst)
	dst, err := appendHeader(dst, id, 0, len(src))
	if err != nil {
		return dst, err
	}
	at := len(dst)
	dst = grow(dst, c.EncodedSlabBytes(len(src))-headerBytes)
	out := dst[at:]
	for len(src) > 0 {
		n := min(values, len(src))
		size := c.EncodedSlabBytes(n) - headerBytes
		if !group(p, out[:size], src[:n]) {
			return dst[:start], fmt.Errorf("encode %s: %w", c.Name(), ErrNotFinite)
		}
		src, out = src[n:], out[size:]
	}
	return dst, nil
}

// grow makes room for n more bytes and returns dst longer by n, contents undefined.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) < n {
		dst = append(make([]byte, 0, len(dst)+n), dst...)
	}
	return dst[:len(dst)+n]
}
