package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"dunlin/compute"
)

func tensor(name string, shape []int, values ...float32) compute.Tensor {
	return compute.Tensor{Name: name, Shape: shape, Data: values}
}

// file puts a header and values together without any check.
func file(header string, values int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, values)...)
}

func encode(t *testing.T, tensors []compute.Tensor, meta map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, tensors, meta); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTripKeepsBits(t *testing.T) {
	long := make([]float32, 3*chunkValues+5)
	for i := range long {
		long[i] = math.Float32frombits(uint32(i) * 2654435761)
	}
	in := []compute.Tensor{
		tensor("z.last by name", []int{2, 3}, 1, 2, 3, 4, 5, 6),
		tensor("scalar", nil, float32(math.Copysign(0, -1))),
		tensor("a \"quoted\" näme", []int{1, 1, 2}, math.SmallestNonzeroFloat32, float32(math.Inf(1))),
		tensor("long", []int{len(long)}, long...),
	}
	meta := map[string]string{"step": "12", "ordnung": "ü\n"}
	b := encode(t, in, meta)
	out, gotMeta, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != len(in) || len(gotMeta) != 2 || gotMeta["step"] != "12" || gotMeta["ordnung"] != "ü\n" {
		t.Fatalf("%d tensors, metadata %v", len(out), gotMeta)
	}
	for i := range in {
		if in[i].Name != out[i].Name || len(in[i].Data) != len(out[i].Data) || len(in[i].Shape) != len(out[i].Shape) {
			t.Fatalf("tensor %d: %q %v", i, out[i].Name, out[i].Shape)
		}
		for j := range in[i].Data {
			if math.Float32bits(in[i].Data[j]) != math.Float32bits(out[i].Data[j]) {
				t.Fatalf("tensor %q: value %d changed", in[i].Name, j)
			}
		}
	}
	if n := binary.LittleEndian.Uint64(b); n%8 != 0 {
		t.Fatalf("header of %d bytes leaves the values unaligned", n)
	}
}

func TestGoldenBytes(t *testing.T) {
	got := encode(t, []compute.Tensor{tensor("w", []int{2}, 1, -2)}, map[string]string{"format": "pt"})
	header := `{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	want := file(header, 0)
	want = append(want, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0)
	if !bytes.Equal(got, want) {
		t.Fatalf("got %s\nwant %s", hex.EncodeToString(got), hex.EncodeToString(want))
	}
}

// The names may come in any order; the values decide.
func TestReadFollowsOffsets(t *testing.T) {
	b := file(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 8)
	out, _, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(out) != 2 || out[0].Name != "a" || out[1].Name != "b" {
		t.Fatalf("%v, %v", out, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, in := range map[string][]compute.Tensor{
		"no name":        {tensor("", []int{1}, 1)},
		"metadata":       {tensor(metadataKey, []int{1}, 1)},
		"occurs twice":   {tensor("w", []int{1}, 1), tensor("w", []int{1}, 1)},
		"shape":          {tensor("w", []int{2}, 1)},
		"negative shape": {tensor("w", []int{-1}, 1)},
		"not UTF-8":      {tensor("\xff", []int{1}, 1)},
		"long name":      {tensor(strings.Repeat("x", MaxName+1), []int{1}, 1)},
	} {
		if err := Write(new(bytes.Buffer), in, nil); err == nil {
			t.Errorf("%s: was written", name)
		}
	}
}

func TestReadRefusesDamage(t *testing.T) {
	const w = `"dtype":"F32","shape":[2],"data_offsets":[0,8]`
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":             {nil, "header length"},
		"huge header":       {binary.LittleEndian.AppendUint64(nil, 1<<60), "not a safetensors file"},
		"header past end":   {binary.LittleEndian.AppendUint64(nil, 100), "not a safetensors file"},
		"not an object":     {file(`[]`, 0), "begin with"},
		"not JSON":          {file(`{"w"`, 0), "header"},
		"trailing header":   {file(`{"w":{`+w+`}}x`, 8), "follow its end"},
		"second object":     {file(`{"w":{`+w+`}}{}`, 8), "follow its end"},
		"duplicate":         {file(`{"w":{`+w+`},"w":{`+w+`}}`, 8), "occurs twice"},
		"metadata twice":    {file(`{"__metadata__":{},"__metadata__":{}}`, 0), "metadata occurs twice"},
		"metadata number":   {file(`{"__metadata__":{"a":1}}`, 0), "metadata"},
		"unknown field":     {file(`{"w":{`+w+`,"x":1}}`, 8), "unknown field"},
		"other type":        {file(`{"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}`, 8), "I32"},
		"one offset":        {file(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0]}}`, 8), "1 offsets"},
		"overlap":           {file(`{"w":{`+w+`},"v":{`+w+`}}`, 8), "expected"},
		"gap":               {file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), "expected"},
		"short of end":      {file(`{"w":{`+w+`}}`, 12), "8 of 12"},
		"past end":          {file(`{"w":{`+w+`}}`, 4), "expected"},
		"backwards":         {file(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,-8]}}`, 8), "expected"},
		"negative extent":   {file(`{"w":{"dtype":"F32","shape":[-2,-1],"data_offsets":[0,8]}}`, 8), "not positive"},
		"overflowing shape": {file(`{"w":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}}`, 8), "more than"},
		"deep shape":        {file(`{"w":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}}`, 8), "rank 9"},
	} {
		_, _, err := Read(bytes.NewReader(c.file), int64(len(c.file)))
		if err == nil {
			t.Errorf("%s: was read", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q does not say %q", name, err, c.want)
		}
	}
}

func TestReadOfCutInputFails(t *testing.T) {
	b := encode(t, []compute.Tensor{tensor("w", []int{3}, 1, 2, 3)}, nil)
	for n := range b {
		if _, _, err := Read(bytes.NewReader(b[:n]), int64(len(b))); err == nil {
			t.Fatalf("%d of %d bytes were read", n, len(b))
		}
	}
}

// FuzzOpen reads arbitrary bytes: no panic, no more memory than the input
// names, and what is accepted survives a round trip.
func FuzzOpen(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, []compute.Tensor{tensor("w", []int{2}, 1, 2), tensor("v", []int{1}, 3)}, map[string]string{"k": "v"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(file(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f.Add(file(`{}`, 0))
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<62))
	f.Fuzz(func(t *testing.T, in []byte) {
		tensors, meta, err := Read(bytes.NewReader(in), int64(len(in)))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := Write(&out, tensors, meta); err != nil {
			t.Fatalf("accepted what cannot be written: %v", err)
		}
		again, _, err := Read(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil || len(again) != len(tensors) {
			t.Fatalf("round trip: %d of %d tensors, %v", len(again), len(tensors), err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	t, err := compute.NewTensor("w", 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	b.SetBytes(4 << 20)
	for b.Loop() {
		out.Reset()
		if err := Write(&out, []compute.Tensor{t}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
