package ptxemu

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dunlin/compute"
	"dunlin/compute/computetest"
	"dunlin/cuda"
	"dunlin/cuda/driver"
	"dunlin/cuda/kernels"
)

// mutation is one change of a kernel that ought to break it.
type mutation struct {
	kind  string // "barrier", "wait", "guard", "offset+4", "offset-4", "swap", "mma", or "nothing"
	entry *Entry
	at    int // of the body
	text  string
}

func (m mutation) String() string { return fmt.Sprintf("%s %s: %s", m.kind, m.entry.Name, m.text) }

// mutations lists every mutation of a kernel.
func mutations(source string, e *Entry) (all []mutation) {
	for at := range e.Body {
		i := &e.Body[at]
		add := func(kind string) { all = append(all, mutation{kind, e, at, i.text(source)}) }
		switch op := i.Op[0]; {
		case op == "bar" || op == "barrier":
			add("barrier")
		case op == "cp" && (i.has("wait_group") || i.has("wait_all")):
			add("wait")
		case op == "mma":
			add("mma")
		case (op == "add" || op == "sub") && len(i.Op) >= 2:
			add("swap")
		}
		if i.Guard.Kind == Reg {
			add("guard")
		}
		if i.spaceOf() == Parameter {
			continue
		}
		for _, o := range i.Operands {
			if o.Kind == Address && (o.Bits != 0 || o.Parts[0].Kind == Symbol) {
				add("offset+4")
				add("offset-4")
				break
			}
		}
	}
	return all
}

// apply returns the kernel with the change.
func (m mutation) apply() *Entry {
	e := *m.entry
	e.Body = slices.Clone(e.Body)
	i := &e.Body[m.at]
	switch m.kind {
	case "nothing":
	case "barrier", "wait", "mma":
		i.Op, i.Operands = []string{"membar", "gl"}, nil
	case "guard":
		i.Guard = Operand{}
	case "swap":
		i.Op = slices.Clone(i.Op)
		i.Op[0] = map[string]string{"add": "sub", "sub": "add"}[i.Op[0]]
	default:
		i.Operands = slices.Clone(i.Operands)
		for k := range i.Operands {
			if o := &i.Operands[k]; o.Kind == Address && (o.Bits != 0 || o.Parts[0].Kind == Symbol) {
				shift, _ := strconv.Atoi(strings.TrimPrefix(m.kind, "offset"))
				o.Bits += uint64(int64(shift))
				break
			}
		}
	}
	return &e
}

// laboratory is a card with all kernels loaded, from which others are copied
// with one kernel changed, and what each case of the suite asks of the kernels.
type laboratory struct {
	precision compute.Precision
	template  *Context
	cards     []*Driver                // a small and a larger one: programs choose kernels by the number of multiprocessors
	modules   map[string]driver.Module // by text
	sources   map[string]string        // by kernel
	uses      map[string][]use         // by kernel, cheapest first
	longest   map[string]int64         // instructions of a launch of any kernel in a case that launches this one
	lanes     map[string][]uint64      // by kernel and place: threads that ran the instruction in all cases
}

// use is a case that launches a kernel.
type use struct {
	c    computetest.Case
	card *Driver
	cost uint64
}

// copyContext is a fresh card with the kernels of another one, one of them replaced.
type copyContext struct {
	*Context
	modules map[string]driver.Module
}

// LoadModule finds what the original card has loaded.
func (c copyContext) LoadModule(ptx []byte) (driver.Module, error) {
	m, ok := c.modules[string(ptx)]
	if !ok {
		return 0, errors.New("a module that the original does not have")
	}
	return m, nil
}

