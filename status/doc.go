// Package status shows a run to people and programs: one immutable Snapshot,
// the web page and the API that serve it. A peer publishes a Snapshot a few
// times a second; everything here only renders what it says. Unknown is not
// zero: figures that are not known yet are nil.
package status
