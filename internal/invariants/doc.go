// Package invariants holds checks that cost nothing in a release build and run in every race build.
//
// Enabled is a constant: true with the build tag invariants or under the race detector, false otherwise, so that
// `if invariants.Enabled { … }` disappears from the product. Check panics with its message when its condition does
// not hold. A CloseChecker catches a value that is closed twice or used after it was closed.
package invariants
