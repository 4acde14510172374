package computetest

import (
	"fmt"

	"dunlin/compute"
)

// judge is what a scenario tells its verdict to: a test, or a Case.
type judge interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Case is one scenario of the suite that can be run outside of a test, for
// programs that ask whether the suite would notice a fault.
type Case struct {
	Name string
	scenario
	operand func(float32) float32
}

// Cases returns what a device of a precision must pass: all of Run for fp32,
// what RunBF16 and RunFP16 check beyond that for the others.
func Cases(p compute.Precision) []Case {
	all := scenarios()
	switch p {
	case compute.BF16:
		all = append(matmulScenarios(), roundingScenario())
	case compute.FP16:
		all = append(matmulScenarios(), rangeScenario())
	case compute.FP32:
	}
	return casesOf(p, all)
}

// casesOf makes cases of scenarios, with what a MatMul of a precision makes of its operands.
func casesOf(p compute.Precision, all []scenario) []Case {
	operand := func(x float32) float32 { return x }
	switch p {
	case compute.BF16:
		operand = bf16
	case compute.FP16:
		operand = fp16
	case compute.FP32:
	}
	cases := make([]Case, len(all))
	for i, s := range all {
		cases[i] = Case{s.name, s, operand}
	}
	return cases
}

// Check runs the case and returns what the device does wrong. After an error
// the device is of no more use.
func (c Case) Check(d compute.Device) (err error) {
	v := &verdict{}
	defer func() {
		if e := recover(); e != nil && e != any(v) {
			panic(e)
		}
		err = v.err
	}()
	play(v, d, c.scenario, c.operand)
	return v.err
}

// verdict keeps the first complaint and ends the scenario at a fatal one.
type verdict struct{ err error }

func (*verdict) Helper() {}

func (v *verdict) Error(args ...any) { v.Errorf("%s", fmt.Sprint(args...)) }

func (v *verdict) Errorf(format string, args ...any) {
	if v.err != nil {
		return
	}
	v.err = fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok { // of a device that is lost or full, say
			v.err = complaint{v.err.Error(), cause}
		}
	}
}

// complaint is a verdict with the device's own error behind it.
type complaint struct {
	text  string
	cause error
}

func (c complaint) Error() string { return c.text }
func (c complaint) Unwrap() error { return c.cause }

func (v *verdict) Fatalf(format string, args ...any) {
	v.Errorf(format, args...)
	panic(v)
}
