package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/cuda/driver"
	"dunlin/peer"
	"dunlin/wire"
)

// What computes is told once, and again when it is something else.
func TestDevicesAreTold(t *testing.T) {
	processor, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer processor.Close()
	name := processor.Name()
	for told, lines := range map[string]int{name: 0, "cuda:0 RTX 3060": 1} {
		s := &stay{device: told, told: told}
		var out strings.Builder
		for range 2 {
			s.tellDevices([]*device{{on: processor, why: "the card is gone"}}, func(ev any) { ev.(func(*progress))(&progress{out: &out}) })
		}
		if strings.Count(out.String(), "this machine   "+name+" (the card is gone)\n") != lines || s.device != name {
			t.Errorf("heard of %s: %q, then %s", told, out.String(), s.device)
		}
	}
}

// A peer comes back after a move, in the stage that it was told, and after the loss of its card, later each time.
func TestComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := fmt.Errorf("training stopped: %w", compute.ErrLost)
		full := errors.New("no room on the disk")
		ends := []error{lost, &driver.Error{Code: driver.LaunchFailed, Call: "cuCtxCreate"}, &peer.MoveError{Stage: 2, Reason: "a test"}, lost, full}
		var stages []int
		var said int
		began := time.Now()
		err := again(t.Context(), func(stage int) error {
			stages = append(stages, stage)
			return ends[len(stages)-1]
		}, func(any) { said++ })
		if !errors.Is(err, full) || !slices.Equal(stages, []int{wire.AllStages, wire.AllStages, wire.AllStages, 2, 2}) || said != 4 {
			t.Errorf("%v after stages %v, said %d times", err, stages, said)
		}
		if took, want := time.Since(began), (1+2+4)*time.Second; took != want {
			t.Errorf("waited %v, want %v", took, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		tries := 0
		if err := again(ctx, func(int) error {
			tries++
			cancel()
			return lost
		}, func(any) {}); !errors.Is(err, compute.ErrLost) || tries != 1 {
			t.Errorf("told to stop: %v after %d tries", err, tries)
		}
	})
}
