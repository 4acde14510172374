package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dunlin/compress"
)

func newBenchCodecs(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("codecs [NAME...]", "what each codec costs: bits a parameter, error, speed of one core beside a plain copy",
		"  dunlin bench codecs\n  dunlin bench codecs ternary-35 topk2-12.5 --seconds 2 --json", cobra.ArbitraryArgs, t.benchCodecs, c.seconds(1))
}

const (
	benchSlab  = 16 * compress.BlockValues // values in a frame
	benchSlabs = 256                       // 64 MiB of float32, more than caches hold
)

// codecFigures is what `dunlin bench codecs` finds of one codec; its JSON form is promised to scripts.
type codecFigures struct {
	Name       string  `json:"name"`
	Bits       float64 `json:"bits_per_parameter"` // of Gaussian values
	GaussError float64 `json:"gauss_error"`        // |x − decoded| ÷ |x|
	TailError  float64 `json:"heavy_tail_error"`   // the same for Student's t with 3 degrees of freedom
	Encode     float64 `json:"encode_gb_per_second"`
	Decode     float64 `json:"decode_gb_per_second"` // of float32 values, one core
	EncodeCopy float64 `json:"encode_of_memcpy"`
	DecodeCopy float64 `json:"decode_of_memcpy"` // as a share of Copy
	Copy       float64 `json:"memcpy_gb_per_second"`
	DecodeTime float64 `json:"decode_ns_per_parameter"`
}

func (t *terminal) benchCodecs(ctx context.Context, c *Config, names []string) error {
	if len(names) == 0 {
		names = compress.Names()
	}
	var codecs []compress.Codec
	for _, name := range names {
		codec, err := compress.ByName(name)
		if err != nil {
			return err
		}
		codecs = append(codecs, codec)
	}
	b := newCodecBench()
	var all []codecFigures
	for _, codec := range codecs {
		figures, err := b.measure(ctx, codec, time.Duration(c.Seconds*float64(time.Second)))
		if err != nil {
			return err
		}
		all = append(all, figures)
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{"values": len(b.gauss), "slab_values": benchSlab, "codecs": all})
	}
	table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "codec\tbits\tGauss error\theavy tail\tencode GB/s\tof memcpy\tdecode GB/s\tof memcpy\tdecode ns\t")
	for _, f := range all {
		fmt.Fprintf(table, "%s\t%.4f\t%.4f\t%.4f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n",
			f.Name, f.Bits, f.GaussError, f.TailError, f.Encode, f.EncodeCopy, f.Decode, f.DecodeCopy, f.DecodeTime)
	}
	return table.Flush()
}

// codecBench holds the values that all codecs are measured on.
type codecBench struct {
	gauss, tail, decoded []float32
	frames               [][]byte
}

func newCodecBench() *codecBench {
	rng := rand.New(rand.NewPCG(1, 1))
	n := benchSlab * benchSlabs
	b := &codecBench{gauss: make([]float32, n), tail: make([]float32, 64*benchSlab), decoded: make([]float32, n), frames: make([][]byte, benchSlabs)}
	for i := range b.gauss {
		b.gauss[i] = float32(rng.NormFloat64() * 1e-3)
	}
	for i := range b.tail {
		squares := 0.0
		for range 3 {
			x := rng.NormFloat64()
			squares += x * x
		}
		b.tail[i] = float32(rng.NormFloat64() * 1e-3 / math.Sqrt(squares/3))
	}
	return b
}

// measure takes turns between a plain copy, encoding and decoding of all slabs until the time is over, five turns at
// least. Of each slab the fastest turn counts: other work on the machine only ever adds to a time.
func (b *codecBench) measure(ctx context.Context, codec compress.Codec, within time.Duration) (codecFigures, error) {
	f := codecFigures{Name: codec.Name()}
	var err error
	if f.TailError, err = b.loss(codec, b.tail); err != nil {
		return f, err
	}
	if f.GaussError, err = b.loss(codec, b.gauss); err != nil {
		return f, err
	}
	bytes := 0
	for _, frame := range b.frames {
		bytes += len(frame)
	}
	f.Bits = 8 * float64(bytes) / float64(len(b.gauss))
	var plain, encode, decode fastest
	begin := time.Now()
	for turn := 0; turn < 5 || time.Since(begin) < within; turn++ {
		if ctx.Err() != nil {
			return f, context.Cause(ctx)
		}
		err := errors.Join(
			plain.turn(func(i int) error { copy(slab(b.decoded, i), slab(b.gauss, i)); return nil }),
			encode.turn(func(i int) error { return b.encode(codec, b.gauss, i) }),
			decode.turn(func(i int) error { return codec.Decode(slab(b.decoded, i), b.frames[i]) }))
		if err != nil {
			return f, err
		}
	}
	f.Copy, f.Encode, f.Decode = plain.speed(), encode.speed(), decode.speed()
	f.EncodeCopy, f.DecodeCopy, f.DecodeTime = f.Encode/f.Copy, f.Decode/f.Copy, 4/f.Decode
	return f, nil
}

// fastest is the shortest time that each slab took.
type fastest [benchSlabs]time.Duration

func (f *fastest) turn(work func(slab int) error) error {
	for i, best := range f {
		begin := time.Now()
		if err := work(i); err != nil {
			return err
		}
		if took := time.Since(begin); best == 0 || took < best {
			f[i] = took
		}
	}
	return nil
}

// speed is in 10⁹ bytes of float32 a second.
func (f *fastest) speed() float64 {
	var sum time.Duration
	for _, d := range f {
		sum += d
	}
	return 4 * benchSlab * benchSlabs / float64(sum.Nanoseconds())
}

func slab(values []float32, i int) []float32 { return values[i*benchSlab:][:benchSlab] }

// encode fills the frame of slab i.
func (b *codecBench) encode(codec compress.Codec, values []float32, i int) (err error) {
	b.frames[i], err = codec.Encode(b.frames[i][:0], slab(values, i))
	return err
}

// loss returns the error of values that went through the codec, as a share of their norm.
func (b *codecBench) loss(codec compress.Codec, values []float32) (float64, error) {
	decoded := b.decoded[:len(values)]
	for i := range len(values) / benchSlab {
		if err := b.encode(codec, values, i); err != nil {
			return 0, err
		}
		if err := codec.Decode(slab(decoded, i), b.frames[i]); err != nil {
			return 0, err
		}
	}
	var lost, all float64
	for i, x := range values {
		d := float64(x) - float64(decoded[i])
		lost += d * d
		all += float64(x) * float64(x)
	}
	return math.Sqrt(lost / all), nil
}
