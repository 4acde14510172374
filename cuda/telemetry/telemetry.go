package telemetry

import "errors"

// ErrNone says that there is no telemetry, and why.
var ErrNone = errors.New("no GPU telemetry")

// Reading is one look at a card. A figure that the card does not tell is 0.
type Reading struct {
	Name        string
	PCI         string   // bus address in lower case, "0000:01:00.0"
	Utilisation float64  // share of the last moment in which a kernel ran, 0 to 1
	Used, Total uint64   // memory in bytes
	Temperature float64  // °C
	Power       float64  // W
	PowerLimit  float64  // W that the driver lets it take
	Throttled   []string // what holds the clocks down now, for people; idleness does not count
}

// Source reads the cards. One goroutine uses it.
type Source interface {
	// Read looks at every card, in the library's order. It leaves out those that cannot be looked at, as when one is lost,
	// and fails when that is true of all.
	Read() ([]Reading, error)
	// Close lets the library go.
	Close() error
}

// Open starts to read the cards of this machine, or returns an error that is ErrNone.
func Open() (Source, error) { return open() }
