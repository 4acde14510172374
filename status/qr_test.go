package status

import (
	"net/http"
	"strings"
	"testing"

	"rsc.io/qr"
)

const someInvite = "dunlin1:acs2kakyea6gvxov5jouidrhqqeqcje7amprki5jnwml2sj5zjslxs3ckcbjwatmmeqgi5lonruw4idsovxagwbac5ilrvgnydvvagztanm4spn2j63nuwk75dir3ckvvn72jq7b3tiajatydaxws4buf4ytenzogaxdalrrf52gg4bpgm3tqnjzpaqc62lq"

// What a phone sees on a terminal, dark on light, is the code.
func TestQROfATerminalIsTheCode(t *testing.T) {
	code, err := qr.Encode(strings.ToUpper(someInvite), qr.L)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(QR(someInvite), "\n"), "\n")
	for y := -quiet; y < code.Size+quiet; y++ {
		row := []rune(lines[(y+quiet)/2])
		if len(row) != code.Size+2*quiet {
			t.Fatalf("row %d has %d columns", y, len(row))
		}
		for x := -quiet; x < code.Size+quiet; x++ {
			light := map[rune][2]bool{'█': {true, true}, '▀': {true, false}, '▄': {false, true}, ' ': {}}[row[x+quiet]]
			if dark := !light[(y+quiet)%2]; dark != code.Black(x, y) {
				t.Fatalf("module %d,%d is dark %v", x, y, dark)
			}
		}
	}
	if QR(strings.Repeat("x", 5000)) != "" {
		t.Error("a code for what no code holds")
	}
}

func TestPageShowsTheInviteAsACode(t *testing.T) {
	s := start(t, Config{})
	n := sample()
	n.Invite = ""
	s.Publish(n)
	if w, body := get(t, s, "/api/v1/invite.svg"); w.StatusCode != http.StatusNotFound || !strings.Contains(body, "no invite") {
		t.Errorf("%d %s", w.StatusCode, body)
	}
	n = sample()
	n.Invite = someInvite
	s.Publish(n)
	w, body := get(t, s, "/api/v1/invite.svg")
	code, err := qr.Encode(strings.ToUpper(someInvite), qr.L)
	if err != nil {
		t.Fatal(err)
	}
	dark := 0
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				dark++
			}
		}
	}
	if w.Header.Get("Content-Type") != "image/svg+xml" || strings.Count(body, "h1v1h-1z") != dark {
		t.Errorf("%q with %d modules, want %d", w.Header.Get("Content-Type"), strings.Count(body, "h1v1h-1z"), dark)
	}
	n = sample()
	n.Invite = strings.Repeat("x", 5000)
	s.Publish(n)
	if w, body := get(t, s, "/api/v1/invite.svg"); w.StatusCode != http.StatusNotFound || !strings.Contains(body, "too long") {
		t.Errorf("%d %s", w.StatusCode, body)
	}
}
