package ptxemu

import (
	"fmt"
	"math/bits"
)

// lanes32 and lanes64 are one register of all threads of a warp. A predicate is one bit per thread.
type (
	lanes32 = [32]uint32
	lanes64 = [32]uint64
)

const allLanes = 0xffffffff

// step runs one instruction for the lanes of a mask, which is not empty.
type step func(w *warp, m uint32)

// opKind tells apart what the loop of a warp does itself.
type opKind uint8

const (
	plain opKind = iota
	branch
	leave
	barrier
)

// operation is a compiled instruction.
type operation struct {
	run    step
	kind   opKind
	negate bool
	guard  int32 // predicate, -1 for none
	target int32 // of a branch
	meet   int32 // where lanes that a branch parts run together again
	sync   blockBarrier
	flops  int64 // floating point operations of one lane
	mma    bool
}

// kernel is a compiled entry. It is read only once it runs.
type kernel struct {
	name       string
	entry      *Entry
	source     string
	code       []operation // one for each instruction, and an exit behind the last
	n32, n64   int         // registers of either width
	preds      int
	fixed32    []fixed32
	fixed64    []fixed64
	fixedPreds []fixed32
	specials   []special
	params     int   // bytes
	shared     int   // bytes of static shared memory
	dynamic    int   // alignment and place of dynamic shared memory, -1 for none
	local      int   // bytes of a thread
	grain      grain // of shared memory
	gridwide   grain // of global memory
	config     *Config
}

// grain is what checks tell apart in memory: the narrowest access, as the logarithm of its bytes.
type grain uint8

// widest is that of 16 bytes, the most that a lane reads at once.
const widest grain = 4

// admit makes the grain no coarser than an access.
func (g *grain) admit(bytes int) { *g = min(*g, grain(bits.TrailingZeros(uint(bytes)))) }

// span returns the grains of a range.
func (g grain) span(from uint64, bytes int) (first, last uint64) {
	return from >> g, (from + uint64(bytes) - 1) >> g
}

// fixed32 and fixed64 are registers that hold a number of the text.
type fixed32 struct {
	slot  int
	value uint32
}
type fixed64 struct {
	slot  int
	value uint64
}

// special is a register that the card fills.
type special struct {
	slot int
	name string
}

// slot is where a register of the text lives: in r, q or p of a warp by its type.
type slot struct {
	kind Type
	at   int
}

// symbol is a variable of the module with its address.
type symbol struct {
	space   Space
	address uint64
}

// compiler makes a kernel of an entry.
type compiler struct {
	k       *kernel
	entry   *Entry
	symbols map[string]symbol // of the module and of the entry
	params  map[string]int    // offsets
	slots   []slot
	used    []bool
	ints    map[uint32]int // slots of numbers
	longs   map[uint64]int
	truths  [2]int // places of false and true, plus 1
	filled  map[string]int
	at      *Instruction
	op      *operation
	pc      int32
}

// compile makes a kernel runnable. symbols holds the addresses of the module's variables.
func compile(source string, e *Entry, symbols map[string]symbol, config *Config) (*kernel, error) {
	c := &compiler{
		k:     &kernel{name: e.Name, entry: e, source: source, dynamic: -1, config: config, grain: widest, gridwide: widest},
		entry: e, symbols: map[string]symbol{}, params: map[string]int{}, slots: make([]slot, len(e.Registers)), used: make([]bool, len(e.Registers)),
		ints: map[uint32]int{}, longs: map[uint64]int{}, filled: map[string]int{},
	}
	for name, s := range symbols {
		c.symbols[name] = s
	}
	for _, p := range e.Params {
		c.params[p.Name] = p.Offset
		c.k.params = p.Offset + p.Bytes
	}
	if err := c.variables(e.Variables); err != nil {
		return nil, err
	}
	c.k.code = make([]operation, len(e.Body)+1)
	for i := range e.Body {
		c.at, c.op, c.pc = &e.Body[i], &c.k.code[i], int32(i)
		c.op.guard = -1
		if g := c.at.Guard; g.Kind == Reg {
			c.op.guard, c.op.negate = int32(c.slot(g.Index).at), g.Negate
		}
		if err := c.instruction(); err != nil {
			return nil, fmt.Errorf("kernel %s, line %d: %s: %w", e.Name, c.at.Line, c.at.text(source), err)
		}
	}
	c.k.code[len(e.Body)] = operation{kind: leave, guard: -1}
	meet(c.k.code)
	return c.k, nil
}

