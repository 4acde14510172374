package store

import (
	"bytes"
	"fmt"
	"sync"
)

// Memory is a Store without a disk: what it holds ends with the process.
type Memory struct {
	mu   sync.Mutex
	idx  index
	data map[Hash][]byte
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store of at most quota bytes (0: no limit).
func NewMemory(quota int64) *Memory {
	return &Memory{idx: newIndex(quota), data: make(map[Hash][]byte)}
}

// Put implements Store.
func (m *Memory) Put(data []byte) (Hash, error) {
	if err := checkSize(len(data)); err != nil {
		return Hash{}, err
	}
	h := HashLeaf(data)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.idx.touch(h); ok {
		return h, nil
	}
	if err := m.idx.makeRoom(int64(len(data)), m.remove); err != nil {
		return Hash{}, err
	}
	m.data[h] = bytes.Clone(data)
	m.idx.add(h, int64(len(data)))
	return h, nil
}

// PutDurable implements Store; in memory nothing is more durable than Put.
func (m *Memory) PutDurable(data []byte) (Hash, error) { return m.Put(data) }

// Sync implements Store.
func (m *Memory) Sync() error { return nil }

// Get implements Store.
func (m *Memory) Get(h Hash, limit int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.idx.touch(h)
	if !ok {
		return nil, fmt.Errorf("get %s: %w", short(h), ErrNotFound)
	}
	if b.size > bound(limit) {
		return nil, fmt.Errorf("get %s: %w: %d bytes, at most %d asked for", short(h), ErrTooLarge, b.size, bound(limit))
	}
	return bytes.Clone(m.data[h]), nil
}

// Has implements Store.
func (m *Memory) Has(h Hash) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.idx.blobs[h]
	return ok
}

// Pin implements Store.
func (m *Memory) Pin(owner string, hashes ...Hash) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.idx.pin(owner, hashes)
}

// Unpin implements Store.
func (m *Memory) Unpin(owner string, hashes ...Hash) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.idx.unpin(owner, hashes)
}

// Collect implements Store.
func (m *Memory) Collect() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.idx.collecting = true
	return m.idx.removeAll(m.idx.victims(m.idx.over(0)), m.remove)
}

// Usage implements Store.
func (m *Memory) Usage() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.idx.usage()
}

func (m *Memory) remove(h Hash) error {
	delete(m.data, h)
	return nil
}
