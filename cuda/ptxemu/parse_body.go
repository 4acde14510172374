package ptxemu

import (
	"fmt"
	"strconv"
	"strings"
)

// statement reads a line of a kernel's body: a declaration, label, brace or instruction.
func (p *parser) statement() error {
	switch p.token.text {
	case "{":
		if len(p.scopes) == maxDepth {
			return p.fail("more than %d braces inside each other", maxDepth)
		}
		p.scopes = append(p.scopes, map[string]int{})
		return p.advance()
	case "}":
		p.scopes = p.scopes[:len(p.scopes)-1]
		return p.advance()
	case ";":
		return p.advance()
	case ".":
		return p.bodyDirective()
	}
	at := p.token
	guard := Operand{}
	if p.token.text == "@" {
		if err := p.advance(); err != nil {
			return err
		}
		var err error
		if guard, err = p.operand(); err != nil {
			return err
		}
		if guard.Kind != Reg || p.entry.Registers[guard.Index].Type != Pred {
			return p.fail("a guard is no predicate register")
		}
	}
	name, err := p.word()
	if err != nil {
		return err
	}
	if p.token.text == ":" && guard.Kind == None {
		if _, twice := p.labels[name]; twice {
			return p.fail("label %s is there twice", name)
		}
		p.labels[name] = len(p.entry.Body)
		return p.advance()
	}
	i := Instruction{Line: at.line, Start: at.start, Guard: guard, Op: []string{name}}
	if err := p.instruction(&i); err != nil {
		return err
	}
	p.entry.Body = append(p.entry.Body, i)
	return nil
}

// instruction reads modifiers and operands up to the semicolon.
func (p *parser) instruction(i *Instruction) error {
	for p.token.text == "." {
		if err := p.advance(); err != nil {
			return err
		}
		modifier, err := p.take()
		if err != nil {
			return err
		}
		i.Op = append(i.Op, modifier)
		if p.token.text == ":" { // what follows "::", as in .shared::cta, says nothing new
			for range 2 {
				if err := p.want(":"); err != nil {
					return err
				}
			}
			if _, err := p.take(); err != nil {
				return err
			}
		}
	}
	for p.token.text != ";" {
		if len(i.Operands) > 0 {
			if err := p.want(","); err != nil {
				return err
			}
		}
		o, err := p.operand()
		if err != nil {
			return err
		}
		if ok, err := p.accept("|"); err != nil {
			return err
		} else if ok {
			second, err := p.operand()
			if err != nil {
				return err
			}
			o = Operand{Kind: Pair, Parts: []Operand{o, second}}
		}
		if o.Kind == Symbol && i.Op[0] == "bra" {
			p.jumps = append(p.jumps, jump{len(p.entry.Body), len(i.Operands), o.Name})
		}
		if len(i.Operands) == 16 {
			return p.fail("more than 16 operands")
		}
		i.Operands = append(i.Operands, o)
	}
	i.End = p.token.end
	return p.advance()
}

// bodyDirective reads a declaration inside a kernel.
func (p *parser) bodyDirective() error {
	if err := p.advance(); err != nil {
		return err
	}
	word, err := p.word()
	if err != nil {
		return err
	}
	switch word {
	case "reg":
		return p.registers()
	case "shared", "local":
		v, err := p.variable(word)
		p.entry.Variables = append(p.entry.Variables, v)
		return err
	case "pragma":
		return p.skip(";")
	case "loc":
		line := p.token.line
		for p.token.line == line && p.token.text != "" {
			if err := p.advance(); err != nil {
				return err
			}
		}
		return nil
	}
	return p.fail("unknown declaration .%s in a kernel", word)
}

// registers reads the names behind .reg.
func (p *parser) registers() error {
	if err := p.want("."); err != nil {
		return err
	}
	word, err := p.word()
	if err != nil {
		return err
	}
	kind := parseType(word)
	if kind == Untyped {
		return p.fail("unknown type .%s of registers", word)
	}
	for {
		name, err := p.word()
		if err != nil {
			return err
		}
		names := []string{name}
		if ok, err := p.accept("<"); err != nil {
			return err
		} else if ok {
			n, err := p.integer(maxRegisters)
			if err != nil {
				return err
			}
			names = names[:0]
			for i := range n {
				names = append(names, name+strconv.Itoa(i))
			}
			if err := p.want(">"); err != nil {
				return err
			}
		}
		if len(p.entry.Registers)+len(names) > maxRegisters {
			return p.fail("more than %d registers", maxRegisters)
		}
		for _, name := range names {
			p.scopes[len(p.scopes)-1][name] = len(p.entry.Registers)
			p.entry.Registers = append(p.entry.Registers, Register{name, kind})
		}
		if ok, err := p.accept(","); err != nil {
			return err
		} else if !ok {
			return p.want(";")
		}
	}
}

// register finds a name in the scopes, innermost first.
func (p *parser) register(name string) (int, bool) {
	for i := len(p.scopes) - 1; i >= 0; i-- {
		if index, ok := p.scopes[i][name]; ok {
			return index, true
		}
	}
	return 0, false
}

