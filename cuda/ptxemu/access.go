package ptxemu

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// mode says what an access does.
type mode uint8

const (
	load mode = iota
	store
	modify  // atomically
	deposit // by cp.async
)

// access is what the checks need to know of an instruction that touches memory.
type access struct {
	pc    int32
	space Space
	mode  mode
	bytes int // of one lane
	wide  bool
	slot  int // of the base, in q with wide
	add   uint64
}

// access compiles an address operand.
func (c *compiler) access(o Operand, space Space, m mode, bytes int) (*access, error) {
	if o.Kind != Address {
		return nil, fmt.Errorf("an operand is no address")
	}
	a := &access{pc: c.pc, space: space, mode: m, bytes: bytes, add: o.Bits}
	base := o.Parts[0]
	var err error
	switch base.Kind {
	case Reg:
		s := c.slot(base.Index)
		if a.wide, a.slot = s.kind.bytes() == 8, s.at; s.kind.bytes() < 4 {
			return nil, fmt.Errorf("an address of fewer than 32 bits")
		}
	case Symbol:
		s, resolved := c.resolve(base.Name)
		if resolved != nil {
			return nil, resolved
		}
		switch {
		case space == Generic:
			a.space = s.space
		case s.space != space:
			return nil, fmt.Errorf("%s is no .%s variable", base.Name, space)
		}
		a.wide = true
		a.slot = c.number64(s.address)
	case Immediate:
		a.wide = true
		a.slot, err = c.source64(base)
	default:
		return nil, fmt.Errorf("an operand is no address")
	}
	switch a.space {
	case Shared:
		c.k.grain.admit(bytes)
	case Global, Generic, Const:
		c.k.gridwide.admit(bytes)
		if a.space == Generic {
			c.k.grain.admit(bytes)
		}
	case Local, Parameter:
	}
	return a, err
}

// locate computes the addresses of all lanes.
func (w *warp) locate(a *access) {
	if a.wide {
		base := &w.q[a.slot]
		for i := range w.address {
			w.address[i] = base[i] + a.add
		}
		return
	}
	base := &w.r[a.slot]
	for i := range w.address {
		w.address[i] = uint64(base[i] + uint32(a.add))
	}
}

// reach checks an access by the lanes of m, whose addresses locate computed. It
// returns the memory of the first lane, turns addresses of lanes in the same
// memory into places there and says which lanes these are; none after a fault.
func (w *warp) reach(a *access, m uint32) (data []byte, same uint32) {
	first := bits.TrailingZeros32(m)
	at := w.address[first]
	space := a.space
	if space == Generic {
		switch {
		case at >= localWindow && at < localWindow+windowBytes:
			space = Local
		case at >= sharedWindow && at < sharedWindow+windowBytes:
			space = Shared
		default:
			space = Global
		}
	}
	for rest, crooked := m, uint64(a.bytes-1); rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros32(rest) & 31; w.address[i]&crooked != 0 {
			w.fault(Misaligned, i, "%d bytes at %#x", a.bytes, w.address[i])
			return nil, 0
		}
	}
	switch space {
	case Shared:
		return w.reachShared(a, m)
	case Local:
		return w.reachLocal(a, m)
	case Parameter:
		return w.block.worker.launch.params, m
	default:
		return w.reachGlobal(a, m)
	}
}

func (w *warp) reachShared(a *access, m uint32) ([]byte, uint32) {
	var window uint64
	if a.space == Generic {
		window = sharedWindow
	}
	b := w.block
	same := uint32(0)
	for rest := m; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros32(rest) & 31
		at := w.address[i] - window
		if at >= windowBytes && a.space == Generic {
			continue
		}
		if at > uint64(len(b.shared)) || uint64(len(b.shared))-at < uint64(a.bytes) {
			w.fault(Outside, i, "%d bytes at byte %d of %d of shared memory", a.bytes, at, len(b.shared))
			return nil, 0
		}
		w.address[i] = at
		same |= 1 << i
	}
	b.worker.conflicts(w, a.pc, same, a.bytes)
	if a.mode == load && !w.readCells(same, a.bytes) || a.mode != load && !w.writeCells(same, a.bytes, a.mode) {
		return nil, 0
	}
	return b.shared, same
}

