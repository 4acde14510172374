//go:build !amd64 || noasm

package compress

func paths() []path { return []path{portable} }

func fastest() path { return portable }

func (path) fastMaxMagnitude([]float32) (top uint32, done int) { return 0, 0 }

func (path) fastBytesOfFinite([]byte, []float32) (bad uint32, done int) { return 0, 0 }

func (path) fastFiniteOfBytes([]float32, []byte) (bad uint32, done int) { return 0, 0 }

func (path) fastInt8Codes([]byte, []float32, float32) (done int) { return 0 }

func (path) fastInt8Values([]float32, []byte, float32) (lowest int32, done int) { return 0, 0 }

func (path) fastInt4Codes([]byte, []float32, float32) (done bool) { return false }

func (path) fastE3M0Codes([]byte, []float32, float32) (done bool) { return false }

func (path) fastNibbleValues([]float32, []byte, *levels, float32) (bad uint32, done bool) {
	return 0, false
}

func (path) fastCountAtLeast([]float32, uint32) (count, done int) { return 0, 0 }

func (path) fastSumDifference(_, _, _, _ []float32) (done int) { return 0 }

func (path) fastProduct(_ []float32, _ int, _ []float32, _, _ int, _ []float32, _ int) (done bool) {
	return false
}
