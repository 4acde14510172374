//go:build (amd64 || arm64) && !nocuda

package telemetry

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"dunlin/cuda/loader/loadertest"
)

// TestCallsTheLibrary reads the cards of a library in C, whose structures are those of nvml.h.
func TestCallsTheLibrary(t *testing.T) {
	s, err := load([]string{loadertest.Build(t, "testdata/fakenvml.c")})
	if err != nil {
		t.Fatal(err)
	}
	second := complete()
	second.Name, second.PCI, second.Utilisation, second.Temperature = "NVIDIA card 1", "0001:2c:01.0", 0.98, 72
	for range 2 {
		if got, err := s.Read(); err != nil || !reflect.DeepEqual(got, []Reading{complete(), second}) {
			t.Errorf("got  %+v, %v\nwant %+v", got, err, []Reading{complete(), second})
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(); err == nil {
		t.Error("reads after Close")
	}
}

// TestOldLibrary opens a library that lacks most of NVML.
func TestOldLibrary(t *testing.T) {
	if _, err := load([]string{"libc.so.6"}); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "too old") {
		t.Errorf("a library that is not NVML: %v", err)
	}
	s, err := load([]string{loadertest.Build(t, "testdata/fakenvml.c", "-DOLD")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := s.Read(); err != nil || len(got) != 2 || got[0].PowerLimit != 0 || got[0].Throttled != nil || got[0].Power != 168.5 {
		t.Errorf("an old NVML: %+v, %v", got, err)
	}
}
