// Package allowance decides when a volunteer's machine trains: at which hours, while nobody else needs it, on mains
// power, within a day's upload, and while its owner has not paused it. It decides only; package machine looks and
// cmd/dunlin acts.
package allowance
