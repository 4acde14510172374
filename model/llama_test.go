package model

import (
	"fmt"
	"math"
	"testing"
)

// project is w·x with w [out, in].
func project(x, w []float64) []float64 {
	y := make([]float64, len(w)/len(x))
	for j := range y {
		for i, v := range x {
			y[j] += v * w[j*len(x)+i]
		}
	}
	return y
}

func (r reference) rms(x, gain []float64) []float64 {
	var squares float64
	for _, v := range x {
		squares += v * v / float64(len(x))
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(squares+float64(r.cfg.NormEps)) * gain[i]
	}
	return y
}

// turn rotates every head of x as complex numbers whose imaginary parts are the
// head's second half.
func (r reference) turn(x []float64, position int) {
	size := r.cfg.Width / r.cfg.Heads
	for at := 0; at < len(x); at += size {
		for i := range size / 2 {
			angle := float64(position) * math.Pow(float64(r.cfg.RopeTheta), -2*float64(i)/float64(size))
			p := complex(x[at+i], x[at+size/2+i]) * complex(math.Cos(angle), math.Sin(angle))
			x[at+i], x[at+size/2+i] = real(p), imag(p)
		}
	}
}

func (r reference) llama(tokens []int32) [][]float64 {
	c := r.cfg.Width
	embedding := r.p["model.embed_tokens.weight"]
	head := embedding
	if r.cfg.Untied {
		head = r.p["lm_head.weight"]
	}
	var stream [][]float64
	for _, token := range tokens {
		stream = append(stream, append([]float64(nil), embedding[int(token)*c:][:c]...))
	}
	for l := range r.cfg.Layers {
		get := func(name string) []float64 { return r.p[fmt.Sprintf("model.layers.%d.%s.weight", l, name)] }
		var qkv [][]float64
		for t, x := range stream {
			x = r.rms(x, get("input_layernorm"))
			q, k := project(x, get("self_attn.q_proj")), project(x, get("self_attn.k_proj"))
			r.turn(q, t)
			r.turn(k, t)
			qkv = append(qkv, append(append(q, k...), project(x, get("self_attn.v_proj"))...))
		}
		for t, x := range stream {
			addTo(x, project(r.attend(qkv[:t+1], r.cfg.KVHeads), get("self_attn.o_proj")))
			y := r.rms(x, get("post_attention_layernorm"))
			gate, up := project(y, get("mlp.gate_proj")), project(y, get("mlp.up_proj"))
			for i, g := range gate {
				up[i] *= g / (1 + math.Exp(-g))
			}
			addTo(x, project(up, get("mlp.down_proj")))
		}
	}
	var out [][]float64
	for _, x := range stream {
		out = append(out, project(r.rms(x, r.p["model.norm.weight"]), head))
	}
	return out
}

// TestAngles compares the table far from the start with Pow and Cos in float64.
func TestAngles(t *testing.T) {
	const positions, size, theta = 2048, 64, 10000
	table := angles(positions, size, theta)
	for _, p := range []int{0, 1, 17, positions - 1} {
		for i := range size / 2 {
			angle := float64(p) * math.Pow(theta, -2*float64(i)/size)
			cos, sin := float64(table[p*size+i]), float64(table[p*size+size/2+i])
			if allowed := 1e-7 * (1 + 2*angle); math.Abs(cos-math.Cos(angle)) > allowed || math.Abs(sin-math.Sin(angle)) > allowed {
				t.Fatalf("position %d, value %d: cos %v, sin %v, want %v, %v", p, i, cos, sin, math.Cos(angle), math.Sin(angle))
			}
		}
	}
}
