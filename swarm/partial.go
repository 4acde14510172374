package swarm

import (
	"bytes"
	"errors"
	"slices"
	"sync"
)

// partials keeps the beginnings of answers whose transfers broke, by request:
// equal requests have equal answers, whoever gives them. The oldest go first.
type partials struct {
	limit int // bytes in all

	mu    sync.Mutex
	bytes int
	list  []partial
}

type partial struct {
	request string
	bytes   []byte
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
	p.list = append(p.list, partial{string(req), bytes.Clone(have)}) // without the room for the rest
	p.bytes += len(have)
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
