package swarm

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/wire"
)

// carry takes n bytes in a class and returns when the last of them may go.
func carry(t *testing.T, p *pacer, class wire.Class, n int) time.Time {
	t.Helper()
	turn := p.turn(class)
	for n > 0 {
		got, err := p.take(t.Context(), turn, n)
		if err != nil || got < 1 || got > min(n, bulkChunk) {
			t.Errorf("took %d of %d, %v", got, n, err)
			return time.Now()
		}
		n -= got
	}
	return time.Now()
}

func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want*98/100 || got > want*102/100 {
		t.Errorf("%s took %s, want %s", what, got, want)
	}
}

func TestPacerHoldsItsRate(t *testing.T) {
	for _, bits := range []int{MinRate, 1_000_000, 10_000_000, 1_000_000_000} {
		synctest.Test(t, func(t *testing.T) {
			p := newPacer(bits)
			defer p.close()
			start := time.Now()
			n := bits / 8 * 10 // ten seconds of the wire
			done := make(chan time.Time)
			for range 4 {
				go func() { done <- carry(t, p, wire.ClassResult, n/4) }()
			}
			for range 4 {
				<-done
			}
			near(t, "four transfers", time.Since(start), 10*time.Second*100/96)
		})
	}
}

func TestPacerServesClassesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1_000_000)
		defer p.close()
		second := int(p.rate)
		start := time.Now()
		ends := map[wire.Class]chan time.Time{}
		for _, class := range []wire.Class{wire.ClassObserver, wire.ClassData, wire.ClassJoin, wire.ClassResult, wire.ClassContribution} {
			end := make(chan time.Time, 1)
			ends[class] = end
			go func() { end <- carry(t, p, class, 4*second) }()
			synctest.Wait()
		}
		var last time.Time
		for class := wire.ClassContribution; class <= wire.ClassObserver; class++ {
			end := <-ends[class]
			if !end.After(last) {
				t.Errorf("%s ended before a class that is more urgent", class)
			}
			if class == wire.ClassContribution {
				if took := end.Sub(start); took > 5*time.Second {
					t.Errorf("the most urgent class took %s, want 4 s and what sips take", took)
				}
			}
			last = end
		}
		near(t, "all classes", last.Sub(start), 20*time.Second)
	})
}

func TestPacerLetsNobodyStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1_000_000)
		defer p.close()
		go carry(t, p, wire.ClassContribution, 12*int(p.rate)) // until the sips are over
		synctest.Wait()
		turn := p.turn(wire.ClassObserver)
		for range 10 {
			start := time.Now()
			if got, err := p.take(t.Context(), turn, 1<<20); err != nil || got > sip {
				t.Fatalf("took %d, %v; want a sip", got, err)
			}
			if waited := time.Since(start); waited > patience+100*time.Millisecond {
				t.Errorf("waited %s", waited)
			}
		}
		carry(t, p, wire.ClassObserver, 3*int(p.rate))
	})
}

// TestPacerKeepsManyAlive: at the lowest limit no transfer of two dozen stands still
// for as long as the watchdog at its other end allows, and the limit holds.
func TestPacerKeepsManyAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(MinRate)
		defer p.close()
		const count, each = 24, 12 << 10
		begin := time.Now()
		var all sync.WaitGroup
		var mu sync.Mutex
		var worst time.Duration
		for range count {
			all.Go(func() {
				turn := p.turn(wire.ClassResult)
				for left := each; left > 0; {
					start := time.Now()
					n, err := p.take(t.Context(), turn, left)
					if err != nil {
						t.Error(err)
						return
					}
					left -= n
					mu.Lock()
					worst = max(worst, time.Since(start))
					mu.Unlock()
				}
			})
		}
		all.Wait()
		took, least := time.Since(begin), time.Duration(count*each/p.rate*1e9)
		t.Logf("%d transfers took %s, without sips %s; none stood still for more than %s", count, took, least, worst)
		if worst > DefaultLimits().Stall*5/6 {
			t.Errorf("one stood still for %s, its watchdog allows %s", worst, DefaultLimits().Stall)
		}
		if took < least || took > least*3/2 {
			t.Errorf("it took %s, want %s and at most half as much again for sips' packets", took, least)
		}
	})
}

func TestPacerChargesWhatDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1_000_000)
		defer p.close()
		start := time.Now()
		p.spend(2 * int(p.rate))
		near(t, "bulk behind two seconds of control", carry(t, p, wire.ClassData, int(p.rate)).Sub(start), 3*time.Second)

		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		p.spend(int(p.rate))
		if _, err := p.take(ctx, p.turn(wire.ClassData), 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a take that was given up: %v", err)
		}
	})
}

// TestPartialsAge: what is not asked for again within a while is let go.
func TestPartialsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := partials{limit: 100}
		defer p.close()
		left := func() (size, count int) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.bytes, len(p.list)
		}
		p.keep([]byte("a"), []byte("1234"))
		time.Sleep(partialAge / 2)
		p.keep([]byte("b"), []byte("12345"))
		time.Sleep(partialAge/2 + time.Second)
		if size, count := left(); size != 5 || count != 1 {
			t.Errorf("%d bytes in %d partials are left, want those of the younger", size, count)
		}
		time.Sleep(partialAge / 2)
		if size, count := left(); size != 0 || count != 0 {
			t.Errorf("%d bytes in %d partials are left", size, count)
		}
		p.keep([]byte("c"), []byte("1")) // the timer runs again
		time.Sleep(partialAge + time.Second)
		if size, _ := left(); size != 0 {
			t.Error("a partial that came after all were gone does not age")
		}
	})
}

func TestPartials(t *testing.T) {
	p := partials{limit: 10}
	p.keep([]byte("a"), []byte("1234"))
	p.keep([]byte("b"), []byte("1234"))
	p.keep([]byte("a"), []byte("123")) // less than is there
	p.keep([]byte("c"), append(make([]byte, 0, 1<<20), "12345"...))
	p.keep([]byte("d"), make([]byte, 11))
	if p.take([]byte("a"), 10) != nil || p.take([]byte("d"), 20) != nil || p.bytes != 9 {
		t.Errorf("%d bytes kept, the oldest should be gone", p.bytes)
	}
	if p.take([]byte("b"), 3) != nil || p.take([]byte("b"), 10) != nil {
		t.Error("kept what is longer than wanted")
	}
	if got := p.take([]byte("c"), 5); string(got) != "12345" || cap(got) > 64 || p.bytes != 0 || len(p.list) != 0 {
		t.Errorf("took %q in %d bytes, %d left", got, cap(got), p.bytes)
	}
}
