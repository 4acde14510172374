package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"dunlin/wire"
)

// Text draws the snapshot for a terminal of so many columns and rows (0: no
// bound): the four questions, then the workers, then the newest decisions. Each
// line ends in a newline, and the row below the last one stays free.
func Text(s *Snapshot, width, height int) string {
	var b strings.Builder
	line := func(parts ...string) { b.WriteString(clip(strings.Join(parts, ""), width) + "\n") }
	line("dunlin     ", join(headline(s)))
	line("learning   ", join(learningLine(s)))
	line("speed      ", join(speedLine(s)))
	for i := range s.Cards {
		line("card       ", join(cardLine(&s.Cards[i])))
	}
	line("health     ", join(healthLine(s)))
	line("cost       ", join(costLine(s)))
	if len(s.Run.Coordinators) > 0 {
		line("leads      ", join(coordinatorsLine(s)))
	}
	if s.Machine != nil {
		line("you        ", join(machineLine(s)))
	}
	b.WriteString("\n")
	notes := s.Notes[:min(len(s.Notes), shownNotes)]
	workers := 0
	if height > 0 {
		workers = max(1, height-strings.Count(b.String(), "\n")-len(notes)-3) // but for heading, empty line and the cursor's
	}
	b.WriteString(table(s, width, workers))
	for i, n := range notes {
		if i == 0 {
			b.WriteString("\n")
		}
		line(n.At.Format("15:04:05"), "   ", plain(n.Text))
	}
	return b.String()
}

const shownNotes = 3

// Line is the run's progress in one line: losses, tokens, speed, workers and commits. What is not known is left out.
func Line(s *Snapshot) string {
	var parts []string
	add := func(v *float64, text func(float64) string) {
		if v != nil {
			parts = append(parts, text(*v))
		}
	}
	add(s.Learning.Train, func(v float64) string { return Loss(v) + " nats/token" })
	add(s.Learning.HeldOut, func(v float64) string { return "held-out " + Loss(v) })
	parts = append(parts, learned(&s.Run))
	add(s.Speed.TokensPerSecond, func(v float64) string { return Figure(v) + " tokens/s" })
	add(s.Speed.SecondsLeft, func(v float64) string { return "≈ " + Duration(v) + " left" })
	if s.Health.Training > 0 {
		parts = append(parts, Count(uint64(s.Health.Training))+" training")
	}
	return join(append(parts, counted(s.Health.Commits, "commit")))
}

// learned is how many tokens are committed, of how many.
func learned(r *Run) string {
	if r.TokenBudget == 0 {
		return Figure(float64(r.Tokens)) + " tokens"
	}
	return Percent(float64(r.Tokens)/float64(r.TokenBudget)) + " of " + Figure(float64(r.TokenBudget)) + " tokens"
}

// counted is a number of things: "1 commit", "2 commits".
func counted(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return Count(n) + " " + thing + "s"
}

func join(parts []string) string { return strings.Join(parts, " · ") }

func headline(s *Snapshot) []string {
	parts := []string{plain(s.Run.Name), plain(s.Run.Phase)}
	if s.Run.Reason != "" {
		parts[1] += " (" + plain(s.Run.Reason) + ")"
	}
	parts = append(parts, "height "+Count(s.Run.Height))
	if !s.Run.Started.IsZero() {
		parts = append(parts, Duration(s.At.Sub(s.Run.Started).Seconds()))
	}
	return parts
}

// coordinatorsLine names the coordinators, whoever leads first.
func coordinatorsLine(s *Snapshot) []string {
	parts := []string{"nobody yet"}
	for _, c := range s.Run.Coordinators {
		text := c.ID[:min(8, len(c.ID))]
		if c.You {
			text += " (you)"
		}
		switch {
		case c.Leads:
			parts[0] = text + " in term " + Count(s.Run.Term)
		case c.Connected:
			parts = append(parts, text+" follows")
		default:
			parts = append(parts, text+" away")
		}
	}
	return parts
}

func learningLine(s *Snapshot) []string {
	l := &s.Learning
	parts := []string{known(l.Train, Loss) + " nats/token", "held-out " + known(l.HeldOut, Loss)}
	if l.Bigram != nil {
		parts = append(parts, "bigram "+Loss(*l.Bigram))
	}
	return append(parts, learned(&s.Run))
}

