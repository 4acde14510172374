// Package reign has a run's ledger written by one coordinator at a time and known to all peers.
//
// Reign is one peer's part in that. In every peer it follows whose reign it is, keeps connections to all coordinators, takes in
// entries and gives them to who asks. In the coordinator that leads it also writes entries, alone or as several coordinators
// agree on them, and spreads them; in any coordinator it hands on what the organiser wants to the one that leads.
//
// It belongs to the peer's loop and works on no goroutine of its own but while it looks for coordinators. What it decides it
// has done through Driver.
package reign
