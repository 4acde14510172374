// Package round decides the life of rounds: when a fragment's contributions
// are complete enough to open an attempt, who owns which slab, whom to stop
// waiting for, and when a result is held widely enough to become a commit.
//
// Three machines share one vocabulary of events and effects:
//
//   - [Leader] runs beside the coordinator and drives every fragment through
//     collecting → opening → summing → spreading → committing (R4 to R7);
//   - [Owner] runs on every worker and gathers, for the slabs it owns, what the
//     members contributed (R4, R5);
//   - [Member] runs on every worker and decides when to take a snapshot, which
//     steps and windows a contribution covers, and what to merge (R1, R2).
//
// All are pure: Step takes the time and one event and returns effects in the
// order in which they must be carried out; Deadline says when a Tick is due.
// The rules' numbers are those of the protocol document.
package round