func (w *warp) reachLocal(a *access, m uint32) ([]byte, uint32) {
	var window uint64
	if a.space == Generic {
		window = localWindow
	}
	size, same := uint64(w.block.worker.kernel.local), uint32(0)
	for rest := m; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros32(rest) & 31
		at := w.address[i] - window
		if at >= windowBytes && a.space == Generic {
			continue
		}
		if at > size || size-at < uint64(a.bytes) {
			w.fault(Outside, i, "%d bytes at byte %d of %d of local memory", a.bytes, at, size)
			return nil, 0
		}
		w.address[i] = at + uint64(i)*size
		same |= 1 << i
	}
	return w.local, same
}

func (w *warp) reachGlobal(a *access, m uint32) ([]byte, uint32) {
	worker := w.block.worker
	site := &worker.sites[a.pc]
	first := bits.TrailingZeros32(m)
	if h := site.hit; h == nil || !h.holds(w.address[first], a.bytes) {
		memory := worker.launch.memory
		found := memory.find(w.address[first])
		if found == nil || !found.holds(w.address[first], a.bytes) {
			kind, detail := memory.explain(found, w.address[first], a.bytes)
			w.fault(kind, first, "%s", detail)
			return nil, 0
		}
		site.hit, site.trail = found, worker.trail(found)
		site.touched = worker.footprint(found, a.mode)
	}
	h, same := site.hit, uint32(0)
	if h.constant && a.mode != load {
		w.fault(Outside, first, "writes the constant %s", h.name)
		return nil, 0
	}
	worker.coalescing(w, a.pc, m, a.bytes)
	last := h.size - uint64(a.bytes)
	touched := site.touched
	for rest := m; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros32(rest) & 31
		at := w.address[i] - h.base
		if at > last {
			continue
		}
		same |= 1 << i
		w.address[i] = at
		touched[at>>11] |= 1 << (at >> 5 & 63)
	}
	if h.written != nil && !w.initialised(h, a, same) || site.trail != nil && !w.follow(site.trail, same, a) {
		return nil, 0
	}
	return h.data, same
}

// initialised checks that what lanes use was written, and notes what they write.
func (w *warp) initialised(h *allocation, a *access, m uint32) bool {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		at := w.address[i]
		if a.mode != store && h.unwritten(at, a.bytes) {
			w.fault(Uninitialised, i, "byte %d of an allocation of %d bytes was never written", at, h.size)
			return false
		}
		if a.mode != load {
			h.mark(at, a.bytes)
		}
	}
	return true
}

// loadStore compiles ld and st.
func (c *compiler) loadStore() error {
	i := c.at
	operands, err := c.operands(2)
	if err != nil {
		return err
	}
	space, width, count, m := Generic, Untyped, 1, load
	for _, modifier := range i.Op[1:] {
		switch modifier {
		case "global":
			space = Global
		case "shared":
			space = Shared
		case "local":
			space = Local
		case "const":
			space = Const
		case "param":
			space = Parameter
		case "v2":
			count = 2
		case "v4":
			count = 4
		case "nc", "ca", "cg", "cs", "cv", "lu", "wb", "wt", "volatile", "relaxed", "weak", "gpu", "cta", "sys":
		case "L1", "L2", "evict_first", "evict_last", "no_allocate", "evict_normal", "64B", "128B", "256B":
		default:
			if width = parseType(modifier); width.bytes() == 0 {
				return fmt.Errorf("unknown modifier .%s", modifier)
			}
		}
	}
	if width == Untyped {
		return fmt.Errorf("no type")
	}
	address, value := operands[1], operands[0]
	if i.Op[0] == "st" {
		address, value, m = operands[0], operands[1], store
		if space == Const || space == Parameter {
			return fmt.Errorf("a store to .%s", space)
		}
	}
	a, err := c.access(address, space, m, width.bytes()*count)
	if err != nil {
		return err
	}
	if a.space == Parameter {
		return c.loadParameter(value, address, width)
	}
	parts := []Operand{value}
	if value.Kind == Vector {
		parts = value.Parts
	}
	if len(parts) != count || count*width.bytes() > 16 {
		return fmt.Errorf("%d registers for %d values of %d bytes", len(parts), count, width.bytes())
	}
	slots := make([]slot, count)
	for k, part := range parts {
		if slots[k], err = c.memoryOperand(part, width, m); err != nil {
			return err
		}
	}
	if m == store {
		c.op.run = func(w *warp, m uint32) {
			w.locate(a)
			for m != 0 {
				data, same := w.reach(a, m)
				for k, s := range slots {
					w.store(data, same, uint64(k*width.bytes()), s, width)
				}
				if m &^= same; data == nil {
					return
				}
			}
		}
		return nil
	}
	c.op.run = func(w *warp, m uint32) {
		w.locate(a)
		for m != 0 {
			data, same := w.reach(a, m)
			for k, s := range slots {
				w.load(data, same, uint64(k*width.bytes()), s, width)
			}
			if m &^= same; data == nil {
				return
			}
		}
	}
	return nil
}

