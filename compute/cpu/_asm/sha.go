package main

import "fmt"

var (
	shaExtensions = isa{suffix: "SHA", lanes: 8, reg: "X", regs: 16}

	// roundConstants are those of SHA-256 (FIPS 180-4, section 4.2.2).
	roundConstants = [64]uint32{
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
		0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
		0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
	}
)

func hashes() *file {
	f := newFile()
	genSHA256Pair(f)
	return f
}

// genSHA256Pair writes the compression of two messages at once: a round waits four cycles for the round before, and the
// second message's rounds fill the wait. Registers ABEF and CDGH hold a state as SHA256RNDS2 wants it.
func genSHA256Pair(f *file) {
	for i := 0; i < len(roundConstants); i += 2 {
		fmt.Fprintf(&f.data, "DATA rounds<>+%d(SB)/8, $0x%08x%08x\n", 4*i, roundConstants[i+1], roundConstants[i])
	}
	f.data.WriteString("GLOBL rounds<>(SB), RODATA|NOPTR, $256\n")
	f.data.WriteString("DATA bigEndian<>+0(SB)/8, $0x0405060700010203\nDATA bigEndian<>+8(SB)/8, $0x0c0d0e0f08090a0b\nGLOBL bigEndian<>(SB), RODATA|NOPTR, $16\n")

	fn := f.begin(shaExtensions, "sha256Pair", "takes n blocks, n at least 1, of two messages into their states, each F, E, B, A, H, G, D, C.",
		param{"states", "*[2][8]uint32"}, bytePtr("a"), bytePtr("b"), n)
	p := fn.take("states", "a", "b")
	fn.op("MOVQ", fn.arg("n"), "CX")
	const swap = "X15"
	fn.op("MOVOU", "bigEndian<>(SB)", swap)
	messages := []string{p["a"], p["b"]}
	reg := func(stream, i int) string { return x(1 + 7*stream + i) } // X0 is an operand of SHA256RNDS2
	abef := func(stream int) string { return reg(stream, 0) }
	cdgh := func(stream int) string { return reg(stream, 1) }
	w := func(stream, group int) string { return reg(stream, 2+group%4) } // four words of the schedule
	spare := func(stream int) string { return reg(stream, 6) }
	for s := range messages {
		fn.op("MOVOU", at(32*s, p["states"]), abef(s))
		fn.op("MOVOU", at(32*s+16, p["states"]), cdgh(s))
	}
	block := fn.label("block")
	fn.place(block)
	for group := range 16 {
		for s, message := range messages {
			if group < 4 {
				fn.op("MOVOU", at(16*group, message), w(s, group))
				fn.op("PSHUFB", swap, w(s, group))
			} else {
				fn.op("SHA256MSG1", w(s, group-3), w(s, group))
				fn.op("MOVO", w(s, group-1), spare(s))
				fn.op("PALIGNR", "$4", w(s, group-2), spare(s))
				fn.op("PADDD", spare(s), w(s, group))
				fn.op("SHA256MSG2", w(s, group-1), w(s, group))
			}
			fn.op("MOVOU", fmt.Sprintf("rounds<>+%d(SB)", 16*group), "X0")
			fn.op("PADDD", w(s, group), "X0")
			fn.op("SHA256RNDS2", "X0", abef(s), cdgh(s))
			fn.op("PSHUFD", "$0x0e", "X0", "X0")
			fn.op("SHA256RNDS2", "X0", cdgh(s), abef(s))
		}
	}
	for s, message := range messages {
		for half, state := range []string{abef(s), cdgh(s)} {
			fn.op("MOVOU", at(32*s+16*half, p["states"]), spare(s))
			fn.op("PADDD", spare(s), state)
			fn.op("MOVOU", state, at(32*s+16*half, p["states"]))
		}
		fn.op("ADDQ", "$64", message)
	}
	fn.op("DECQ", "CX")
	fn.op("JNZ", block)
	fn.op("RET")
}