func newLaboratory(t *testing.T, p compute.Precision, wanted func(name string) bool) *laboratory {
	t.Helper()
	l := &laboratory{
		precision: p, modules: map[string]driver.Module{}, sources: map[string]string{}, uses: map[string][]use{}, longest: map[string]int64{}, lanes: map[string][]uint64{},
	}
	for _, multiprocessors := range []int{4, 1} {
		d, err := New(Config{Workers: 1, Uninitialised: true, Multiprocessors: multiprocessors})
		if err != nil {
			t.Fatal(err)
		}
		l.cards = append(l.cards, d)
	}
	l.template = newContext(l.cards[0])
	for _, m := range kernels.Modules(l.template.info.Capability()) {
		module, err := l.template.LoadModule(m.PTX)
		if err != nil {
			t.Fatal(err)
		}
		l.modules[string(m.PTX)] = module
		for name := range l.template.modules[module] {
			l.sources[name] = string(m.PTX)
		}
	}
	for _, card := range l.cards {
		c := l.copy(card, nil, 0)
		device, err := cuda.New(c, cuda.Options{Precision: p})
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		for _, suite := range computetest.Cases(p) {
			if !wanted(suite.Name) || card != l.cards[0] && !strings.HasPrefix(suite.Name, "matmul") {
				continue
			}
			c.ResetCounters()
			if err := suite.Check(device); err != nil {
				t.Fatalf("%s fails without any mutation: %v", suite.Name, err)
			}
			most := uint64(0)
			for _, k := range c.Counters() {
				most = max(most, k.Instructions)
			}
			for _, k := range c.Counters() {
				l.uses[k.Kernel] = append(l.uses[k.Kernel], use{suite, card, k.Instructions})
				l.longest[k.Kernel] = max(l.longest[k.Kernel], int64(most))
			}
		}
		for k, lanes := range c.lines {
			if l.lanes[k.name] == nil {
				l.lanes[k.name] = make([]uint64, len(lanes))
			}
			for pc, n := range lanes {
				l.lanes[k.name][pc] += n
			}
		}
	}
	for _, uses := range l.uses {
		slices.SortFunc(uses, func(a, b use) int { return cmp.Compare(a.cost, b.cost) })
	}
	return l
}

// copy returns a card with the template's kernels, one of them replaced.
func (l *laboratory) copy(card *Driver, changed *kernel, limit int64) copyContext {
	c := newContext(card)
	if c.handles = l.template.handles; limit > 0 {
		c.config.Limit = limit
	}
	c.modules = l.template.modules
	c.functions = maps.Clone(l.template.functions)
	c.memory.allocations = slices.Clone(l.template.memory.allocations)
	c.memory.next, c.memory.used = l.template.memory.next, l.template.memory.used
	for f, original := range c.functions {
		if changed != nil && original.name == changed.name {
			c.functions[f] = changed
		}
	}
	return copyContext{c, l.modules}
}

// kill runs a mutant's cases until one fails and returns what that found, nil for a survivor.
func (l *laboratory) kill(m mutation) error {
	symbols := map[string]symbol{}
	for _, a := range l.template.memory.allocations {
		space := Global
		if a.constant {
			space = Const
		}
		symbols[a.name] = symbol{space, a.base}
	}
	k, err := compile(l.sources[m.entry.Name], m.apply(), symbols, &l.template.config)
	if err != nil {
		return fmt.Errorf("does not compile: %w", err)
	}
	devices := map[*Driver]*cuda.Device{}
	for _, u := range l.uses[k.name] {
		device := devices[u.card]
		if device == nil {
			if device, err = cuda.New(l.copy(u.card, k, 4*l.longest[k.name]+1<<18), cuda.Options{Precision: l.precision}); err != nil {
				return err
			}
			devices[u.card] = device
		}
		if err = u.c.Check(device); err != nil {
			err = fmt.Errorf("%s: %w", u.c.Name, err)
			break
		}
	}
	for _, device := range devices {
		err = errors.Join(err, device.Close())
	}
	return err
}

// all returns every mutation of the kernels that cases use.
func (l *laboratory) all(t *testing.T) (all []mutation) {
	t.Helper()
	for source := range l.modules {
		program, err := Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range program.Entries {
			if l.uses[e.Name] == nil {
				continue
			}
			if err := l.kill(mutation{kind: "nothing", entry: e}); err != nil {
				t.Fatalf("%s is killed without any mutation: %v", e.Name, err)
			}
			all = append(all, mutations(source, e)...)
		}
	}
	slices.SortFunc(all, func(a, b mutation) int {
		return cmp.Or(strings.Compare(a.entry.Name, b.entry.Name), cmp.Compare(a.at, b.at), strings.Compare(a.kind, b.kind))
	})
	return all
}

// sample takes n mutations, evenly from all kernels and kinds.
func sample(all []mutation, n int, random *rand.Rand) (some []mutation) {
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	groups := map[string][]mutation{}
	for _, m := range all {
		key := m.kind + " " + m.entry.Name
		groups[key] = append(groups[key], m)
	}
	names := slices.Sorted(maps.Keys(groups))
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for round := 0; len(some) < min(n, len(all)); round++ {
		for _, name := range names {
			if round < len(groups[name]) && len(some) < n {
				some = append(some, groups[name][round])
			}
		}
	}
	return some
}

