package cuda

import (
	"errors"
	"testing"

	"dunlin/cuda/driver"
)

// recorder is a card that counts graphs.
type recorder struct {
	idle
	made, freed, launched int
	refuses               error // what a launch in a graph's list fails with
	capturing             bool
}

func (r *recorder) BeginCapture(driver.Stream) error {
	r.capturing = true
	return nil
}

func (r *recorder) EndCapture(driver.Stream) (driver.Graph, error) {
	r.capturing = false
	r.made++
	return driver.Graph(r.handle()), nil
}

func (r *recorder) FreeGraph(driver.Graph) error {
	r.freed++
	return nil
}

func (r *recorder) LaunchGraph(driver.Graph, driver.Stream) error {
	r.launched++
	return nil
}

func (r *recorder) Launch(driver.Function, [3]uint32, [3]uint32, int, driver.Stream, []uint64) error {
	if r.capturing {
		return r.refuses
	}
	return nil
}

// list queues the work of list number i and hands it over.
func list(d *Device, i int) {
	for range leastReplay {
		d.set(1<<20, uint32(i), 4)
	}
	d.launch(kernelScale, [3]uint32{1, 1, 1}, [3]uint32{1, 1, 1})
	d.flush()
}

// A step with more lists than there is room for graphs makes each graph once; when steps become other ones, their graphs
// take the place of those that nothing uses.
func TestGraphsAreNotMadeInTurn(t *testing.T) {
	card := &recorder{}
	d, err := New(card, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const lists = maxGraphs + 10
	for range 10 {
		for i := range lists {
			list(d, i)
		}
	}
	if card.made != maxGraphs || card.freed != 0 || card.launched != 9*maxGraphs {
		t.Errorf("10 steps of %d lists: %d graphs made, %d freed, %d launched", lists, card.made, card.freed, card.launched)
	}
	for range idleLists - lists {
		list(d, lists)
	}
	if card.made != maxGraphs || card.launched != 9*maxGraphs {
		t.Errorf("a list that is new: %d graphs made, %d launched", card.made, card.launched)
	}
	for range 3 {
		list(d, lists)
	}
	if card.made != maxGraphs+1 || card.freed != 1 || card.launched != 9*maxGraphs+3 {
		t.Errorf("once it came for long: %d graphs made, %d freed, %d launched", card.made, card.freed, card.launched)
	}
}

// What cannot be recorded is done without a graph, now and later, and leaves none behind.
func TestWorkThatMakesNoGraph(t *testing.T) {
	card := &recorder{refuses: &driver.Error{Code: 900, Call: "cuLaunchKernel"}}
	d, err := New(card, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		list(d, 0)
	}
	if card.made != 1 || card.freed != 1 || card.launched != 0 {
		t.Errorf("%d graphs made, %d freed, %d launched", card.made, card.freed, card.launched)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		t.Error(err)
	}
}
