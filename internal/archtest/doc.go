// Package archtest holds the layout, the arrows between packages and the laws of docs/architecture.md as tests.
//
// Load reads the module's packages through `go list` and go/parser. Each check is a function from packages to
// violations, and every violation says why the rule exists, so that a failing test can be acted on without reading
// anything else. The checks are themselves tested on small faulty packages.
package archtest
