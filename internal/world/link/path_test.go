package link

import (
	"testing"
	"time"
)

// run delivers all packets in flight and returns when each arrived, in order.
func run(m *middle, now time.Time) (arrived []time.Time, numbers []byte) {
	for len(m.flight) > 0 {
		p, at := m.next(now)
		if p == nil {
			now = at
			continue
		}
		arrived, numbers = append(arrived, now), append(numbers, p.bytes[0])
	}
	return arrived, numbers
}

func TestRateAndDelay(t *testing.T) {
	start := time.Unix(1000, 0)
	m := newMiddle(1)
	a := m.add(Path{Up: 8e6, Down: 8e6, Delay: 20 * time.Millisecond, Queue: time.Second})
	b := m.add(Path{Up: 8e6, Down: 4e6, Delay: 5 * time.Millisecond, Queue: time.Second})
	for i := range 10 {
		m.send(start, a, b, append([]byte{byte(i)}, make([]byte, 999)...)) // a millisecond up, two down
	}
	arrived, numbers := run(m, start)
	if len(arrived) != 10 {
		t.Fatalf("%d packets arrive", len(arrived))
	}
	for i, at := range arrived {
		if want := 28*time.Millisecond + time.Duration(i)*2*time.Millisecond; at.Sub(start) != want || numbers[i] != byte(i) {
			t.Errorf("packet %d arrives after %v as number %d, want %v", numbers[i], at.Sub(start), i, want)
		}
	}
	if c := m.counts[b]; c.Received != 10000 || c.Dropped != 0 {
		t.Errorf("receiver %+v", c)
	}
}

func TestQueueIsBounded(t *testing.T) {
	start := time.Unix(1000, 0)
	m := newMiddle(1)
	a, b := m.add(Path{Up: 8e6, Queue: 10 * time.Millisecond}), m.add(Path{})
	for range 100 {
		m.send(start, a, b, make([]byte, 1000))
	}
	if arrived, _ := run(m, start); len(arrived) < 10 || len(arrived) > 12 {
		t.Errorf("%d packets of a millisecond fit a queue of ten", len(arrived))
	}
}

func TestCutsAreOneWay(t *testing.T) {
	start := time.Unix(1000, 0)
	m := newMiddle(1)
	a, b := m.add(Path{}), m.add(Path{})
	m.cut[[2]int{a, b}] = true
	m.send(start, a, b, []byte{1})
	m.send(start, b, a, []byte{2})
	if _, numbers := run(m, start); len(numbers) != 1 || numbers[0] != 2 {
		t.Errorf("arrived %v, want only the one from b", numbers)
	}
}

func TestLossAndReorder(t *testing.T) {
	start := time.Unix(1000, 0)
	m := newMiddle(7)
	a, b := m.add(Path{Loss: 0.1, Reorder: 0.2}), m.add(Path{})
	const sent = 5000
	for i := range sent {
		m.send(start.Add(time.Duration(i)*time.Millisecond), a, b, []byte{byte(i), byte(i >> 8)})
	}
	overtaken, last := 0, -1
	count := 0
	for now := start; len(m.flight) > 0; {
		p, at := m.next(now)
		if p == nil {
			now = at
			continue
		}
		count++
		if n := int(p.bytes[0]) | int(p.bytes[1])<<8; n < last {
			overtaken++
		} else {
			last = n
		}
	}
	if share := float64(count) / sent; share < 0.88 || share > 0.92 {
		t.Errorf("%.3f of the packets arrive, want 0.9", share)
	}
	if share := float64(overtaken) / float64(count); share < 0.15 || share > 0.25 {
		t.Errorf("%.3f of the packets are overtaken, want 0.2", share)
	}
}
