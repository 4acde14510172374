package sim

import (
	"dunlin/contribution"
	"dunlin/peer/core"
	"dunlin/wire"
)

// Bug is a deliberate mistake of the simulated driver. None is in the product.
type Bug string

// The mistakes that the referee must find.
const (
	BugAppendUnchecked    Bug = "compare-and-append skipped"
	BugFeedbackAtSend     Bug = "error feedback settled at send"
	BugAttemptReused      Bug = "attempt id reused"
	BugHaveBeforeSync     Bug = "have before sync"
	BugDoneBeforeSync     Bug = "slab announced before sync"
	BugAppliedEarly       Bug = "applied before commit"
	BugLeasedTwice        Bug = "window leased twice"
	BugWindowsTwice       Bug = "window read twice"
	BugResultNotVerified  Bug = "result not verified"
	BugSlabNotVerified    Bug = "contribution slab not verified"
	BugIntervalReplayed   Bug = "own interval replayed"
	BugStateNotCompared   Bug = "state hash not compared"
	BugMissNotMerged      Bug = "missed rounds not merged"
	BugMergedTwice        Bug = "commit merged twice"
	BugNotDivided         Bug = "weights not divided by arrivals"
	BugOrderReversed      Bug = "summed out of rank order"
	BugLateSum            Bug = "earlier attempt's sum announced"
	BugTermNotDurable     Bug = "term not durable"
	BugHeardBeforeDurable Bug = "entry heard before it is durable"
	BugFeedbackKept       Bug = "error feedback kept over a restart"
	BugStepUntold         Bug = "snapshot's step untold"
	BugTablesLost         Bug = "commit tables not read at a restart"
	BugTokensTwice        Bug = "tokens counted for every fragment"
	BugAssignedEarly      Bug = "slot assigned before the last step of the old one"
	BugEntriesBare        Bug = "entries given without their tables"
	BugOwnerSettlesAtSum  Bug = "owner's error feedback settled at the sum"
)

// Bugs lists them all.
func Bugs() []Bug {
	return []Bug{
		BugAppendUnchecked, BugFeedbackAtSend, BugAttemptReused, BugHaveBeforeSync, BugDoneBeforeSync, BugAppliedEarly, BugLeasedTwice,
		BugWindowsTwice, BugResultNotVerified, BugSlabNotVerified, BugIntervalReplayed, BugStateNotCompared, BugMissNotMerged,
		BugMergedTwice, BugNotDivided, BugOrderReversed, BugLateSum, BugTermNotDurable, BugHeardBeforeDurable, BugFeedbackKept,
		BugStepUntold, BugTablesLost, BugTokensTwice, BugAssignedEarly, BugEntriesBare, BugOwnerSettlesAtSum,
	}
}

func (w *World) has(b Bug) bool { return w.sc.Bug == b }

// tamperAppend spoils a proposal.
func (w *World) tamperAppend(e core.Append) core.Append {
	switch b := e.Body.(type) {
	case *wire.Lease:
		if w.has(BugLeasedTwice) && b.Ranges[0].From >= 8 {
			again := *b
			again.Ranges = []wire.Range{{From: b.Ranges[0].From - 8, To: b.Ranges[0].To}}
			e.Body = &again
		}
	case *wire.Commit:
		if w.has(BugTokensTwice) {
			more := *b
			more.Tokens += w.spec.StepTokens()
			e.Body = &more
		}
	case *wire.Attempt:
		if w.has(BugAttemptReused) && b.ID.Counter > 1 {
			again := *b
			again.ID.Counter--
			e.Body = &again
		}
	case *wire.Member, *wire.Settings, *wire.Checkpoint:
	}
	return e
}

// tamperReady spoils what a worker claims.
func (w *World) tamperReady(r wire.Ready) wire.Ready {
	if w.has(BugIntervalReplayed) && r.From > 0 {
		r.From--
	}
	return r
}

// tamperMerge spoils the settlement of a contribution.
func (w *World) tamperMerge(o takeCommit) takeCommit {
	if w.has(BugFeedbackAtSend) {
		o.included = func(int) bool { return true }
	}
	return o
}

// settleAtSum makes a sum part of the owner's error feedback before any commit took it;
// a second sum of the round then goes on from it.
func (p *process) settleAtSum(work contribution.Work, sum *contribution.Sum) {
	row := wire.SlabResult{Slab: work.Slab, Owner: p.h.id, Hash: wire.HashLeaf(sum.Frame), Before: sum.Before, After: sum.After}
	p.owner.Settle(work.Fragment, work.Base, &wire.CommitTable{Slabs: []wire.SlabResult{row}})
}

// tamperShares spoils a sum.
func (w *World) tamperShares(shares []contribution.Share) []contribution.Share {
	if w.has(BugNotDivided) && len(shares) > 0 {
		// What did not arrive counts as zeros of the same weight.
		shares[0].Clip /= 2
	}
	return shares
}
