package link

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"time"
)

// ErrUnavailable says that this machine does not let this process make network namespaces.
var ErrUnavailable = errors.New("network namespaces need Linux, root and /dev/net/tun")

// Path is a host's link to the middle of the network, where nothing waits and nothing is lost.
type Path struct {
	Up, Down float64       // bits a second, headers of IP included; 0 is without limit
	Delay    time.Duration // one way between host and middle: half of what a peer on a fast link is away
	Loss     float64       // share of packets lost in each direction
	Reorder  float64       // share of packets that are held up on their way out and overtaken
	Queue    time.Duration // longest wait for the rate, at each end; packets beyond it are dropped. 0 is DefaultQueue
}

// DefaultQueue is the depth of a home router's buffer.
const DefaultQueue = 200 * time.Millisecond

// heldUp is how much later a reordered packet arrives, in packets' time enough to be overtaken.
const heldUp = 8 * time.Millisecond

// direction is a host's link up or down: when it is free again.
type direction struct{ free time.Time }

// pass queues a packet of a size in bytes at a rate in bits a second. It returns when its last bit is through, or false
// when it would wait longer than queue.
func (d *direction) pass(now time.Time, bytes int, rate float64, queue time.Duration) (time.Time, bool) {
	if rate <= 0 {
		return now, true
	}
	if queue <= 0 {
		queue = DefaultQueue
	}
	start := now
	if d.free.After(now) {
		start = d.free
	}
	if start.Sub(now) > queue {
		return time.Time{}, false
	}
	d.free = start.Add(time.Duration(float64(bytes) * 8 / rate * float64(time.Second)))
	return d.free, true
}

// packet is one on its way.
type packet struct {
	bytes    []byte
	from, to int
	due      time.Time // at the downlink of its receiver, then at the receiver
	down     bool      // it is through the downlink
	order    uint64    // breaks ties, so that equal times keep their order
}

// flight holds packets by the time at which something happens to them next.
type flight []*packet

func (f flight) Len() int { return len(f) }
func (f flight) Less(i, j int) bool {
	if !f[i].due.Equal(f[j].due) {
		return f[i].due.Before(f[j].due)
	}
	return f[i].order < f[j].order
}
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

// Push implements heap.Interface.
func (f *flight) Push(x any) { *f = append(*f, x.(*packet)) }

// Pop implements heap.Interface.
func (f *flight) Pop() any {
	old := *f
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*f = old[:len(old)-1]
	return last
}

// Count is what a host's link has carried, in bytes of IP packets.
type Count struct{ Sent, Received, Dropped uint64 }

// middle decides what happens to packets. It has no clock.
type middle struct {
	rng    *rand.Rand
	paths  []Path
	up     []direction
	down   []direction
	counts []Count
	cut    map[[2]int]bool // from one host to another
	flight flight
	order  uint64
}

func newMiddle(seed uint64) *middle {
	return &middle{rng: rand.New(rand.NewPCG(seed, 1)), cut: map[[2]int]bool{}}
}

// add makes a host and returns its number.
func (m *middle) add(p Path) int {
	m.paths, m.up, m.down, m.counts = append(m.paths, p), append(m.up, direction{}), append(m.down, direction{}), append(m.counts, Count{})
	return len(m.paths) - 1
}

// send takes a packet that a host sends to another.
func (m *middle) send(now time.Time, from, to int, bytes []byte) {
	path := &m.paths[from]
	out, ok := m.up[from].pass(now, len(bytes), path.Up, path.Queue)
	if !ok || m.cut[[2]int{from, to}] || m.chance(path.Loss) {
		m.counts[from].Dropped++
		return
	}
	m.counts[from].Sent += uint64(len(bytes))
	due := out.Add(path.Delay + m.paths[to].Delay)
	if m.chance(path.Reorder) {
		due = due.Add(heldUp)
	}
	m.order++
	heap.Push(&m.flight, &packet{bytes: bytes, from: from, to: to, due: due, order: m.order})
}

// next returns a packet that has arrived, or nil and when to ask again (zero: when something is sent).
func (m *middle) next(now time.Time) (*packet, time.Time) {
	for len(m.flight) > 0 {
		p := m.flight[0]
		if p.due.After(now) {
			return nil, p.due
		}
		heap.Pop(&m.flight)
		if p.down {
			m.counts[p.to].Received += uint64(len(p.bytes))
			return p, time.Time{}
		}
		path := &m.paths[p.to]
		through, ok := m.down[p.to].pass(p.due, len(p.bytes), path.Down, path.Queue)
		if !ok || m.chance(path.Loss) {
			m.counts[p.to].Dropped++
			continue
		}
		p.due, p.down = through, true
		heap.Push(&m.flight, p)
	}
	return nil, time.Time{}
}

func (m *middle) chance(share float64) bool { return share > 0 && m.rng.Float64() < share }
