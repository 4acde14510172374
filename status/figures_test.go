package status

import (
	"math"
	"testing"
)

// figureCases are shared with the test of the page, which must print the same.
var figureCases = []struct {
	format string // of web/figures.js
	v      float64
	want   string
}{
	{"figure", 0, "0"},
	{"figure", 7, "7"},
	{"figure", 640, "640"},
	{"figure", 1.7, "1.70"},
	{"figure", 0.0234, "0.0234"},
	{"figure", 9.616, "9.62"},
	{"figure", 79.84, "79.8"},
	{"figure", 99.96, "100"},
	{"figure", 460.4, "460"},
	{"figure", 999.6, "1,000"},
	{"figure", 2012, "2,010"},
	{"figure", 8041, "8,040"},
	{"figure", 9996, "10.0 k"},
	{"figure", 21380, "21.4 k"},
	{"figure", 412_300, "412 k"},
	{"figure", 999_600, "1.00 M"},
	{"figure", 1_199_000, "1.20 M"},
	{"figure", 2.5e9, "2.50 B"},
	{"figure", 41e12, "41.0 T"},
	{"figure", 1.5e16, "15,000 T"},
	{"figure", -21380, "-21.4 k"},
	{"figure", math.NaN(), "–"},
	{"figure", math.Inf(1), "–"},
	{"bytes", 0, "0 B"},
	{"bytes", 512, "512 B"},
	{"bytes", 999.7, "1.00 kB"},
	{"bytes", 8040, "8.04 kB"},
	{"bytes", 1.9e6, "1.90 MB"},
	{"bytes", 2.13e9, "2.13 GB"},
	{"bytes", math.NaN(), "–"},
	{"duration", 0, "0 s"},
	{"duration", 0.0001, "0 s"},
	{"duration", 0.31, "310 ms"},
	{"duration", 0.9999, "1.0 s"},
	{"duration", 4.24, "4.2 s"},
	{"duration", 9.97, "10 s"},
	{"duration", 40, "40 s"},
	{"duration", 59.7, "1 m 0 s"},
	{"duration", 130, "2 m 10 s"},
	{"duration", 11_520, "3 h 12 m"},
	{"duration", 353_000, "4 d 2 h"},
	{"duration", -1, "–"},
	{"duration", math.Inf(1), "–"},
	{"percent", 0, "0 %"},
	{"percent", 0.001, "<1 %"},
	{"percent", 0.05, "5 %"},
	{"percent", 0.957, "96 %"},
	{"percent", 0.9999, "99 %"},
	{"percent", 1, "100 %"},
	{"percent", math.NaN(), "–"},
	{"loss", 3.1268, "3.127"},
	{"loss", 2.4, "2.400"},
	{"loss", math.NaN(), "–"},
	{"count", 0, "0"},
	{"count", 999, "999"},
	{"count", 8812, "8,812"},
	{"count", 1_234_567, "1,234,567"},
}

func TestFigures(t *testing.T) {
	formats := map[string]func(float64) string{
		"figure": Figure, "bytes": Bytes, "duration": Duration, "percent": Percent, "loss": Loss,
		"count": func(v float64) string { return Count(uint64(v)) },
	}
	for _, c := range figureCases {
		if got := formats[c.format](c.v); got != c.want {
			t.Errorf("%s(%v) = %q, want %q", c.format, c.v, got, c.want)
		}
	}
}

func TestKnownSaysWhatIsMissing(t *testing.T) {
	if got := known(nil, Loss); got != Unknown {
		t.Errorf("nil: %q", got)
	}
	zero := 0.0
	if got := known(&zero, Figure); got != "0" {
		t.Errorf("zero: %q, which is known", got)
	}
}
