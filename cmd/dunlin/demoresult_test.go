package main

import (
	"strings"
	"testing"

	"dunlin/cmd/dunlin/localswarm"
	"dunlin/status"
	"dunlin/wire"
)

// TestDemosTable: the table at a demo's end has every worker's figures, those of earlier processes included.
func TestDemosTable(t *testing.T) {
	var tally localswarm.Tally
	for _, p := range []status.Peer{
		{Slot: 1, Step: 10, Tokens: 200_000, Clock: 5000, Sent: 1_000_000, Received: 3_000_000, State: "draining"},
		{Slot: 2, Step: 10, Tokens: 100_000, Clock: 1000, Sent: 900_000, Received: 1_000_000},
		{Slot: 2, Step: 30, Tokens: 300_000, Clock: 3000, Sent: 2_000_000, Received: 4_000_000, Utilisation: 0.96, Height: 9, StateHash: wire.Hash{1}},
	} {
		tally.Heard(&p)
	}
	table := status.Table(&status.Snapshot{Peers: []status.Peer{endOf(&tally, "w1", true, false), endOf(&tally, "w2", false, false), endOf(&tally, "w3", false, true)}}, 0)
	rows := strings.Split(table, "\n")
	for i, want := range []string{"state at height 9", "w1 500 k 100 k 96 % 3.00 MB 7.00 MB " + wire.Hash{1}.Short(), "gone: had no part in the end", "w3 500 k 100 k 96 % 3.00 MB 7.00 MB gone: killed"} {
		if got := strings.Join(strings.Fields(rows[i]), " "); !strings.HasSuffix(got, want) {
			t.Errorf("row %d is %q, not … %q", i, got, want)
		}
	}
}
