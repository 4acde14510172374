package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Codec turns the values of a slab into one frame and back. A Codec keeps no
// state and is safe for concurrent use.
type Codec interface {
	// Name is the codec's name in a RunSpec, for example "int8".
	Name() string

	// EncodedSlabBytes returns the size of a frame of the given number of values
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
// codec's id, two zero bytes, and the number of values (uint32, little-endian).
const (
	frameMagic   = "dnlf"
	frameVersion = 1
	headerBytes  = 12

	idFP32 = 1
	idInt8 = 2
)

// Names lists the codecs that ByName knows.
func Names() []string { return []string{"fp32", "int8"} }

// ByName returns the codec of that name.
func ByName(name string) (Codec, error) {
	switch name {
	case "fp32":
		return FP32{}, nil
	case "int8":
		return Int8{}, nil
	}
	return nil, fmt.Errorf("unknown codec %q: choose one of %s", name, strings.Join(Names(), ", "))
}

// EncodedBlockBytes returns what one block adds to a frame of the codec, the
// figure that NewLayout asks for.
func EncodedBlockBytes(c Codec) int {
	return c.EncodedSlabBytes(2*BlockValues) - c.EncodedSlabBytes(BlockValues)
}

// appendHeader appends the header of a frame after checking the count.
func appendHeader(dst []byte, id byte, values int) ([]byte, error) {
	if values < 1 || values > MaxSlabValues {
		return dst, fmt.Errorf("encode %d values: a frame holds 1 to %d", values, MaxSlabValues)
	}
	dst = append(dst, frameMagic...)
	dst = append(dst, frameVersion, id, 0, 0)
	return binary.LittleEndian.AppendUint32(dst, uint32(values)), nil
}

// body checks the header and the length of a frame and returns what follows.
func body(frame []byte, id byte, values, wantBytes int) ([]byte, error) {
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
	case head[6] != 0 || head[7] != 0:
		return nil, fmt.Errorf("%w: reserved bytes are not zero", ErrFrame)
	}
	if n := binary.LittleEndian.Uint32(head[8:]); uint64(n) != uint64(values) {
		return nil, fmt.Errorf("%w: %d values, want %d", ErrFrame, n, values)
	}
	if len(frame) != wantBytes {
		return nil, fmt.Errorf("%w: %d bytes for %d values, want %d", ErrFrame, len(frame), values, wantBytes)
	}
	return frame[headerBytes:], nil
}

// grow makes room for n more bytes and returns dst longer by n, contents undefined.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) < n {
		dst = append(make([]byte, 0, len(dst)+n), dst...)
	}
	return dst[:len(dst)+n]
}