// tally is how many mutants of a kind died.
type tally struct{ killed, all int }

// judge runs mutants, lists those that survive with the reason, if one is known, and returns the share that died and that
// of those that live without a reason.
func judge(t *testing.T, l *laboratory, some []mutation) (died, unexplained float64) {
	t.Helper()
	verdicts := make([]error, len(some))
	var next atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for n := next.Add(1) - 1; n < int64(len(some)); n = next.Add(1) - 1 {
				verdicts[n] = l.kill(some[n])
			}
		})
	}
	all.Wait()
	kinds, kernels, total := map[string]*tally{}, map[string]*tally{}, &tally{}
	count := func(table map[string]*tally, key string) *tally {
		if table[key] == nil {
			table[key] = &tally{}
		}
		return table[key]
	}
	for n, m := range some {
		for _, c := range []*tally{count(kinds, m.kind), count(kernels, m.entry.Name), total} {
			c.all++
			if verdicts[n] != nil {
				c.killed++
			}
		}
		if verdicts[n] == nil {
			why := l.why(m)
			if why == "" {
				unexplained += 1 / float64(len(some))
				why = fmt.Sprintf("NO REASON KNOWN, %d threads ran it", l.lanes[m.entry.Name][m.at])
			}
			t.Logf("survivor: %v (line %d): %s", m, m.entry.Body[m.at].Line, why)
		}
	}
	for _, table := range []map[string]*tally{kinds, kernels} {
		for _, key := range slices.Sorted(maps.Keys(table)) {
			t.Logf("%-24s %4d of %4d killed", key, table[key].killed, table[key].all)
		}
	}
	t.Logf("%s: %d of %d killed, %.1f %%", l.precision, total.killed, total.all, 100*float64(total.killed)/float64(total.all))
	return float64(total.killed) / float64(total.all), unexplained
}

// reasons says why mutants survive. The first that fits counts; texts are without the numbers of registers.
func reasons() []reason {
	return []reason{
		{"barrier", "cross_entropy", "", "the first barrier of a reduction guards an array that nothing read before: the two reductions have one each"},
		{"barrier", "query_grad", "bar.warp", "barriers of the block between the two uses of the scores order them already"},
		{"swap", "adamw", "add.s64", "the piece begins at value 0 in vectors of fewer than 134 million values"},
		{"swap", "", ", 0f00000000;", "adding and subtracting zero are the same"},
	}
}

type reason struct{ kind, kernel, text, why string }

// why returns the reason for which a mutant survives, "" when none is known.
func (l *laboratory) why(m mutation) string {
	switch {
	case m.kind == "swap" && strings.Contains(m.entry.Name, "matmul_fp16") && halves(m.entry.Body, m.at):
		return "the scale is undone by two powers of two, and how it is split between them makes no difference"
	case m.kind == "swap" && (halves(m.entry.Body, m.at) || roundsQuotient(m.entry.Body, m.at)):
		return "the second operand makes a shift a division that rounds towards zero: 0 for numbers that are not negative, as here"
	case m.kind == "barrier" && closesTree(m.entry, m.at):
		return "after the last step of the tree each thread reads what it wrote itself"
	case m.entry.Name == "adamw" && looksForRange(m.entry.Body, m.at):
		return "a value's first range is found by halving, which spares the steps of the look that follows, or by that look alone"
	case m.kind == "swap" && takesEights(m.entry.Body, m.at):
		return "takes from a number below eight the multiple of eight in it, which is 0"
	case m.kind == "swap" && comparedWith(m.entry, m.at, "setp.lt.s32") == "positions":
		return "what lies beyond the last position is zero in shared memory, and rows beyond it, which alone see more, are not stored"
	case m.kind == "swap" && strings.HasSuffix(m.entry.Name, "_128") && comparedWith(m.entry, m.at, "setp.ge.s32") == "size" && m.entry.Body[m.at].Operands[2].Bits < 4:
		return "the first 64 values are there in every head of more than 64, which the kernel is for"
	case m.kind == "guard" && asksInfinity(m.entry.Body, m.at):
		return "the branch leads to what the library's logarithm does for infinity, which no sum of exponentials is"
	case m.kind == "guard" && asksHalf(m.entry.Body, m.at):
		return "the branch picks a division of 32 bits where both numbers fit, as they do below 4 billion rows"
	case m.kind == "guard" && asksWidth(m.entry, m.at, "setp.eq.s32"):
		return "the branch picks accesses of 16 bytes where rows allow them; one by one is slower and gives the same"
	case m.kind == "guard" && asksWidth(m.entry, m.at, "setp.ne.s32"):
		return "the bias is read by pairs: the value behind an odd number of them lies in the same 256 bytes of memory and is not used"
	}
	for _, r := range reasons() {
		if r.kind == m.kind && regexp.MustCompile(r.kernel).MatchString(m.entry.Name) && strings.Contains(m.text, r.text) {
			return r.why
		}
	}
	if l.lanes[m.entry.Name][m.at] == 0 && m.kind != "guard" {
		return "no case runs the instruction"
	}
	return ""
}

