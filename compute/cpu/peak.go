package cpu

import (
	"runtime"
	"sync"
	"time"
)

// Peak is measured by the best of peakRuns runs of peakTime.
const (
	peakRuns = 5
	peakTime = 200 * time.Millisecond
)

// peakRounds is the length of one call of a loop: some 50 µs.
const peakRounds = 1 << 14

// Peak measures what threads goroutines (at least 1; 0 for all processors Go
// may use) can reach at most with float32 multiply-adds that stay in
// registers, in 10⁹ floating point operations a second: the best of five runs
// of 0.2 s. Shares of peak are quoted against it, so it takes the widest
// instructions of this machine whatever path a Device uses. It runs a second.
func Peak(threads int) (gflops float64) {
	if threads < 1 {
		threads = runtime.GOMAXPROCS(0)
	}
	for range peakRuns {
		gflops = max(gflops, Probe(threads, peakTime))
	}
	return gflops
}

// Probe is one run of such a measurement, on at least 1 thread and as long as
// lasting. Beside another measurement it tells what the processor gives just
// then.
func Probe(threads int, lasting time.Duration) (gflops float64) {
	loop, operations := peakLoop()
	calls := make([]int, threads)
	begin := time.Now()
	var group sync.WaitGroup
	for i := range threads {
		group.Go(func() {
			n := 0
			for time.Since(begin) < lasting {
				loop(peakRounds)
				n++
			}
			calls[i] = n
		})
	}
	group.Wait()
	seconds := time.Since(begin).Seconds()
	total := 0
	for _, n := range calls {
		total += n
	}
	return float64(total) * peakRounds * operations / seconds / 1e9
}

// portablePeakOperations are the operations of a round of portablePeak.
const portablePeakOperations = 8 * 2

// portablePeak runs rounds of eight independent multiply-adds.
func portablePeak(rounds int) {
	const m = 1 - 1.0/(1<<20)
	var a, b, c, d, e, f, g, h float32 = 1, 2, 3, 4, 5, 6, 7, 8
	for range rounds {
		a, b, c, d = a*m+1, b*m+1, c*m+1, d*m+1
		e, f, g, h = e*m+1, f*m+1, g*m+1, h*m+1
	}
	// The sum is positive; the compiler cannot know and keeps the loop.
	if a+b+c+d+e+f+g+h < 0 {
		panic("compute/cpu: negative sum of positive values")
	}
}
