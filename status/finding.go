package status

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Finding is one thing that doctor looked at on this machine.
type Finding struct {
	Name   string  `json:"name"`           // what was looked at, a word or two: "clock", "disk"
	State  Verdict `json:"state"`          // how it stands
	Detail string  `json:"detail"`         // what was found, with figures and units
	Mend   string  `json:"mend,omitempty"` // what to do, exactly: a command where there is one; empty when nothing is wrong
}

// Verdict is how a finding stands.
type Verdict string

// Verdicts, from best to worst.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // dunlin works, but less well than it could
	Fail Verdict = "fail" // dunlin does not work as it stands
)

// Findings draws what doctor found, one line each and its mend below it, for a
// terminal of the given width in columns (0: no bound), and ends with a count.
// Mends are never cut: they are there to be copied.
func Findings(findings []Finding, width int) string {
	longest, count := 0, map[Verdict]int{}
	for _, f := range findings {
		longest = max(longest, utf8.RuneCountInString(f.Name))
		count[f.State]++
	}
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(clip(fmt.Sprintf("%-4s  %-*s  %s", f.State, longest, f.Name, plain(f.Detail)), width) + "\n")
		if f.Mend != "" {
			fmt.Fprintf(&b, "      %-*s  → %s\n", longest, "", plain(f.Mend))
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %d to look at, %d to mend\n", count[OK], count[Warn], count[Fail])
	return b.String()
}

// Worst is the worst verdict among findings; OK of none.
func Worst(findings []Finding) Verdict {
	worst := OK
	for _, f := range findings {
		if f.State == Fail || f.State == Warn && worst == OK {
			worst = f.State
		}
	}
	return worst
}