// operand reads an operand.
func (p *parser) operand() (Operand, error) {
	switch text := p.token.text; {
	case text == "[":
		return p.address()
	case text == "{":
		return p.vector()
	case text == "!":
		if err := p.advance(); err != nil {
			return Operand{}, err
		}
		index, ok := p.register(p.token.text)
		if !ok {
			return Operand{}, p.fail("only a register can be negated")
		}
		return Operand{Kind: Reg, Index: index, Negate: true}, p.advance()
	case text == "-" || text != "" && digit(text[0]):
		return p.number()
	}
	name, err := p.word()
	if err != nil {
		return Operand{}, err
	}
	if name == "_" {
		return Operand{Kind: Sink}, nil
	}
	if index, ok := p.register(name); ok {
		return Operand{Kind: Reg, Index: index}, nil
	}
	if strings.HasPrefix(name, "%") {
		name = name[1:]
		if ok, err := p.accept("."); err != nil {
			return Operand{}, err
		} else if ok {
			axis, err := p.word()
			if err != nil {
				return Operand{}, err
			}
			name += "." + axis
		}
		if !specialName(name) {
			return Operand{}, p.fail("register %%%s is not declared", name)
		}
		return Operand{Kind: Special, Name: name}, nil
	}
	o := Operand{Kind: Symbol, Name: name}
	if p.token.text == "+" || p.token.text == "-" {
		o.Bits, err = p.offset()
	}
	return o, err
}

// plain reads an operand that has no parts.
func (p *parser) plain() (Operand, error) {
	if p.token.text == "{" || p.token.text == "[" {
		return Operand{}, p.fail("got %q, want a register, name or number", p.token.text)
	}
	return p.operand()
}

// offset reads a signed number.
func (p *parser) offset() (uint64, error) {
	if _, err := p.accept("+"); err != nil {
		return 0, err
	}
	o, err := p.number()
	return o.Bits, err
}

// number reads an integer or the bits of a float.
func (p *parser) number() (Operand, error) {
	o := Operand{Kind: Immediate}
	negative, err := p.accept("-")
	if err != nil {
		return o, err
	}
	text := strings.TrimSuffix(p.token.text, "U")
	if len(text) == 0 || !digit(text[0]) {
		return o, p.fail("got %q, want a number", p.token.text)
	}
	switch {
	case len(text) == 10 && (text[:2] == "0f" || text[:2] == "0F"):
		o.Float = true
		o.Bits, err = strconv.ParseUint(text[2:], 16, 32)
		if negative {
			o.Bits ^= 1 << 31
		}
	case len(text) == 18 && (text[:2] == "0d" || text[:2] == "0D"):
		o.Float, o.Wide = true, true
		o.Bits, err = strconv.ParseUint(text[2:], 16, 64)
		if negative {
			o.Bits ^= 1 << 63
		}
	default:
		o.Bits, err = strconv.ParseUint(text, 0, 64)
		if negative {
			o.Bits = -o.Bits
		}
	}
	if err != nil {
		return o, p.fail("%q is no number", text)
	}
	return o, p.advance()
}

// address reads [base+offset].
func (p *parser) address() (Operand, error) {
	if err := p.advance(); err != nil {
		return Operand{}, err
	}
	base, err := p.plain()
	if err != nil {
		return Operand{}, err
	}
	o := Operand{Kind: Address, Parts: []Operand{base}}
	switch base.Kind {
	case Reg:
		if p.token.text == "+" || p.token.text == "-" {
			if o.Bits, err = p.offset(); err != nil {
				return o, err
			}
		}
	case Symbol:
		o.Bits, o.Parts[0].Bits = base.Bits, 0
	case Immediate:
	default:
		return o, p.fail("an address begins with neither register nor name")
	}
	return o, p.want("]")
}

// vector reads {a, b, …}.
func (p *parser) vector() (Operand, error) {
	o := Operand{Kind: Vector}
	if err := p.advance(); err != nil {
		return o, err
	}
	for {
		part, err := p.plain()
		if err != nil {
			return o, err
		}
		if len(o.Parts) == 8 {
			return o, p.fail("a vector holds at most 8 registers and numbers")
		}
		o.Parts = append(o.Parts, part)
		if ok, err := p.accept("}"); ok || err != nil {
			return o, err
		}
		if err := p.want(","); err != nil {
			return o, err
		}
	}
}

// specialName reports whether a register is one that the card fills.
func specialName(name string) bool {
	base, axis, _ := strings.Cut(name, ".")
	switch base {
	case "tid", "ntid", "ctaid", "nctaid":
		return axis == "x" || axis == "y" || axis == "z"
	case "laneid", "warpid", "lanemask_lt", "lanemask_le", "lanemask_gt", "lanemask_ge", "lanemask_eq", "dynamic_smem_size":
		return axis == ""
	}
	return false
}

// text returns an instruction as the source writes it, for reports.
func (i *Instruction) text(source string) string {
	if i.End > len(source) {
		return i.Name()
	}
	return strings.Join(strings.Fields(source[i.Start:i.End]), " ")
}

// String says where the instruction stands.
func (i *Instruction) String() string { return fmt.Sprintf("line %d: %s", i.Line, i.Name()) }
