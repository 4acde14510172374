package world

import (
	"testing"
	"time"

	"dunlin/engine"
	"dunlin/peer"
	"dunlin/recipe"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// closeCounter is an engine of which a test knows how often it was closed.
type closeCounter struct {
	sleeper
	closed int
}

func (c *closeCounter) Close() error {
	c.closed++
	return nil
}

// TestAnEngineMadeTooLateIsClosed ends a worker while its engine is being made.
func TestAnEngineMadeTooLateIsClosed(t *testing.T) {
	swarmtest.Run(t, func(t *testing.T) {
		w := newWorld(t, swarmtest.New(t, home), func(*recipe.Run) {})
		w.start(place{})
		asked, made, late := make(chan struct{}), make(chan struct{}), &closeCounter{}
		n := w.start(place{key: 2, dir: scratch(t), engine: func(*wire.RunSpec, []byte, bool) (engine.Engine, error) {
			close(asked)
			<-made
			return late, nil
		}})
		<-asked
		n.stop()
		time.Sleep(time.Minute) // by then it has left
		close(made)
		if err := n.finish(); err != nil || late.closed != 1 {
			t.Errorf("the engine was closed %d times, the peer ended with %v", late.closed, err)
		}
		w.lead.halt()
	})
}

// TestAPeerThatDoesNotRunCloses: its folder can be opened again by this process.
func TestAPeerThatDoesNotRunCloses(t *testing.T) {
	w := newWorld(t, nil, func(*recipe.Run) {})
	for range 2 {
		p, err := peer.New(peer.Config{Key: testKey(1), Signed: w.signed, Run: w.id, Dir: w.leadDir})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