func speedLine(s *Snapshot) []string {
	parts := []string{known(s.Speed.TokensPerSecond, Figure) + " tokens/s"}
	if own := s.Speed.Own; own != nil {
		text := "you " + Figure(*own)
		if all := s.Speed.TokensPerSecond; all != nil && *all > 0 {
			text += " (" + Percent(*own / *all) + ")"
		}
		parts = append(parts, text)
	}
	if left := s.Speed.SecondsLeft; left != nil {
		parts = append(parts, "≈ "+Duration(*left)+" left")
	}
	return parts
}

// cardLine is what a GPU that trains here tells of itself.
func cardLine(c *Card) []string {
	parts := []string{plain(c.Name), Percent(c.Utilisation), Bytes(float64(c.Used)) + " of " + Bytes(float64(c.Total))}
	if c.Temperature > 0 {
		parts = append(parts, fmt.Sprintf("%.0f °C", c.Temperature))
	}
	switch {
	case c.Power > 0 && c.PowerLimit > 0:
		parts = append(parts, fmt.Sprintf("%.0f of %.0f W", c.Power, c.PowerLimit))
	case c.Power > 0:
		parts = append(parts, fmt.Sprintf("%.0f W", c.Power))
	}
	if len(c.Throttled) > 0 {
		parts = append(parts, "held down by "+strings.Join(c.Throttled, ", "))
	}
	return parts
}

func healthLine(s *Snapshot) []string {
	h := &s.Health
	parts := []string{Count(uint64(h.Training)) + " training"}
	if h.Syncing > 0 {
		parts = append(parts, Count(uint64(h.Syncing))+" syncing")
	}
	switch {
	case h.Diverged > 0 || h.StatesAgree != nil && !*h.StatesAgree:
		parts = append(parts, "STATES DIFFER")
	case h.StatesAgree != nil:
		parts = append(parts, "states agree")
	}
	failed := Count(h.FailedAttempts) + " failed"
	if h.FailedAttempts > 0 && h.LastFailure != "" {
		failed += " (" + plain(h.LastFailure) + ")"
	}
	commits := counted(h.Commits, "commit")
	if h.Contributed > 0 {
		commits += ", the newest by " + counted(uint64(h.Contributed), "worker")
	}
	parts = append(parts, commits, failed)
	if h.Lost > 0 {
		parts = append(parts, Count(uint64(h.Lost))+" lost in 10 m ("+plain(h.LastLost)+")")
	}
	return parts
}

// machineLine says what this machine does for the run and takes from its owner.
func machineLine(s *Snapshot) []string {
	m := s.Machine
	state := plain(m.State)
	if m.Reason != "" {
		state += ": " + plain(m.Reason)
	}
	if m.Until != nil {
		state += ", goes on at " + m.Until.Format("Mon 15:04")
	}
	parts := []string{state}
	for _, g := range s.Thanks.Ranks {
		if g.You {
			parts = append(parts, "gave "+Figure(float64(g.Tokens))+" tokens, rank "+Count(uint64(g.Rank))+" of "+Count(uint64(s.Thanks.Givers)))
		}
	}
	return append(parts, "sent "+Bytes(float64(m.SentToday))+" and received "+Bytes(float64(m.ReceivedToday))+" today")
}

func costLine(s *Snapshot) []string {
	c := &s.Cost
	return []string{
		"upload " + known(c.UploadBitsPerParameter, Figure) + " bits a parameter",
		known(c.BytesPerPeerDay, Bytes) + " a day and peer",
		ratio(c.BytesRatio),
	}
}

// ratio compares with what fp32 data-parallel training would have sent.
func ratio(times *float64) string {
	switch {
	case times == nil || !(*times > 0):
		return Unknown + " compared with data-parallel"
	case *times < 1:
		return Figure(1 / *times) + "× above data-parallel"
	}
	return Figure(*times) + "× below data-parallel"
}

// column of the workers' table; those of a high rank go first when the
// terminal is narrow.
type column struct {
	head string
	rank int
	cell func(*Peer) string
}

// Table draws the workers: tokens, tokens/s, share of time in inner steps,
// bytes, and the state each has in memory. Columns that do not fit are left
// out. Each line ends in a newline.
func Table(s *Snapshot, width int) string { return table(s, width, 0) }

