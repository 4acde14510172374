package telemetry

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const notSupported code = 3

// fills is a function that tells v of every card.
func fills[T any](v T) func(card, *T) code {
	return func(_ card, to *T) code { *to = v; return 0 }
}

// silent is a function that a card does not support, though it leaves something behind.
func silent[T any](v T) func(card, *T) code {
	return func(_ card, to *T) code { *to = v; return notSupported }
}

// table is a stand-in for NVML with one card, which tells everything.
func table() *nvml {
	name := cardName{}
	copy(name[:], "NVIDIA GeForce RTX 3060")
	return &nvml{
		start:       func() code { return 0 },
		stop:        func() code { return 0 },
		count:       func(n *uint32) code { *n = 1; return 0 },
		card:        func(index uint32, c *card) code { *c = card(100 + index); return 0 },
		name:        fills(name),
		bus:         fills(cardBus{domain: 0, bus: 0x2b, device: 1}),
		use:         fills(cardUse{kernels: 97, memory: 60}),
		memory:      fills(cardMemory{total: 12 << 30, free: 2 << 30, used: 10 << 30}),
		temperature: fills[uint32](71),
		power:       fills[uint32](168_500),
		powerLimit:  fills[uint32](170_000),
		throttling:  fills[uint64](0x1 | 0x4 | 0x40), // idle, software power cap, hardware thermal slowdown
	}
}

// complete is what is read of that card.
func complete() Reading {
	return Reading{
		Name: "NVIDIA GeForce RTX 3060", PCI: "0000:2b:01.0", Utilisation: 0.97, Used: 10 << 30, Total: 12 << 30,
		Temperature: 71, Power: 168.5, PowerLimit: 170, Throttled: []string{"power limit", "heat"},
	}
}

func TestReadsCards(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*nvml)
		want   Reading
	}{
		"a card that tells everything": {func(*nvml) {}, complete()},
		"a card that tells nothing": {func(l *nvml) {
			l.name, l.bus, l.use, l.memory = silent(cardName{'x'}), silent(cardBus{bus: 1}), silent(cardUse{kernels: 1}), silent(cardMemory{total: 1})
			l.temperature, l.power, l.powerLimit, l.throttling = silent[uint32](1), silent[uint32](1), silent[uint32](1), silent[uint64](8)
		}, Reading{}},
	} {
		lib, closed := table(), false
		c.change(lib)
		lib.stop = func() code { closed = true; return 0 }
		s, err := begin(lib)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Read(); err != nil || !reflect.DeepEqual(got, []Reading{c.want}) {
			t.Errorf("%s: got  %+v, %v\nwant %+v", name, got, err, c.want)
		}
		if err := s.Close(); err != nil || !closed {
			t.Errorf("closed %v, %v", closed, err)
		}
	}
}

func TestFailuresOfNVML(t *testing.T) {
	lib := table()
	lib.start = func() code { return 9 }
	if _, err := begin(lib); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "start NVML: NVIDIA's driver is not loaded") {
		t.Errorf("no driver: %v", err)
	}
	lib = table()
	lib.card = func(uint32, *card) code { return 15 }
	s, err := begin(lib)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(); err == nil || !strings.Contains(err.Error(), "look at card 0: the card was lost") {
		t.Errorf("a lost card: %v", err)
	}
	lib.count = func(n *uint32) code { *n = 3; return 0 }
	lib.card = func(index uint32, c *card) code { *c = card(index); return []code{0, 15, 0}[index] }
	if got, err := s.Read(); err != nil || !reflect.DeepEqual(got, []Reading{complete(), complete()}) {
		t.Errorf("a lost card between others: %+v, %v", got, err)
	}
	lib.count = func(*uint32) code { return 999 }
	if _, err := s.Read(); err == nil || !strings.Contains(err.Error(), "count cards: NVML reports error 999") {
		t.Errorf("an unknown error: %v", err)
	}
	lib.stop = func() code { return 1 }
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "stop NVML") {
		t.Errorf("closed in vain: %v", err)
	}
}

// This machine may have cards or none; either way Open says so.
func TestOpen(t *testing.T) {
	s, err := Open()
	if err != nil {
		if !errors.Is(err, ErrNone) {
			t.Error(err)
		}
		return
	}
	if _, err := s.Read(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
