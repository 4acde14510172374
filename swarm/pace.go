package swarm

import (
	"context"
	"slices"
	"sync"
	"time"

	"dunlin/wire"
)

// How a limited direction is spent.
const (
	// payloadShare is what a packet of 1,400 bytes leaves for answers after the
	// headers of TCP or UDP, encryption and multiplexing; limits count the wire.
	payloadShare = 0.96
	// burst is for how long a limit may go unused and still be caught up with: a
	// machine that trains on every core lets timers wait.
	burst = 100 * time.Millisecond
	// A piece is what a transfer is granted at a time: a fiftieth of a second, so
	// that little stands before a control message on a thin link.
	pieces, minPiece = 50, 2 << 10
	// A transfer that has waited for patience gets a sip, so that the watchdog at
	// its other end sees it move. All sips together, with the packet that each of
	// them is, are at most a third: at MinRate that keeps two dozen transfers alive.
	patience, sip, sipPacket, sipShare = time.Second, 64, 96, 3
)

// pacer is a token bucket that all bulk transfers of one direction share. The
// most urgent class is served first, in it the oldest transfer. Control takes
// without asking, and bulk pays for it.
type pacer struct {
	rate float64 // bytes of answers a second; 0: no limit

	mu      sync.Mutex
	tokens  float64   // bytes that may go now; below zero after a piece or a control message
	filled  time.Time // when tokens was last brought up to date
	sipped  time.Time // from when on sips are owed; the next may be given then
	turns   uint64    // handed out so far
	waiting []*turn
	timer   *time.Timer // runs when someone waits
}

// turn is one transfer's place in line. It asks for one piece at a time.
type turn struct {
	class   wire.Class
	number  uint64 // of its beginning: who came first goes first
	want    int
	since   time.Time
	granted chan int // holds the grant; one at most
}

// newPacer limits a direction to bits a second on the wire; 0 for no limit.
func newPacer(bits int) *pacer {
	return &pacer{rate: float64(bits) / 8 * payloadShare, filled: time.Now()}
}

// turn begins a transfer.
func (p *pacer) turn(class wire.Class) *turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turns++
	return &turn{class: class, number: p.turns, granted: make(chan int, 1)}
}

// take waits until the transfer may move some of n bytes, n ≥ 1, and returns how many.
func (p *pacer) take(ctx context.Context, t *turn, n int) (int, error) {
	if p.rate == 0 {
		return n, nil
	}
	p.mu.Lock()
	t.want, t.since = n, time.Now()
	p.waiting = append(p.waiting, t)
	p.serve(t.since)
	p.mu.Unlock()
	select {
	case got := <-t.granted:
		return got, nil
	case <-ctx.Done():
		p.withdraw(t)
		return 0, context.Cause(ctx)
	}
}

// withdraw ends a turn's wait and gives back what it was granted meanwhile.
func (p *pacer) withdraw(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = slices.DeleteFunc(p.waiting, func(w *turn) bool { return w == t })
	select {
	case got := <-t.granted:
		p.tokens += float64(got)
	default:
	}
}

// spend counts bytes that do not wait; a negative n gives unused ones back.
func (p *pacer) spend(n int) {
	if p.rate == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens -= float64(n)
}

// serve grants while there are tokens, then sets the timer for the next ones.
// The caller holds mu.
func (p *pacer) serve(now time.Time) {
	p.tokens = min(p.tokens+now.Sub(p.filled).Seconds()*p.rate, max(burst.Seconds()*p.rate, minPiece))
	p.filled = now
	for len(p.waiting) > 0 && p.tokens > 0 {
		i, n := p.next(now)
		t := p.waiting[i]
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.tokens -= float64(n)
		if n <= sip {
			p.tokens -= sipPacket
		}
		t.granted <- n
	}
	if len(p.waiting) == 0 {
		return
	}
	wait := time.Duration((1-p.tokens)/p.rate*1e9) + time.Microsecond
	if p.timer == nil {
		p.timer = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.serve(time.Now())
		})
	} else {
		p.timer.Reset(wait)
	}
}

// next chooses whom to serve, and with how much.
func (p *pacer) next(now time.Time) (i, n int) {
	first, oldest := 0, 0
	for i, t := range p.waiting {
		if f := p.waiting[first]; t.class.Urgency() < f.class.Urgency() || t.class.Urgency() == f.class.Urgency() && t.number < f.number {
			first = i
		}
		if t.since.Before(p.waiting[oldest].since) {
			oldest = i
		}
	}
	if t := p.waiting[oldest]; oldest != first && now.Sub(t.since) >= patience && !now.Before(p.sipped) {
		// A piece may take as long as several sips; what was owed meanwhile is given in a row.
		if owed := now.Add(-patience); p.sipped.Before(owed) {
			p.sipped = owed
		}
		p.sipped = p.sipped.Add(time.Duration((sip + sipPacket) * sipShare / p.rate * 1e9))
		return oldest, min(t.want, sip)
	}
	return first, min(p.waiting[first].want, p.piece())
}

// piece is the size of one grant, bytes.
func (p *pacer) piece() int { return min(max(int(p.rate/pieces), minPiece), bulkChunk) }

// ahead is how much of one answer may be asked for before it comes, so that a
// long round trip does not slow it down.
func (p *pacer) ahead() int { return max(2*bulkChunk, int(p.rate/2)) }

// close stops the timer.
func (p *pacer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = nil
	if p.timer != nil {
		p.timer.Stop()
	}
}
