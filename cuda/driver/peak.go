package driver

import "strings"

// Peak returns the most floating-point operations a second that the card makes at the clock its maker states, and of the
// tensor cores with 16-bit operands and float32 sums; 0 where that is not known, as of an emulated card. Multiply-adds per
// cycle and multiprocessor are from the CUDA C++ Programming Guide (arithmetic instructions: throughput) and NVIDIA's
// architecture papers; GeForce cards have half the rate of their tensor cores with float32 sums.
func (i Info) Peak() (vector, tensor float64) {
	lanes, products := 0, 0
	switch c := i.Capability(); {
	case c == 60:
		lanes = 64
	case c < 60:
	case c < 70:
		lanes = 128
	case c < 80:
		lanes, products = 64, 512
	case c == 80:
		lanes, products = 64, 1024
	case c < 90:
		lanes, products = 128, 512
	case c == 90:
		lanes, products = 128, 2048
	case c == 120:
		lanes, products = 128, 512
	}
	if strings.Contains(i.Name, "GeForce") {
		products /= 2
	}
	cycles := 2 * float64(i.Multiprocessors) * float64(i.ClockKHz) * 1e3
	return cycles * float64(lanes), cycles * float64(products)
}

// Bandwidth returns the bytes a second that the card's memory moves at the clock its maker states, 0 where that is not
// known: two transfers a cycle.
func (i Info) Bandwidth() float64 {
	return 2 * float64(i.MemoryClockKHz) * 1e3 * float64(i.BusWidthBits) / 8
}
