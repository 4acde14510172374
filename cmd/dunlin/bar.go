package main

import (
	"strings"
	"time"

	"dunlin/status"
)

// barCells is the width of a bar, in columns.
const barCells = 18

// bar draws how much of a whole is done: "██████░░░░░░░░░░░░ 33 %".
func bar(share float64) string {
	share = min(max(share, 0), 1)
	full := int(share * barCells)
	return strings.Repeat("█", full) + strings.Repeat("░", barCells-full) + " " + status.Percent(share)
}

// left says how long the rest takes at the pace so far; nothing before there is one.
func left(share float64, took time.Duration) string {
	if share <= 0 || share >= 1 || took <= 0 {
		return ""
	}
	return " · " + status.Duration(took.Seconds()*(1-share)/share) + " left"
}