// variables places the entry's shared and local memory; dynamic shared memory comes last.
func (c *compiler) variables(variables []Variable) error {
	place := func(at *int, align int) {
		*at = (*at + align - 1) / align * align
	}
	for _, v := range variables {
		switch v.Space {
		case Shared:
			if v.Bytes == 0 {
				continue
			}
			place(&c.k.shared, v.Align)
			c.symbols[v.Name] = symbol{Shared, uint64(c.k.shared)}
			c.k.shared += v.Bytes
		case Local:
			place(&c.k.local, v.Align)
			c.symbols[v.Name] = symbol{Local, uint64(c.k.local)}
			c.k.local += v.Bytes
		case Generic, Global, Const, Parameter:
		}
	}
	if c.k.shared > 1<<20 || c.k.local > 1<<20 {
		return fmt.Errorf("kernel %s: more than 1 MiB of shared or local memory", c.entry.Name)
	}
	return nil
}

// slot gives a register of the text its place when it is first used.
func (c *compiler) slot(index int) slot {
	s := &c.slots[index]
	if c.used[index] {
		return *s
	}
	c.used[index] = true
	s.kind = c.entry.Registers[index].Type
	switch s.kind.bytes() {
	case 0:
		s.at = c.k.preds
		c.k.preds++
	case 8:
		s.at = c.k.n64
		c.k.n64++
	default:
		s.at = c.k.n32
		c.k.n32++
	}
	return *s
}

func (c *compiler) number32(v uint32) int {
	at, ok := c.ints[v]
	if !ok {
		at = c.k.n32
		c.k.n32++
		c.ints[v] = at
		c.k.fixed32 = append(c.k.fixed32, fixed32{at, v})
	}
	return at
}

func (c *compiler) number64(v uint64) int {
	at, ok := c.longs[v]
	if !ok {
		at = c.k.n64
		c.k.n64++
		c.longs[v] = at
		c.k.fixed64 = append(c.k.fixed64, fixed64{at, v})
	}
	return at
}

// special returns the 32-bit register that holds %name.
func (c *compiler) special(name string) int {
	at, ok := c.filled[name]
	if !ok {
		at = c.k.n32
		c.k.n32++
		c.filled[name] = at
		c.k.specials = append(c.k.specials, special{at, name})
	}
	return at
}

// resolve returns the address that a name stands for.
func (c *compiler) resolve(name string) (symbol, error) {
	if s, ok := c.symbols[name]; ok {
		if s.space == Shared && s.address == dynamicShared {
			align := 16
			c.k.dynamic = (c.k.shared + align - 1) / align * align
			s.address = uint64(c.k.dynamic)
		}
		return s, nil
	}
	if offset, ok := c.params[name]; ok {
		return symbol{Parameter, uint64(offset)}, nil
	}
	return symbol{}, fmt.Errorf("nothing is named %q", name)
}

// source32 returns the register that holds an operand of at most 32 bits.
func (c *compiler) source32(o Operand, t Type) (int, error) {
	switch o.Kind {
	case Reg:
		s := c.slot(o.Index)
		if b := s.kind.bytes(); b == 0 || b == 8 {
			return 0, fmt.Errorf("a register of type %d bytes where 32 bits or fewer are meant", b)
		}
		return s.at, nil
	case Immediate:
		v := o.Bits
		if o.Float && o.Wide {
			return 0, fmt.Errorf("a number of 64 bits where 32 are meant")
		}
		switch t.bytes() {
		case 1:
			v &= 0xff
		case 2:
			v &= 0xffff
		}
		return c.number32(uint32(v)), nil
	case Special:
		return c.special(o.Name), nil
	case Symbol:
		s, err := c.resolve(o.Name)
		return c.number32(uint32(s.address + o.Bits)), err
	default:
		return 0, fmt.Errorf("an operand is neither register nor number")
	}
}

