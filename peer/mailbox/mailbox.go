package mailbox

import "sync"

// Mailbox is an unbounded queue between two goroutines of a peer. What can be
// under way in it is bounded by who fills it (one undecided contribution per
// fragment, a window of requests, the requests of others that the transport
// lets wait for an answer), so a sender never has to wait, and the two sides
// cannot wait for each other. What other peers send as they please does not
// belong in one: it waits in a bounded channel, and they with it.
type Mailbox[T any] struct {
	mu    sync.Mutex
	items []T
	Ready chan struct{} // holds a token while items may be there
}

// New returns an empty one.
func New[T any]() *Mailbox[T] {
	return &Mailbox[T]{Ready: make(chan struct{}, 1)}
}

// Put appends an item.
func (m *Mailbox[T]) Put(item T) {
	m.mu.Lock()
	m.items = append(m.items, item)
	m.mu.Unlock()
	select {
	case m.Ready <- struct{}{}:
	default:
	}
}

// Take returns everything queued, in order, or nothing.
func (m *Mailbox[T]) Take() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	m.items = nil
	return items
}

// Complaint is what a goroutine reports of a fault that it goes on with.
type Complaint struct{ Text string }
