package ptxemu

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dunlin/cuda/kernels"
)

// shippedForms lists the opcodes of the embedded PTX, with all that follows them by dots.
func shippedForms(t *testing.T) []string {
	t.Helper()
	forms := map[string]bool{}
	for _, capability := range []int{61, 75, 80} {
		for _, m := range kernels.Modules(capability) {
			program, err := Parse(string(m.PTX))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range program.Entries {
				for i := range e.Body {
					forms[e.Body[i].Name()] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(forms))
}

// TestEveryFormIsChecked: what the shipped kernels use has a row in the table of known results or in TestRounding, is a load or store,
// which TestMemoryForms takes from the kernels themselves, or has a test of its own.
func TestEveryFormIsChecked(t *testing.T) {
	checked := map[string]bool{"fma.rm.f32": true} // TestRounding
	opcode := regexp.MustCompile(`(?:^|[{;] ?)(?:@!?%\w+ )?([a-z][\w.]*) [%{\[]`)
	for _, r := range table() {
		for _, found := range opcode.FindAllStringSubmatch(r.code, -1) {
			checked[found[1]] = true
		}
	}
	elsewhere := regexp.MustCompile(`^(?:ld\.param\..*|bra|bra\.uni|ret|` + // each row of the table begins or ends so; TestDivergenceMeets
		`bar\.sync|bar\.warp\.sync|cp\.async\..*|` + // TestSanitizersFind, TestSanitizersLetPass
		`shfl\.sync\.bfly\.b32|` + // TestShuffles
		`ldmatrix\..*\.x4\.shared\.b16|mma\.sync\..*)$`) // TestMatrixProducts
	for _, form := range shippedForms(t) {
		if !checked[form] && !elsewhere.MatchString(form) && !accessForm.MatchString(form) {
			t.Errorf("%s: the kernels use it, and no test knows what it does", form)
		}
	}
}

// accessForm is a load or a store: which, where, how many values, and how many bits each has.
var accessForm = regexp.MustCompile(`^(ld|st)\.(global|shared)\.(?:v([24])\.)?[usf](32|64)$`)

// TestMemoryForms moves 16 bytes to the card and back by each load and store of the shipped kernels: each touches as many
// bytes as it says, in order.
func TestMemoryForms(t *testing.T) {
	for _, form := range shippedForms(t) {
		parts := accessForm.FindStringSubmatch(form)
		if parts == nil {
			continue
		}
		values, register, words := 1, "r", 1
		if parts[3] != "" {
			values, _ = strconv.Atoi(parts[3])
		}
		if parts[4] == "64" {
			register, words = "d", 2
		}
		var list []string
		for i := range values {
			list = append(list, fmt.Sprintf("%%%s%d", register, i))
		}
		operand := list[0]
		if values > 1 {
			operand = "{" + strings.Join(list, ", ") + "}"
		}
		plain := func(op, base string, n int, size int, register string) (code string) {
			for i := range n {
				value, place := fmt.Sprintf("%%%s%d", register, i), fmt.Sprintf("[%s+%d]", base, i*size)
				if op == "ld" {
					code += fmt.Sprintf("ld.%s %s, %s;\n", kindOf(base, size), value, place)
				} else {
					code += fmt.Sprintf("st.%s %s, %s;\n", kindOf(base, size), place, value)
				}
			}
			return code
		}
		code, size := "", 4*words
		switch {
		case parts[1] == "ld" && parts[2] == "global":
			code = form + " " + operand + ", [%in];\n" + plain("st", "%out", values, size, register)
		case parts[1] == "ld":
			code = plain("ld", "%in", 4, 4, "r") + plain("st", "s", 4, 4, "r") + form + " " + operand + ", [s];\n" + plain("st", "%out", values, size, register)
		case parts[2] == "global":
			code = plain("ld", "%in", values, size, register) + form + " [%out], " + operand + ";\n"
		default:
			code = "mov.u32 %r0, 0; mov.u32 %r1, 0; mov.u32 %r2, 0; mov.u32 %r3, 0;\n" + plain("st", "s", 4, 4, "r") +
				plain("ld", "%in", values, size, register) + form + " [s], " + operand + ";\n" + plain("ld", "s", 4, 4, "r") + plain("st", "%out", 4, 4, "r")
		}
		b := newBench(t, Config{}, kernelOf(".shared .align 16 .b8 s[16];", code))
		pattern := []uint32{0x01020304, 0x8badf00d, 0x7fc00001, 0xffffffff}
		in, out := b.buffer(pattern), b.buffer(make([]uint32, 4))
		if err := b.launch("k", 1, 1, 0, uint64(in), uint64(out)); err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		want := make([]uint32, 4)
		copy(want, pattern[:values*words])
		if got := b.words(out, 4); !slices.Equal(got, want) {
			t.Errorf("%s moves %#x, want %#x", form, got, want)
		}
	}
}

// kindOf is how a plain access is written.
func kindOf(base string, size int) string {
	space := "global"
	if base == "s" {
		space = "shared"
	}
	return fmt.Sprintf("%s.u%d", space, 8*size)
}
