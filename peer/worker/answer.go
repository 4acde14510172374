package worker

import (
	"encoding/binary"
	"math"
)

// An answer's bytes: its kind, the loss (float32, 0 but at the last stage), and the
// output or the gradient of the input.
const (
	AnswerForward  = 0
	AnswerBackward = 1
	answerHead     = 5
)

// MakeAnswer puts an answer together.
func MakeAnswer(kind byte, loss float32, body []byte) []byte {
	out := binary.LittleEndian.AppendUint32([]byte{kind}, math.Float32bits(loss))
	return append(out, body...)
}

// ReadAnswer takes an answer apart; ok is false when it is none.
func ReadAnswer(b []byte) (kind byte, loss float32, body []byte, ok bool) {
	if len(b) < answerHead || b[0] > AnswerBackward {
		return 0, 0, nil, false
	}
	return b[0], math.Float32frombits(binary.LittleEndian.Uint32(b[1:])), b[answerHead:], true
}
