package ptxemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds on what a text may ask for before anything is allocated.
const (
	maxText      = 64 << 20
	maxVariable  = 1 << 26 // bytes
	maxRegisters = 1 << 16 // of an entry
	maxDepth     = 64      // of braces
)

// Parse reads the text of a PTX module.
func Parse(text string) (*Program, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("parse PTX: %d bytes, at most %d", len(text), maxText)
	}
	p := &parser{lexer: lexer{text: text, line: 1}, program: &Program{}}
	if err := p.module(); err != nil {
		return nil, fmt.Errorf("parse PTX: %w", err)
	}
	return p.program, nil
}

// parser reads one token ahead. The first error ends it.
type parser struct {
	lexer
	token   token
	last    int // end of the token before
	program *Program

	entry  *Entry
	scopes []map[string]int // names of registers to their index, innermost last
	labels map[string]int
	jumps  []jump // operands that name labels not seen yet
}

// jump is a use of a label.
type jump struct {
	instruction, operand int
	name                 string
}

func (p *parser) advance() error {
	p.last = p.token.end
	var err error
	p.token, err = p.next()
	return err
}

func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", p.token.line, fmt.Sprintf(format, args...))
}

// take returns the current token's text and goes on.
func (p *parser) take() (string, error) {
	text := p.token.text
	if text == "" {
		return "", p.fail("the text ends too early")
	}
	return text, p.advance()
}

// want consumes a certain token.
func (p *parser) want(text string) error {
	if p.token.text != text {
		return p.fail("got %q, want %q", p.token.text, text)
	}
	return p.advance()
}

// accept consumes a certain token when it is there.
func (p *parser) accept(text string) (bool, error) {
	if p.token.text != text {
		return false, nil
	}
	return true, p.advance()
}

// word consumes a name.
func (p *parser) word() (string, error) {
	if p.token.text == "" || !wordStart(p.token.text[0]) {
		return "", p.fail("got %q, want a name", p.token.text)
	}
	return p.take()
}

// integer consumes a number without sign, below limit.
func (p *parser) integer(limit int) (int, error) {
	v, err := strconv.ParseUint(strings.TrimSuffix(p.token.text, "U"), 0, 63)
	if err != nil || v >= uint64(limit) {
		return 0, p.fail("got %q, want a number below %d", p.token.text, limit)
	}
	return int(v), p.advance()
}

// skip consumes everything up to and with a token.
func (p *parser) skip(until string) error {
	for p.token.text != until {
		if _, err := p.take(); err != nil {
			return err
		}
	}
	return p.advance()
}

func (p *parser) module() error {
	if err := p.advance(); err != nil {
		return err
	}
	for p.token.text != "" {
		if err := p.topLevel(); err != nil {
			return err
		}
	}
	if p.program.Version == "" {
		return errors.New("no .version line: this is no PTX")
	}
	return nil
}

// topLevel reads one declaration of a module.
func (p *parser) topLevel() error {
	if ok, err := p.accept(";"); ok || err != nil {
		return err
	}
	if err := p.want("."); err != nil {
		return err
	}
	word, err := p.word()
	if err != nil {
		return err
	}
	switch word {
	case "version":
		p.program.Version, err = p.take()
		return err
	case "target":
		if p.program.Target, err = p.word(); err != nil {
			return err
		}
		for p.token.text == "," {
			if err := p.advance(); err != nil {
				return err
			}
			if _, err := p.word(); err != nil {
				return err
			}
		}
		return nil
	case "address_size":
		bits, err := p.integer(65)
		if err == nil && bits != 64 {
			return p.fail("addresses of %d bits; only 64 are known", bits)
		}
		return err
	case "visible", "weak", "extern", "common":
		return nil
	case "file":
		if _, err := p.integer(1 << 30); err != nil {
			return err
		}
		_, err := p.take()
		return err
	case "entry":
		return p.kernel()
	case "global", "const", "shared":
		v, err := p.variable(word)
		p.program.Variables = append(p.program.Variables, v)
		return err
	}
	return p.fail("unknown declaration .%s", word)
}

// variable reads a declaration behind its space, with its semicolon.
func (p *parser) variable(space string) (Variable, error) {
	v := Variable{Align: 1, Space: map[string]Space{"global": Global, "const": Const, "shared": Shared, "local": Local}[space]}
	element := Untyped
	for element == Untyped {
		if err := p.want("."); err != nil {
			return v, err
		}
		word, err := p.word()
		if err != nil {
			return v, err
		}
		if word == "align" {
			if v.Align, err = p.integer(1025); err != nil {
				return v, err
			}
			if v.Align == 0 || v.Align&(v.Align-1) != 0 {
				return v, p.fail("an alignment of %d is no power of two", v.Align)
			}
			continue
		}
		if element = parseType(word); element.bytes() == 0 {
			return v, p.fail("unknown type .%s", word)
		}
	}
	var err error
	if v.Name, err = p.word(); err != nil {
		return v, err
	}
	v.Align = max(v.Align, element.bytes())
	v.Bytes = element.bytes()
	for p.token.text == "[" {
		if err := p.advance(); err != nil {
			return v, err
		}
		if p.token.text == "]" {
			v.Bytes = 0
		} else {
			n, err := p.integer(maxVariable)
			if err != nil {
				return v, err
			}
			if v.Bytes *= n; v.Bytes > maxVariable {
				return v, p.fail("%s is larger than %d bytes", v.Name, maxVariable)
			}
		}
		if err := p.want("]"); err != nil {
			return v, err
		}
	}
	if ok, err := p.accept("="); err != nil {
		return v, err
	} else if ok {
		if v.Data, err = p.initial(element, v.Bytes); err != nil {
			return v, err
		}
	}
	return v, p.want(";")
}