// memoryOperand returns where a value comes from or goes to.
func (c *compiler) memoryOperand(o Operand, width Type, m mode) (slot, error) {
	if m == store && o.Kind != Reg {
		if width.bytes() == 8 {
			at, err := c.source64(o)
			return slot{B64, at}, err
		}
		at, err := c.source32(o, width)
		return slot{B32, at}, err
	}
	s, err := c.destination(o)
	if err == nil && s.kind.bytes() < min(width.bytes(), 2) || s.kind.bytes() < width.bytes() {
		err = fmt.Errorf("a register is narrower than the value")
	}
	return s, err
}

// loadParameter compiles a load of a parameter, which is the same for all lanes.
func (c *compiler) loadParameter(value, address Operand, width Type) error {
	s, err := c.destination(value)
	if err != nil {
		return err
	}
	base, err := c.resolve(address.Parts[0].Name)
	if err != nil {
		return err
	}
	from := base.address + address.Bits
	if address.Parts[0].Kind != Symbol || from > uint64(c.k.params) || uint64(c.k.params)-from < uint64(width.bytes()) {
		return fmt.Errorf("a parameter that the kernel does not have")
	}
	field := width.field()
	c.op.run = func(w *warp, m uint32) {
		w.put(s, m, field.of(read(w.block.worker.launch.params[from:], width.bytes())))
	}
	return nil
}

// put sets the lanes of a register to one value.
func (w *warp) put(s slot, m uint32, v uint64) {
	bytes := s.kind.bytes()
	if bytes == 2 {
		v &= 0xffff
	}
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		if bytes == 8 {
			w.q[s.at][i] = v
		} else {
			w.r[s.at][i] = uint32(v)
		}
	}
}

// read returns a little-endian value of 1, 2, 4 or 8 bytes.
func read(data []byte, bytes int) uint64 {
	switch bytes {
	case 1:
		return uint64(data[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(data))
	case 4:
		return uint64(binary.LittleEndian.Uint32(data))
	}
	return binary.LittleEndian.Uint64(data)
}

// write is the reverse of read.
func write(data []byte, bytes int, v uint64) {
	switch bytes {
	case 1:
		data[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(data, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(data, uint32(v))
	default:
		binary.LittleEndian.PutUint64(data, v)
	}
}

// load fills a register from where reach found the lanes.
func (w *warp) load(data []byte, m uint32, add uint64, s slot, width Type) {
	if width.bytes() == 4 && s.kind.bytes() == 4 {
		z := &w.r[s.at]
		for ; m != 0; m &= m - 1 {
			i := bits.TrailingZeros32(m) & 31
			z[i] = binary.LittleEndian.Uint32(data[w.address[i]+add:])
		}
		return
	}
	field, bytes := width.field(), width.bytes()
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		w.put(s, 1<<i, field.of(read(data[w.address[i]+add:], bytes)))
	}
}

// store is the reverse of load.
func (w *warp) store(data []byte, m uint32, add uint64, s slot, width Type) {
	for ; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m) & 31
		if s.kind.bytes() == 8 {
			write(data[w.address[i]+add:], width.bytes(), w.q[s.at][i])
		} else {
			write(data[w.address[i]+add:], width.bytes(), uint64(w.r[s.at][i]))
		}
	}
}

// spaceOf returns the state space among modifiers.
func (i *Instruction) spaceOf() Space {
	for _, s := range []Space{Global, Const, Shared, Local, Parameter} {
		if slices.Contains(i.Op[1:], s.String()) {
			return s
		}
	}
	return Generic
}
