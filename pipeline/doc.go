// Package pipeline decides how many unreliable peers train one model together,
// each holding a stage of it: who computes what, what counts, who moves.
//
//   - [Trainer] draws micro-batches and walks each through the stages and back
//     by stochastic wiring: virtual times, measured rates, bans, retries that
//     carry the stage's input again (wiring.go, trainer.go). In synchronous mode
//     it closes a step with its set of micro-batches (closing.go).
//   - [Server] serves one stage: a bounded queue, forward passes that leave
//     nothing behind, backward passes whose gradient waits for the trainer's
//     word before it counts (server.go, steps.go). With local steps forward
//     passes wait for the inner step, so that few gradients are late (abreast.go).
//   - [Mover] decides for one peer whether it leaves its stage for another, from
//     what all publish; [Place] where a newcomer goes, [Recover] where a stage's
//     state comes from (rebalance.go).
//   - [Split] cuts a model's layers into stages (stage.go), [Outlook.Forecast]
//     says what a pipeline would do (forecast.go).
//
// A micro-batch counts at most once in each stage (R11): a trainer accepts one
// backward call a stage, and a server adds a gradient only when it is accepted.
// In synchronous mode a step is applied only when the members of every stage
// have added up exactly the set that closes it.
//
// All are pure: Step takes the time and one event and returns effects in the
// order in which they must be carried out; Deadline says when a Tick is due.
// What drivers keep: a trainer's keeps, by micro-batch, the input of each stage
// and the gradient of each stage's output until [Release]; a server's keeps what
// an Add needs of an answered backward call until it is added or dropped. The
// messages are those of package wire (stage.go).
package pipeline