// initial reads the values of a variable.
func (p *parser) initial(element Type, limit int) ([]byte, error) {
	var data []byte
	for {
		switch p.token.text {
		case "{", ",":
		case "}", ";":
			if p.token.text == "}" {
				if err := p.advance(); err != nil {
					return nil, err
				}
			}
			return data, nil
		default:
			o, err := p.number()
			if err != nil {
				return nil, err
			}
			if data = binary.LittleEndian.AppendUint64(data, o.Bits); len(data)-8+element.bytes() > limit {
				return nil, p.fail("more values than the variable holds")
			}
			data = data[:len(data)-8+element.bytes()]
			continue
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
}

// kernel reads an entry behind its directive.
func (p *parser) kernel() error {
	name, err := p.word()
	if err != nil {
		return err
	}
	p.entry = &Entry{Name: name}
	p.labels, p.jumps = map[string]int{}, nil
	p.scopes = []map[string]int{{}}
	if p.token.text == "(" {
		if err := p.params(); err != nil {
			return err
		}
	}
	for p.token.text == "." {
		if err := p.advance(); err != nil {
			return err
		}
		directive, err := p.word()
		if err != nil {
			return err
		}
		product := 1
		for p.token.text != "" && digit(p.token.text[0]) {
			n, err := p.integer(1 << 16)
			if err != nil {
				return err
			}
			product = min(product*max(n, 1), 1<<20)
			if _, err := p.accept(","); err != nil {
				return err
			}
		}
		if directive == "maxntid" || directive == "reqntid" {
			p.entry.MaxThreads = product
		}
	}
	if err := p.want("{"); err != nil {
		return err
	}
	for len(p.scopes) > 0 {
		if err := p.statement(); err != nil {
			return err
		}
	}
	for _, j := range p.jumps {
		target, ok := p.labels[j.name]
		if !ok {
			return fmt.Errorf("line %d: kernel %s has no label or name %q", p.entry.Body[j.instruction].Line, name, j.name)
		}
		p.entry.Body[j.instruction].Operands[j.operand] = Operand{Kind: Label, Index: target, Name: j.name}
	}
	for _, other := range p.program.Entries {
		if other.Name == name {
			return p.fail("kernel %s is there twice", name)
		}
	}
	p.program.Entries = append(p.program.Entries, p.entry)
	return nil
}

// params reads the parameters of an entry.
func (p *parser) params() error {
	if err := p.advance(); err != nil {
		return err
	}
	offset := 0
	for p.token.text != ")" {
		if err := p.want("."); err != nil {
			return err
		}
		if err := p.want("param"); err != nil {
			return err
		}
		// A parameter is declared like a variable, with a comma or parenthesis behind it.
		align, element := 1, Untyped
		for p.token.text == "." {
			if err := p.advance(); err != nil {
				return err
			}
			word, err := p.word()
			if err != nil {
				return err
			}
			switch word {
			case "align":
				if align, err = p.integer(129); err != nil {
					return err
				}
			case "ptr", "global", "const", "shared", "local":
			default:
				if element = parseType(word); element.bytes() == 0 {
					return p.fail("unknown type .%s", word)
				}
			}
		}
		name, err := p.word()
		if err != nil {
			return err
		}
		bytes := element.bytes()
		if ok, err := p.accept("["); err != nil {
			return err
		} else if ok {
			n, err := p.integer(4097)
			if err != nil {
				return err
			}
			bytes *= n
			if err := p.want("]"); err != nil {
				return err
			}
		}
		if align = max(align, element.bytes()); align == 0 {
			return p.fail("parameter %s has no type", name)
		}
		offset = (offset + align - 1) / align * align
		p.entry.Params = append(p.entry.Params, Param{Name: name, Offset: offset, Bytes: bytes})
		if offset += bytes; offset > 4096 {
			return p.fail("more than 4096 bytes of parameters")
		}
		if ok, err := p.accept(","); err != nil {
			return err
		} else if !ok && p.token.text != ")" {
			return p.fail("got %q behind a parameter", p.token.text)
		}
	}
	return p.advance()
}
