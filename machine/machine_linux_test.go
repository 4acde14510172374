package machine

import (
	"testing"
	"testing/fstest"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("cpu  1000 9999 500 99999 9999 30 20 0 0 0\ncpu0 1 2 3\n"))
	if want := 15.5; err != nil || got != want {
		t.Errorf("%v s, %v; want %v: nice, idle and waiting do not count", got, err, want)
	}
	for _, text := range []string{"", "cpu", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu a b c d e f g h"} {
		if _, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestDischarging(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  bool
	}{
		"no supply at all":           {fstest.MapFS{}, false},
		"on mains":                   {fstest.MapFS{"AC/type": file("Mains"), "AC/online": file("1"), "BAT0/type": file("Battery"), "BAT0/status": file("Charging")}, false},
		"on mains, the battery lags": {fstest.MapFS{"AC/type": file("Mains"), "AC/online": file("1"), "BAT0/type": file("Battery"), "BAT0/status": file("Discharging")}, false},
		"on battery":                 {fstest.MapFS{"AC/type": file("Mains"), "AC/online": file("0"), "BAT0/type": file("Battery"), "BAT0/status": file("Discharging")}, true},
		"a mouse":                    {fstest.MapFS{"hid/type": file("Battery"), "hid/scope": file("Device"), "hid/status": file("Discharging")}, false},
	} {
		if got, err := discharging(c.files); err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
}
