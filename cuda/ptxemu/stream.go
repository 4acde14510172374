package ptxemu

import (
	"slices"

	"dunlin/cuda/driver"
)

// stream is a queue of work.
type stream struct {
	tasks   []task
	capture []task // what a graph will hold
	noting  bool
}

// task is one piece of queued work: something to run, a mark that is reached, or a mark that is waited for.
type task struct {
	run    func() error
	record *mark
	wait   *mark
}

// mark is one recording of an event.
type mark struct {
	on   *stream
	done bool
}

// event is a name for the last mark recorded under it, nil before the first.
type event struct{ last *mark }

// queue puts work on a stream and lets the order decide what runs now.
func (c *Context) queue(call string, to driver.Stream, t task) error {
	s := c.streams[to]
	if s == nil {
		return &driver.Error{Code: invalidHandle, Call: call, Detail: "no such stream"}
	}
	if s.noting {
		if t.run == nil {
			return &driver.Error{Code: capturing, Call: call, Detail: "the emulator keeps no events in graphs"}
		}
		s.capture = append(s.capture, t)
		return nil
	}
	s.tasks = append(s.tasks, t)
	switch c.config.Order {
	case Eager:
		return c.drive(s, func() bool { return false })
	case Shuffled:
		some := c.inOrder[c.random.IntN(len(c.inOrder))]
		left := c.random.IntN(3)
		return c.drive(some, func() bool { left--; return left < 0 })
	case Lazy:
	}
	return nil
}

// drive runs a stream's work in order until enough is done or none is left. What the work waits for runs first.
func (c *Context) drive(s *stream, enough func() bool) error {
	for len(s.tasks) > 0 && !enough() {
		t := s.tasks[0]
		s.tasks = s.tasks[1:]
		switch {
		case t.record != nil:
			t.record.done = true
		case t.wait != nil:
			if err := c.drive(t.wait.on, func() bool { return t.wait.done }); err != nil {
				return err
			}
		default:
			if err := t.run(); err != nil {
				if c.dead == nil {
					c.dead = err
				}
				return err
			}
		}
	}
	return nil
}

// drain runs all work of all streams.
func (c *Context) drain() error {
	for _, s := range c.inOrder {
		if err := c.drive(s, func() bool { return false }); err != nil {
			return err
		}
	}
	return nil
}

// NewStream makes a queue.
func (c *Context) NewStream() (driver.Stream, error) {
	if err := c.enter("cuStreamCreate"); err != nil {
		return 0, err
	}
	h, s := driver.Stream(c.handle()), &stream{}
	c.streams[h] = s
	c.inOrder = append(c.inOrder, s)
	return h, nil
}

// FreeStream runs a stream's work and gives it back.
func (c *Context) FreeStream(h driver.Stream) error {
	if err := c.SyncStream(h); err != nil {
		return err
	}
	s := c.streams[h]
	c.inOrder = slices.DeleteFunc(c.inOrder, func(other *stream) bool { return other == s })
	delete(c.streams, h)
	return nil
}

// NewEvent makes a mark.
func (c *Context) NewEvent() (driver.Event, error) {
	if err := c.enter("cuEventCreate"); err != nil {
		return 0, err
	}
	h := driver.Event(c.handle())
	c.events[h] = &event{}
	return h, nil
}

// FreeEvent gives an event back. Who waits for it still does.
func (c *Context) FreeEvent(h driver.Event) error {
	if _, err := c.event("cuEventDestroy", h); err != nil {
		return err
	}
	delete(c.events, h)
	return nil
}

// event finds an event.
func (c *Context) event(call string, h driver.Event) (*event, error) {
	if err := c.enter(call); err != nil {
		return nil, err
	}
	e := c.events[h]
	if e == nil {
		return nil, &driver.Error{Code: invalidHandle, Call: call, Detail: "no such event"}
	}
	return e, nil
}

