package wire

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// Float is a float32 as it travels: its IEEE 754 bits.
type Float uint32

// FloatOf returns the bits of x.
func FloatOf(x float32) Float { return Float(math.Float32bits(x)) }

// Value returns the number.
func (f Float) Value() float32 { return math.Float32frombits(uint32(f)) }

// MaxMessage bounds every control message and every decoded structure, in bytes.
const MaxMessage = 1 << 20

var (
	encMode = mustEnc()
	decMode = mustDec()
)

func mustEnc() cbor.EncMode {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}

func mustDec() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  1 << 17,
		MaxMapPairs:       64,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}

// Encode returns the canonical bytes of a value of this package. It panics
// when v is not one: that is a fault in the program, never in its input.
func Encode(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("wire: encode %T: %v", v, err))
	}
	return b
}

var errNotCanonical = errors.New("bytes are not canonical")

// Decode reads one value and refuses bytes that are not its canonical form, so
// two peers never hold different bytes for one meaning.
func Decode(b []byte, v any) error {
	if len(b) > MaxMessage {
		return fmt.Errorf("decode %T: %d bytes, at most %d are allowed", v, len(b), MaxMessage)
	}
	if err := decMode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	if !bytes.Equal(b, again) {
		return fmt.Errorf("decode %T: %w", v, errNotCanonical)
	}
	return nil
}

// Signature is an Ed25519 signature.
type Signature [ed25519.SignatureSize]byte

// signedText is what a signature of the given kind covers. The prefix keeps a
// signature of one kind from passing for another.
func signedText(kind string, body []byte) []byte {
	return append([]byte("dunlin/1/"+kind+"\x00"), body...)
}

// Sign signs body as a text of the given kind.
func Sign(key ed25519.PrivateKey, kind string, body []byte) Signature {
	return Signature(ed25519.Sign(key, signedText(kind, body)))
}

// Verify reports whether sig is id's signature of body as a text of that kind.
func Verify(id PeerID, kind string, body []byte, sig Signature) bool {
	return ed25519.Verify(id[:], signedText(kind, body), sig[:])
}
