package swarm

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"
)

// partialAge is how long the beginning of an answer waits to be asked for again:
// by then who needed it has it from elsewhere, or needs it no more.
const partialAge = 10 * time.Minute

// partials keeps the beginnings of answers whose transfers broke, by request:
// equal requests have equal answers, whoever gives them. The oldest go first.
type partials struct {
	limit int // bytes in all

	mu    sync.Mutex
	bytes int
	list  []partial   // oldest first
	timer *time.Timer // runs while there are any
}

type partial struct {
	request string
	bytes   []byte
	at      time.Time
}

// take removes and returns what has come of the answer, if that is not too much.
func (p *partials) take(req []byte, maxBytes int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.list, func(x partial) bool { return x.request == string(req) })
	if i < 0 {
		return nil
	}
	have := p.list[i].bytes
	p.drop(i)
	if len(have) > maxBytes {
		return nil
	}
	return have
}

// keep remembers what has come, if it is not less than what is there.
func (p *partials) keep(req, have []byte) {
	if len(have) == 0 || len(have) > p.limit {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.list, func(x partial) bool { return x.request == string(req) }); i >= 0 {
		if len(p.list[i].bytes) >= len(have) {
			return // of another transfer of the same
		}
		p.drop(i)
	}
	for p.bytes+len(have) > p.limit {
		p.drop(0)
	}
	p.list = append(p.list, partial{string(req), bytes.Clone(have), time.Now()}) // without the room for the rest
	p.bytes += len(have)
	if len(p.list) == 1 {
		p.wake()
	}
}

// wake has the oldest dropped when its time is up. The caller holds mu.
func (p *partials) wake() {
	wait := time.Until(p.list[0].at.Add(partialAge))
	if p.timer == nil {
		p.timer = time.AfterFunc(wait, p.expire)
	} else {
		p.timer.Reset(wait)
	}
}

// expire drops what nobody has asked for again.
func (p *partials) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.list) > 0 && time.Since(p.list[0].at) >= partialAge {
		p.drop(0)
	}
	if len(p.list) > 0 {
		p.wake()
	}
}

// close lets go of all.
func (p *partials) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list, p.bytes = nil, 0
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (p *partials) drop(i int) {
	p.bytes -= len(p.list[i].bytes)
	p.list = slices.Delete(p.list, i, i+1)
}

// resumable reports whether a transfer that ended so can go on elsewhere. After
// a refusal, or an answer that is too long, what came is in doubt.
func resumable(err error) bool {
	var refused *RefusedError
	return !errors.As(err, &refused) && !errors.Is(err, ErrTooLarge)
}
