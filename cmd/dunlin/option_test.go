package main

import "testing"

func TestBandwidth(t *testing.T) {
	var bits int
	o := bandwidth(&bits, "up", "")
	for text, want := range map[string]int{"": 0, "10mbit": 10_000_000, "500kbit": 500_000, "1.5 Mbit": 1_500_000, "1gbit": 1_000_000_000} {
		bits = -1
		if err := o.set(text); err != nil || bits != want {
			t.Errorf("%q: %d bits a second, %v; want %d", text, bits, err, want)
		}
		if want > 0 && o.set(formatRate(want)) != nil || bits != want {
			t.Errorf("%d bits a second read back as %d", want, bits)
		}
	}
	for _, text := range []string{"10", "10mb", "mbit", "-1mbit", "nanmbit", "63kbit", "1e300gbit", "infgbit"} {
		if err := o.set(text); err == nil {
			t.Errorf("%q is taken for %d bits a second", text, bits)
		}
	}
}