// source64 returns the register that holds an operand of 64 bits.
func (c *compiler) source64(o Operand) (int, error) {
	switch o.Kind {
	case Reg:
		if s := c.slot(o.Index); s.kind.bytes() == 8 {
			return s.at, nil
		}
		return 0, fmt.Errorf("a register of fewer than 64 bits where 64 are meant")
	case Immediate:
		return c.number64(o.Bits), nil
	case Symbol:
		s, err := c.resolve(o.Name)
		return c.number64(s.address + o.Bits), err
	default:
		return 0, fmt.Errorf("an operand is neither register nor number")
	}
}

// predicate returns the predicate that an operand names. Callers that can negate it look at Negate themselves.
func (c *compiler) predicate(o Operand) (int, error) {
	switch o.Kind {
	case Reg:
		if s := c.slot(o.Index); s.kind == Pred {
			return s.at, nil
		}
	case Immediate:
		at := &c.truths[min(o.Bits, 1)]
		if *at == 0 {
			c.k.preds++
			*at = c.k.preds
			c.k.fixedPreds = append(c.k.fixedPreds, fixed32{*at - 1, -uint32(min(o.Bits, 1))})
		}
		return *at - 1, nil
	default:
	}
	return 0, fmt.Errorf("an operand is no predicate")
}

// destination returns the register that an operand names, of any width.
func (c *compiler) destination(o Operand) (slot, error) {
	if o.Kind != Reg || o.Negate {
		return slot{}, fmt.Errorf("the destination is no register")
	}
	return c.slot(o.Index), nil
}

// operands checks their number.
func (c *compiler) operands(n int) ([]Operand, error) {
	if len(c.at.Operands) != n {
		return nil, fmt.Errorf("%d operands, want %d", len(c.at.Operands), n)
	}
	return c.at.Operands, nil
}

// sources32 returns the registers of some operands.
func (c *compiler) sources32(t Type, operands ...Operand) (at [4]int, err error) {
	for i, o := range operands {
		if at[i], err = c.source32(o, t); err != nil {
			return at, err
		}
	}
	return at, nil
}

// sources64 returns the registers of some operands.
func (c *compiler) sources64(operands ...Operand) (at [4]int, err error) {
	for i, o := range operands {
		if at[i], err = c.source64(o); err != nil {
			return at, err
		}
	}
	return at, nil
}

// set32 makes the instruction write what fill computes for all lanes; lanes outside the mask keep their value.
func (c *compiler) set32(d Operand, fill func(w *warp, z *lanes32)) error {
	s, err := c.destination(d)
	if err != nil {
		return err
	}
	if b := s.kind.bytes(); b == 0 || b == 8 {
		return fmt.Errorf("the destination has %d bytes, want 4 or fewer", b)
	}
	at, narrow := s.at, s.kind.bytes() == 2
	c.op.run = func(w *warp, m uint32) {
		z := &w.r[at]
		if m == allLanes && !narrow {
			fill(w, z)
			return
		}
		fill(w, &w.scratch32)
		if narrow {
			for i := range w.scratch32 {
				w.scratch32[i] &= 0xffff
			}
		}
		for i := range z {
			if m>>i&1 != 0 {
				z[i] = w.scratch32[i]
			}
		}
	}
	return nil
}

// set64 is set32 for 64 bits.
func (c *compiler) set64(d Operand, fill func(w *warp, z *lanes64)) error {
	s, err := c.destination(d)
	if err != nil {
		return err
	}
	if s.kind.bytes() != 8 {
		return fmt.Errorf("the destination has fewer than 64 bits")
	}
	at := s.at
	c.op.run = func(w *warp, m uint32) {
		z := &w.q[at]
		if m == allLanes {
			fill(w, z)
			return
		}
		fill(w, &w.scratch64)
		for i := range z {
			if m>>i&1 != 0 {
				z[i] = w.scratch64[i]
			}
		}
	}
	return nil
}

// setPred makes the instruction write a predicate.
func (c *compiler) setPred(d Operand, fill func(w *warp) uint32) error {
	s, err := c.destination(d)
	if err != nil {
		return err
	}
	if s.kind != Pred {
		return fmt.Errorf("the destination is no predicate")
	}
	at := s.at
	c.op.run = func(w *warp, m uint32) { w.p[at] = w.p[at]&^m | fill(w)&m }
	return nil
}
