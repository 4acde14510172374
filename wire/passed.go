package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Passed is a StageMessage as it travels between peers: its length (uvarint), the
// message, and behind a StageCall, a StageAnswer or a StageSum the bytes that it announces.
func EncodePassed(m StageMessage, cargo []byte) []byte {
	message := EncodeStageMessage(m)
	out := make([]byte, 0, binary.MaxVarintLen32+len(message)+len(cargo))
	out = binary.AppendUvarint(out, uint64(len(message)))
	return append(append(out, message...), cargo...)
}

// DecodePassed reads what EncodePassed made. The cargo views b.
func DecodePassed(b []byte) (m StageMessage, cargo []byte, err error) {
	n, head := binary.Uvarint(b)
	if head <= 0 || n > MaxMessage || n > uint64(len(b)-head) {
		return nil, nil, errors.New("passed message: its length is out of bounds")
	}
	if m, err = DecodeStageMessage(b[head : head+int(n)]); err != nil {
		return nil, nil, err
	}
	cargo = b[head+int(n):]
	var want uint64
	switch m := m.(type) {
	case *StageCall:
		want = m.Bytes
	case *StageAnswer:
		want = m.Bytes
	case *StageSum:
		want = m.Bytes
	default: // nothing follows
	}
	if uint64(len(cargo)) != want {
		return nil, nil, fmt.Errorf("passed message: %d bytes follow, %d are announced", len(cargo), want)
	}
	return m, cargo, nil
}

// Cargo is what follows a StageCall: the windows of the micro-batch, by their
// positions in the data stream, then the stage's input and, for a backward pass, the
// gradient of its output. Tokens and targets are int32, little-endian; the rest is
// frames of the run's activation codec.
type Cargo struct {
	Windows  []Range `cbor:"1,keyasint"` // at most MaxRanges
	Input    []byte  `cbor:"-"`
	Gradient []byte  `cbor:"-"`          // of the output, or targets for the last stage; empty in a forward pass
	Size     uint64  `cbor:"2,keyasint"` // of the input, bytes
}

// EncodeCargo returns the bytes behind a call.
func EncodeCargo(c *Cargo) []byte {
	c.Size = uint64(len(c.Input))
	head := Encode(c)
	out := make([]byte, 0, binary.MaxVarintLen32+len(head)+len(c.Input)+len(c.Gradient))
	out = binary.AppendUvarint(out, uint64(len(head)))
	return append(append(append(out, head...), c.Input...), c.Gradient...)
}

// DecodeCargo reads and bounds them. Input and gradient view b.
func DecodeCargo(b []byte) (*Cargo, error) {
	n, at := binary.Uvarint(b)
	if at <= 0 || n > MaxEntry || n > uint64(len(b)-at) {
		return nil, errors.New("cargo: the length of its head is out of bounds")
	}
	var c Cargo
	if err := Decode(b[at:at+int(n)], &c); err != nil {
		return nil, fmt.Errorf("cargo: %w", err)
	}
	rest := b[at+int(n):]
	if c.Size > uint64(len(rest)) {
		return nil, fmt.Errorf("cargo: an input of %d bytes in %d", c.Size, len(rest))
	}
	if err := checkRanges(c.Windows, MaxRanges); err != nil {
		return nil, fmt.Errorf("cargo: %w", err)
	}
	c.Input, c.Gradient = rest[:c.Size:c.Size], rest[c.Size:]
	return &c, nil
}