// Record queues the event's mark.
func (c *Context) Record(h driver.Event, s driver.Stream) error {
	const call = "cuEventRecord"
	e, err := c.event(call, h)
	if err != nil {
		return err
	}
	m := &mark{on: c.streams[s]}
	if err := c.queue(call, s, task{record: m}); err != nil {
		return err
	}
	e.last = m
	return nil
}

// Wait queues waiting for the event's last mark so far.
func (c *Context) Wait(s driver.Stream, h driver.Event) error {
	const call = "cuStreamWaitEvent"
	e, err := c.event(call, h)
	if err != nil || e.last == nil {
		return err
	}
	return c.queue(call, s, task{wait: e.last})
}

// running returns a stream that is not being captured.
func (c *Context) running(call string, h driver.Stream) (*stream, error) {
	if err := c.enter(call); err != nil {
		return nil, err
	}
	s := c.streams[h]
	switch {
	case s == nil:
		return nil, &driver.Error{Code: invalidHandle, Call: call, Detail: "no such stream"}
	case s.noting:
		return nil, &driver.Error{Code: capturing, Call: call, Detail: "the stream is being captured"}
	}
	return s, nil
}

// SyncStream runs all work of a stream, and no other work that it does not wait for unless the order is shuffled.
func (c *Context) SyncStream(h driver.Stream) error {
	s, err := c.running("cuStreamSynchronize", h)
	if err != nil {
		return err
	}
	return c.drive(s, func() bool { return false })
}

// SyncEvent runs a stream's work up to the event's last mark.
func (c *Context) SyncEvent(h driver.Event) error {
	e, err := c.event("cuEventSynchronize", h)
	if err != nil || e.last == nil {
		return err
	}
	return c.drive(e.last.on, func() bool { return e.last.done })
}

// Done reports whether the event's last mark was reached. Who asks again and
// again sees it in the end: each question lets one piece of work run.
func (c *Context) Done(h driver.Event) (bool, error) {
	e, err := c.event("cuEventQuery", h)
	if err != nil || e.last == nil {
		return err == nil, err
	}
	if e.last.done {
		return true, nil
	}
	left := 1
	err = c.drive(e.last.on, func() bool { left--; return left < 0 })
	return false, err
}

// BeginCapture makes a stream note its work.
func (c *Context) BeginCapture(h driver.Stream) error {
	s, err := c.running("cuStreamBeginCapture", h)
	if err != nil {
		return err
	}
	s.noting, s.capture = true, nil
	return nil
}

// EndCapture returns what a stream noted.
func (c *Context) EndCapture(h driver.Stream) (driver.Graph, error) {
	const call = "cuStreamEndCapture"
	if err := c.enter(call); err != nil {
		return 0, err
	}
	s := c.streams[h]
	if s == nil || !s.noting {
		return 0, &driver.Error{Code: capturing, Call: call, Detail: "the stream is not being captured"}
	}
	g := driver.Graph(c.handle())
	c.graphs[g] = s.capture
	s.noting, s.capture = false, nil
	return g, nil
}

// LaunchGraph queues all work of a graph.
func (c *Context) LaunchGraph(g driver.Graph, s driver.Stream) error {
	const call = "cuGraphLaunch"
	if err := c.enter(call); err != nil {
		return err
	}
	tasks, ok := c.graphs[g]
	if !ok {
		return &driver.Error{Code: invalidHandle, Call: call, Detail: "no such graph"}
	}
	for _, t := range tasks {
		if err := c.queue(call, s, t); err != nil {
			return err
		}
	}
	return nil
}

// FreeGraph gives a graph back.
func (c *Context) FreeGraph(g driver.Graph) error {
	const call = "cuGraphDestroy"
	if err := c.enter(call); err != nil {
		return err
	}
	if _, ok := c.graphs[g]; !ok {
		return &driver.Error{Code: invalidHandle, Call: call, Detail: "no such graph"}
	}
	delete(c.graphs, g)
	return nil
}
