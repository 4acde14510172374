// Package sim runs whole swarms in virtual time: one goroutine, one heap of
// events, one seed. It drives the same core.Core as the real peer does and
// carries its effects out on a made-up network, disk and device, so that a
// failure of many peers is replayed from its seed.
//
// Each simulated peer carries real bits: a state of a few values in slabs
// (replica), error feedback (contribution), encoded frames (compress), a
// certified chain (ledger). A referee outside of the peers keeps its own books
// and checks the protocol's promises on those bits after every entry, every
// applied commit and every merge: one state at one height, no step, window or
// version committed twice, R1's law for every worker, R8's order of durability,
// results that are the sums of what was contributed, and progress whenever the
// faults are over.
//
//   - [Scenario] says who takes part and what goes wrong; [Random] draws one.
//   - [World] runs it.
//   - [Preemption] is apart: a trace of peers that are taken away, to measure
//     how stages of a pipeline stay filled.
//   - [Bug] is a deliberate mistake of the simulated driver: the referee must
//     find each of them, which is the test of the test.
package sim