// table is Table with at most so many rows below its heading; 0 is no bound. Where they are too few, those who train are shown.
func table(s *Snapshot, width, most int) string {
	if len(s.Peers) == 0 {
		return clip(" no worker yet: on another machine, dunlin join "+invite(s), width) + "\n"
	}
	peers, rest := s.Peers, 0
	if most > 0 && len(peers) > most {
		peers = slices.Clone(peers)
		slices.SortStableFunc(peers, func(a, b Peer) int { return cmp.Or(first(a.You, b.You), first(a.Alive, b.Alive)) })
		rest = len(peers) - max(most-1, 1)
		peers = peers[:len(peers)-rest]
	}
	height, same := commonHeight(s.Peers)
	state := "state"
	if same {
		state += " at height " + Count(height)
	}
	columns := []column{
		{"worker", 0, workerName},
		{"stage", 2, func(p *Peer) string { return Count(uint64(p.Stage) + 1) }},
		{"tokens", 1, func(p *Peer) string { return told(p, Figure(float64(p.Tokens))) }},
		{"tokens/s", 1, func(p *Peer) string { return trained(p, Figure(p.TokensPerSecond)) }},
		{"in steps", 3, func(p *Peer) string { return trained(p, Percent(p.Utilisation)) }},
		{"sent", 4, func(p *Peer) string { return told(p, Bytes(float64(p.Sent))) }},
		{"received", 4, func(p *Peer) string { return told(p, Bytes(float64(p.Received))) }},
		{state, 0, func(p *Peer) string { return stateCell(p, same) }},
	}
	if len(s.Stages) == 0 {
		columns = slices.Delete(columns, 1, 2)
	}
	rows := make([][]string, 0, len(peers))
	for drop := 5; ; drop-- {
		columns = keep(columns, func(c column) bool { return c.rank < drop })
		rows = rows[:0]
		for i := range peers {
			row := make([]string, len(columns))
			for c := range columns {
				row[c] = columns[c].cell(&peers[i])
			}
			rows = append(rows, row)
		}
		text, fits := layTable(columns, rows, width)
		if fits || drop == 1 {
			if rest > 0 {
				text += clip(fmt.Sprintf(" … and %s more", Count(uint64(rest))), width) + "\n"
			}
			return text
		}
	}
}

// first orders what is so before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// layTable pads columns to their widest cell and tells whether they fit.
func layTable(columns []column, rows [][]string, width int) (text string, fits bool) {
	fits = true
	widths := make([]int, len(columns))
	for c := range columns {
		widths[c] = utf8.RuneCountInString(columns[c].head)
		for _, row := range rows {
			widths[c] = max(widths[c], utf8.RuneCountInString(row[c]))
		}
	}
	var b strings.Builder
	put := func(cells []string) {
		line := ""
		for c, cell := range cells {
			line += " " + cell + strings.Repeat(" ", widths[c]-utf8.RuneCountInString(cell)+2)
		}
		line = strings.TrimRight(line, " ")
		fits = fits && (width <= 0 || utf8.RuneCountInString(line) <= width)
		b.WriteString(clip(line, width) + "\n")
	}
	heads := make([]string, len(columns))
	for c := range columns {
		heads[c] = columns[c].head
	}
	put(heads)
	for _, row := range rows {
		put(row)
	}
	return b.String(), fits
}

// told is a figure that peers tell the coordinator; a worker does not hear of others'.
func told(p *Peer, figure string) string {
	if p.State == "" && !p.You {
		return Unknown
	}
	return figure
}

// trained is a figure of a worker that has made a step; before, it is unknown.
func trained(p *Peer, figure string) string {
	if p.Step == 0 {
		return Unknown
	}
	return figure
}

func workerName(p *Peer) string {
	name := plain(p.Name)
	if name == "" {
		name = "slot " + Count(p.Slot)
	}
	if p.You {
		name += " (you)"
	}
	return name
}

// stateCell is the worker's state hash, or why there is none to compare.
func stateCell(p *Peer, same bool) string {
	text := Unknown
	switch {
	case !p.Alive && p.Reason != "":
		return "gone: " + plain(p.Reason)
	case !p.Alive:
		return "gone"
	case !p.StateHash.IsZero():
		text = p.StateHash.Short()
		if !same {
			text += " at " + Count(p.Height)
		}
	}
	if p.State != "training" && p.State != "" {
		text += " " + plain(p.State)
	}
	return text
}

// commonHeight returns the height that all live workers report, if they do.
func commonHeight(peers []Peer) (height uint64, same bool) {
	for i := range peers {
		p := &peers[i]
		if !p.Alive || p.StateHash == (wire.Hash{}) {
			continue
		}
		if same && p.Height != height {
			return 0, false
		}
		height, same = p.Height, true
	}
	return height, same
}

func invite(s *Snapshot) string {
	if s.Invite == "" {
		return "INVITE"
	}
	return plain(s.Invite)
}

// plain takes out what could steer a terminal: a remote peer's words are shown,
// not obeyed.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
}

// clip cuts a line to width columns and marks the cut.
func clip(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}
