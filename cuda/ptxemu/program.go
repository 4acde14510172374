package ptxemu

import "strings"

// Program is a PTX module as its text says it, names resolved, nothing compiled.
type Program struct {
	Version   string // of the PTX language: "7.8"
	Target    string // "sm_80"
	Variables []Variable
	Entries   []*Entry
}

// Space is where a variable or an access lives.
type Space uint8

// The state spaces of PTX; Generic is an access that does not say.
const (
	Generic Space = iota
	Global
	Const
	Shared
	Local
	Parameter
)

// String returns PTX's word.
func (s Space) String() string {
	return [...]string{"generic", "global", "const", "shared", "local", "param"}[s]
}

// Variable is memory that a module or an entry declares.
type Variable struct {
	Name  string
	Space Space
	Align int
	Bytes int // 0 for shared memory whose size the launch states
	Data  []byte
}

// Param is one parameter of an entry.
type Param struct {
	Name          string
	Offset, Bytes int
}

// Entry is a kernel.
type Entry struct {
	Name       string
	Params     []Param
	MaxThreads int // of a block, 0 when the text does not say
	Variables  []Variable
	Registers  []Register
	Body       []Instruction
}

// Register is a declared register; names that blocks hide are told apart by their place in Entry.Registers.
type Register struct {
	Name string
	Type Type
}

// Instruction is one line of a kernel.
type Instruction struct {
	Line       int // 1 for the first line of the text
	Start, End int // bytes of the text, from the guard to behind the semicolon
	Guard      Operand
	Op         []string // "ld", "global", "v4", "f32"
	Operands   []Operand
}

// Name returns the opcode with its modifiers.
func (i *Instruction) Name() string { return strings.Join(i.Op, ".") }

// has reports whether the opcode carries a modifier.
func (i *Instruction) has(modifier string) bool {
	for _, m := range i.Op[1:] {
		if m == modifier {
			return true
		}
	}
	return false
}

// OperandKind says what an operand is.
type OperandKind uint8

// The kinds of operands.
const (
	None      OperandKind = iota
	Reg                   // Index into Entry.Registers; Negate for !p
	Immediate             // Bits, Float when written as 0f or 0d
	Special               // Name: "tid.x"
	Symbol                // Name of a variable or parameter, Bits is an offset
	Address               // Parts[0] and an offset in Bits
	Vector                // Parts
	Pair                  // Parts of p|q
	Label                 // Index into Entry.Body
	Sink                  // _
)

// Operand is what an instruction reads or writes.
type Operand struct {
	Kind          OperandKind
	Index         int
	Negate, Float bool
	Wide          bool // a float written with 64 bits
	Bits          uint64
	Name          string
	Parts         []Operand
}

// Type is a type of PTX.
type Type uint8

// The types of registers and operations.
const (
	Untyped Type = iota
	Pred
	B8
	B16
	B32
	B64
	U8
	U16
	U32
	U64
	S8
	S16
	S32
	S64
	F16
	F16X2
	BF16
	BF16X2
	TF32
	F32
	F64
)

// parseType reads a type's name, without its dot; Untyped when it is none.
func parseType(name string) Type {
	switch name {
	case "pred":
		return Pred
	case "b8":
		return B8
	case "b16":
		return B16
	case "b32":
		return B32
	case "b64":
		return B64
	case "u8":
		return U8
	case "u16":
		return U16
	case "u32":
		return U32
	case "u64":
		return U64
	case "s8":
		return S8
	case "s16":
		return S16
	case "s32":
		return S32
	case "s64":
		return S64
	case "f16":
		return F16
	case "f16x2":
		return F16X2
	case "bf16":
		return BF16
	case "bf16x2":
		return BF16X2
	case "tf32":
		return TF32
	case "f32":
		return F32
	case "f64":
		return F64
	}
	return Untyped
}

// bytes returns the size of a value, 0 for predicates.
func (t Type) bytes() int {
	switch t {
	case B8, U8, S8:
		return 1
	case B16, U16, S16, F16, BF16:
		return 2
	case B32, U32, S32, F32, F16X2, BF16X2, TF32:
		return 4
	case B64, U64, S64, F64:
		return 8
	case Untyped, Pred:
	}
	return 0
}

func (t Type) signed() bool { return t >= S8 && t <= S64 }
func (t Type) float() bool  { return t >= F16 }
