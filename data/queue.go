package data

// queue is a binary heap: pop gives the element that is before all others.
type queue[T any] struct {
	items  []T
	before func(a, b T) bool
}

func (q *queue[T]) push(item T) {
	q.items = append(q.items, item)
	for i := len(q.items) - 1; i > 0; {
		above := (i - 1) / 2
		if !q.before(q.items[i], q.items[above]) {
			return
		}
		q.items[i], q.items[above] = q.items[above], q.items[i]
		i = above
	}
}

func (q *queue[T]) pop() (first T, ok bool) {
	if len(q.items) == 0 {
		return first, false
	}
	first = q.items[0]
	last := len(q.items) - 1
	q.items[0] = q.items[last]
	q.items = q.items[:last]
	for i := 0; ; {
		least := i
		for _, below := range [2]int{2*i + 1, 2*i + 2} {
			if below < last && q.before(q.items[below], q.items[least]) {
				least = below
			}
		}
		if least == i {
			return first, true
		}
		q.items[i], q.items[least] = q.items[least], q.items[i]
		i = least
	}
}
