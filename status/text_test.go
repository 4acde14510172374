package status

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTableDrawsWorkers(t *testing.T) {
	want := strings.Join([]string{
		` worker         tokens   tokens/s   in steps   sent      received   state at height 118`,
		` slot 1         228 k    2,010      96 %       1.90 MB   1.80 MB    8c7b…12`,
		` slot 2 (you)   228 k    2,010      96 %       1.90 MB   1.80 MB    8c7b…12`,
		` slot 3         228 k    2,010      96 %       1.90 MB   1.80 MB    8c7b…12`,
		` slot 4         228 k    2,010      96 %       1.90 MB   1.80 MB    8c7b…12`,
		` slot 5         120 k    0          0 %        0 B       0 B        gone: no heartbeat for 20 s`,
		` slot 6         0        –          –          0 B       0 B        – syncing`,
	}, "\n") + "\n"
	s := sample()
	if got := Table(s, 0); !strings.HasPrefix(got, " worker         stage   tokens ") {
		t.Errorf("no stages in\n%s", got)
	}
	s.Stages = nil
	want = strings.ReplaceAll(want, "8c7b…12", s.Run.StateHash.Short())
	if got := Table(s, 100); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTableNamesHeightsThatDiffer(t *testing.T) {
	s := sample()
	s.Peers[0].Height, s.Peers[0].Name = 117, "w1"
	got := Table(s, 0)
	for _, want := range []string{" w1 ", "at 117\n", "at 118\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "state at height") {
		t.Errorf("one height for two:\n%s", got)
	}
}

func TestTextFitsTheTerminal(t *testing.T) {
	s := sample()
	s.Notes[0].Text = strings.Repeat("long ", 100)
	for _, width := range []int{120, 80, 60, 40, 20, 1} {
		for i, line := range strings.Split(Text(s, width, 0), "\n") {
			if n := utf8.RuneCountInString(line); n > width {
				t.Errorf("width %d, line %d has %d columns: %q", width, i, n, line)
			}
		}
	}
	if got := Text(s, 60, 0); !strings.Contains(got, "tokens/s") || strings.Contains(got, "received") {
		t.Errorf("a narrow table drops bytes before rates:\n%s", got)
	}
}

// TestTextFitsOneScreen: of many workers those who train are shown, oneself first, and how many more there are.
func TestTextFitsOneScreen(t *testing.T) {
	s := sample()
	for slot := uint64(7); slot < 60; slot++ {
		s.Peers = append(s.Peers, Peer{ID: "more", Slot: slot, Alive: slot%2 == 0, State: "training", Step: 10})
	}
	for _, height := range []int{38, 30, 24, 20} {
		text := Text(s, 120, height)
		if n := strings.Count(text, "\n"); n >= height || n < height-2 {
			t.Errorf("%d lines for %d rows:\n%s", n, height, text)
		}
		if !strings.Contains(text, " slot 2 (you)") || strings.Contains(text, "gone") || !strings.Contains(text, " more\n") || !strings.Contains(text, "round of fragment 0") {
			t.Errorf("%d rows:\n%s", height, text)
		}
	}
	if text := Text(s, 120, 5); !strings.Contains(text, " … and 58 more\n") {
		t.Errorf("a low terminal:\n%s", text)
	}
	if text := Text(sample(), 120, 40); strings.Contains(text, " more") || strings.Index(text, "slot 1") > strings.Index(text, "slot 2") {
		t.Errorf("all fit:\n%s", text)
	}
}

func TestTextNamesWhoLeads(t *testing.T) {
	s := sample()
	if got := Text(s, 0, 0); strings.Contains(got, "leads") {
		t.Errorf("one coordinator, and yet:\n%s", got)
	}
	s.Run.Coordinators = []Coordinator{{ID: "aaaaaaaaaa", Connected: true}, {ID: "bbbbbbbbbb", You: true, Leads: true, Connected: true}, {ID: "cccccccccc"}}
	if got, want := Text(s, 0, 0), "leads      bbbbbbbb (you) in term 1 · aaaaaaaa follows · cccccccc away\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
}

func TestTextAnswersTheFourQuestions(t *testing.T) {
	got := Text(sample(), 0, 0)
	for _, want := range []string{
		"Go tutor · training · height 118 · 2 m 10 s",
		"2.610 nats/token · held-out 2.654 · bigram 2.830 · 76 % of 1.20 M tokens",
		"8,040 tokens/s · you 2,010 (25 %) · ≈ 36 s left",
		"NVIDIA GeForce RTX 3060 · 97 % · 10.0 GB of 12.0 GB · 71 °C · 168 of 170 W · held down by power limit, heat",
		"4 training · 1 syncing · states agree · 59 commits, the newest by 4 workers · 1 failed (slab 3 below quorum) · 1 lost in 10 m (ab12: no heartbeat)",
		"upload 9.61 bits a parameter · 2.13 GB a day and peer · 79.8× below data-parallel",
		"you        paused: outside its hours, 22:00-07:00, goes on at Mon 12:03 · gave 212 k tokens, rank 2 of 2 · sent 1.90 MB and received 2.50 MB today",
		"12:03:10   round of fragment 0 opens",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestLineSaysHowFarTheRunIs(t *testing.T) {
	s := sample()
	if got, want := Line(s), "2.610 nats/token · held-out 2.654 · 76 % of 1.20 M tokens · 8,040 tokens/s · ≈ 36 s left · 4 training · 59 commits"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Line(&Snapshot{Health: Health{Commits: 1}}), "0 tokens · 1 commit"; got != want {
		t.Errorf("of a run that begins: %q, want %q", got, want)
	}
}

func TestTextOfNothingIsUnknownNotZero(t *testing.T) {
	got := Text(&Snapshot{}, 80, 0)
	for _, want := range []string{"– nats/token · held-out –", "– tokens/s", "upload – bits", "no worker yet"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestTextDoesNotObeyRemoteWords(t *testing.T) {
	s := sample()
	s.Peers[4].Reason = "\x1b[2Jgone\r\n\u202eevil"
	s.Health.LastLost = "\x1b]0;title\a"
	s.Peers[0].Name = "a\tb"
	s.Notes[0].Text = "one\ntwo"
	got := Text(s, 0, 0)
	if i := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && (r < ' ' || r == '\u202e' || r == 0x7f) }); i >= 0 {
		t.Errorf("control character at byte %d of\n%q", i, got)
	}
	if strings.Count(got, "\n") != strings.Count(Text(sample(), 0, 0), "\n") {
		t.Error("a remote word broke a line")
	}
}

func TestTextShoutsWhenStatesDiffer(t *testing.T) {
	s := sample()
	no := false
	s.Health.StatesAgree = &no
	if got := Text(s, 0, 0); !strings.Contains(got, "STATES DIFFER") {
		t.Error(got)
	}
}