// roundsQuotient reports whether an addition adds x >> 31 >>> n, with which compilers prepare x for a division by a power of two.
func roundsQuotient(body []Instruction, at int) bool {
	return slices.ContainsFunc(body[at].Operands[1:], func(o Operand) bool {
		unsigned := definition(body, o, at)
		if unsigned < 0 || body[unsigned].Name() != "shr.u32" {
			return false
		}
		sign := definition(body, body[unsigned].Operands[1], unsigned)
		return sign >= 0 && body[sign].Name() == "shr.s32" && body[sign].Operands[2].Bits == 31
	})
}

// halves reports whether an addition adds x >>> 31, with which x is prepared for a division by 2.
func halves(body []Instruction, at int) bool {
	return slices.ContainsFunc(body[at].Operands[1:], func(o Operand) bool {
		sign := definition(body, o, at)
		return sign >= 0 && body[sign].Name() == "shr.u32" && body[sign].Operands[2].Bits == 31
	})
}

// closesTree reports whether a barrier is the last one of a kernel that ends with a sum of a block.
func closesTree(e *Entry, at int) bool {
	return regexp.MustCompile(`^sum_|_columns$`).MatchString(e.Name) && !slices.ContainsFunc(e.Body[at+1:], func(i Instruction) bool { return i.Op[0] == "bar" })
}

// looksForRange reports whether an instruction of adamw belongs to the search for the first value's range: it comes after that
// value's moments are read, and before it is stepped.
func looksForRange(body []Instruction, at int) bool {
	first := slices.IndexFunc(body, func(i Instruction) bool { return i.Name() == "div.rn.f32" })
	moments := slices.IndexFunc(body, func(i Instruction) bool { return i.Op[0] == "setp" && i.has("lt") && i.Operands[2].Kind == Immediate })
	return at > moments && at < first
}

// takesEights reports whether a difference takes x rounded down to a multiple of eight, by which the place of a group in a row
// of shared memory is found.
func takesEights(body []Instruction, at int) bool {
	if body[at].Name() != "sub.s32" {
		return false
	}
	rounded := definition(body, body[at].Operands[2], at)
	return rounded >= 0 && body[rounded].Name() == "and.b32" && body[rounded].Operands[2].Kind == Immediate && body[rounded].Operands[2].Bits&0x3fffffff == 0x3ffffff8
}

// comparedWith returns which parameter of an attention an instruction's result is compared with soon after, "" for none.
func comparedWith(e *Entry, at int, compares string) string {
	number := regexp.MustCompile(`^(attention|query_grad|key_grad)_\d+_param_(\d+)$`)
	names := map[string]string{"attention 3": "positions", "attention 7": "size", "query_grad 6": "positions", "query_grad 9": "size", "key_grad 5": "positions", "key_grad 8": "size"}
	result := e.Body[at].Operands[0]
	for i := at + 1; i < min(at+16, len(e.Body)); i++ {
		if e.Body[i].Name() != compares || e.Body[i].Operands[1].Kind != Reg || e.Body[i].Operands[1].Index != result.Index {
			continue
		}
		from := definition(e.Body, e.Body[i].Operands[2], i)
		if from < 0 || e.Body[from].Name() != "ld.param.u32" {
			return ""
		}
		if found := number.FindStringSubmatch(e.Body[from].Operands[1].Parts[0].Name); found != nil {
			return names[found[1]+" "+found[2]]
		}
	}
	return ""
}

// asksInfinity reports whether a guard asks for the bits of a finite number.
func asksInfinity(body []Instruction, at int) bool {
	test := definition(body, body[at].Guard, at)
	return test >= 0 && body[test].Name() == "setp.lt.u32" && body[test].Operands[2].Kind == Immediate && body[test].Operands[2].Bits == 0x7f800000
}

