package invariants

import (
	"fmt"
	"sync/atomic"
)

// Check panics with the formatted message when holds is false in a build with invariants. Arguments are evaluated
// in every build: guard an expensive one with Enabled.
func Check(holds bool, format string, args ...any) {
	if Enabled && !holds {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}

// CloseChecker notices a second Close and a use after Close. The zero value is open. Methods are safe for
// concurrent use and do nothing in a build without invariants.
type CloseChecker struct {
	closed atomic.Bool
}

// Close records the close; a second one panics.
func (c *CloseChecker) Close() {
	if Enabled && c.closed.Swap(true) {
		panic("invariant broken: closed twice")
	}
}

// AssertOpen panics when Close was called before.
func (c *CloseChecker) AssertOpen() {
	if Enabled && c.closed.Load() {
		panic("invariant broken: used after it was closed")
	}
}
