// Package plan tells before a run starts how it would go: from peers, model and recipe it predicts how much of the
// time is spent in inner steps, bytes a day, days and loss, and it recommends H, fragments, recipe, batch and outer
// learning rate. It says when a run cannot work, and what would make it work.
//
// It is pure arithmetic over published formulas and one discrete simulation, the Timetable, which is checked against
// the published tables of the bandwidth that a share of the time in steps needs. Units: seconds, bits a second,
// tokens, parameters.
package plan