// asksHalf reports whether a guard asks for numbers without any of the upper 32 bits.
func asksHalf(body []Instruction, at int) bool {
	test := definition(body, body[at].Guard, at)
	if test < 0 || body[test].Name() != "setp.eq.s64" {
		return false
	}
	upper := definition(body, body[test].Operands[1], test)
	return upper >= 0 && body[upper].Name() == "and.b64" && body[upper].Operands[2].Bits == 0xffffffff<<32
}

// asksWidth reports whether a guard compares with zero, so, whether rows are aligned: a flag of a product (WIDE_A, WIDE_B and
// WIDE_C of epilogue.cuh), or the last parameter of an attention or of packing.
func asksWidth(e *Entry, at int, compares string) bool {
	const wide = 4 | 8 | 16
	test := definition(e.Body, e.Body[at].Guard, at)
	if test < 0 || e.Body[test].Name() != compares || e.Body[test].Operands[2].Kind != Immediate || e.Body[test].Operands[2].Bits != 0 {
		return false
	}
	asked := definition(e.Body, e.Body[test].Operands[1], test)
	if asked < 0 {
		return false
	}
	switch i := &e.Body[asked]; {
	case i.Name() == "and.b32" && strings.HasPrefix(e.Name, "matmul"):
		mask := i.Operands[2]
		return mask.Kind == Immediate && mask.Bits&wide == mask.Bits && mask.Bits != 0
	case i.Name() == "ld.param.u32":
		asks := regexp.MustCompile(`^(attention|query_grad|key_grad|pack_along)`)
		return asks.MatchString(e.Name) && i.Operands[1].Parts[0].Name == e.Params[len(e.Params)-1].Name
	}
	return false
}

// definition returns the last instruction before one that writes a register, -1 for none.
func definition(body []Instruction, o Operand, before int) int {
	for i := before - 1; i >= 0 && o.Kind == Reg; i-- {
		if d := body[i].Operands; len(d) > 0 && d[0].Kind == Reg && d[0].Index == o.Index {
			return i
		}
	}
	return -1
}

// TestMutants changes kernels and expects the conformance suite, with all
// sanitizers on, to notice. It takes a few changes of small kernels, or
// MUTANTS=n of each precision from all kernels, drawn by MUTANT_SEED.
func TestMutants(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("MUTANTS"))
	precisions, wanted := []compute.Precision{compute.FP32, compute.FP16, compute.BF16}, func(string) bool { return true }
	want, most := 0.95, 0.0 // that die, and that live without a reason
	quick := err != nil
	if quick {
		n, precisions, want, most = 40, precisions[:1], 0.8, 0.05 // few cases notice less, and a few that live among so few say little
		cheap := regexp.MustCompile(`^(elementwise/(7|100|1023)|cross-entropy/(17|33)|layer norm/(5|40)x|rms norm/(5|40)x|swiglu|rotary/2|adamw/(100|1023)|embed$|attention/(2x16|1x33)|matmul/NN/(9|17))`)
		wanted = cheap.MatchString
	}
	seed, _ := strconv.ParseUint(os.Getenv("MUTANT_SEED"), 10, 64)
	kernel := regexp.MustCompile(os.Getenv("MUTANT_KERNEL"))
	for _, p := range precisions {
		l := newLaboratory(t, p, wanted)
		all := slices.DeleteFunc(l.all(t), func(m mutation) bool {
			shared := p != compute.FP32 && !strings.Contains(m.entry.Name, string(p)) && m.entry.Name != "largest" // with fp32
			unused := quick && l.lanes[m.entry.Name][m.at] == 0
			return shared || unused || !kernel.MatchString(m.entry.Name)
		})
		kinds := map[string]int{}
		for _, m := range all {
			kinds[m.kind]++
		}
		t.Logf("%s: %d mutations of %d kernels: %v", p, len(all), len(l.uses), kinds)
		if len(all) == 0 {
			continue
		}
		some := sample(all, n, rand.New(rand.NewPCG(seed, 0)))
		if died, unexplained := judge(t, l, some); died < want || unexplained > most {
			t.Errorf("%s, seed %d: %.1f %% of the mutants were noticed, want %.0f %%; %.1f %% live without a reason, at most %.0f %%",
				p, seed, 100*died, 100*want, 100*unexplained, 100*most)
		}
	}
}
