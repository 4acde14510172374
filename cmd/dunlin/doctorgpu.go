package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"dunlin/compute"
	"dunlin/compute/computetest"
	"dunlin/cuda"
	"dunlin/cuda/driver"
	"dunlin/cuda/ptxemu"
	"dunlin/cuda/telemetry"
	"dunlin/status"
)

// What a volunteer can do about cards that compute wrong or not at all.
const (
	mendKernels = "update NVIDIA's driver and look again; undo overclocking; if it stays, report this with the output of dunlin doctor --gpu --json and use --device cpu"
	mendOldCard = "nothing mends it: join with --device cpu"
)

// doctorGPU checks the GPUs of this machine: driver, cards, each kernel against the reference, and how fast they are.
func (t *terminal) doctorGPU(ctx context.Context, c *Config) error {
	line := t.progress(c)
	defer line.close()
	backend := driver.System()
	if c.Device == deviceEmulated {
		var err error
		if backend, err = ptxemu.New(ptxemu.Config{Uninitialised: true}); err != nil {
			return err
		}
	}
	if c.Device == deviceCPU {
		return fmt.Errorf("device %s: doctor --gpu looks at GPUs; allowed: auto, cuda:N, cuda:all, emulated-cuda", c.Device)
	}
	findings, cards := lookDriver(backend)
	if n, ok := strings.CutPrefix(c.Device, "cuda:"); ok && c.Device != deviceAllCards && len(cards) > 0 {
		cards = slices.DeleteFunc(cards, func(i driver.Info) bool { return strconv.Itoa(i.Index) != n })
		if len(cards) == 0 {
			return fmt.Errorf("device %s: the driver lists no such card; dunlin doctor --gpu looks at all", c.Device)
		}
	}
	timings := []timing{}
	for _, card := range cards {
		ability := lookCapability(card)
		findings = append(findings, ability)
		if ability.State == status.Fail {
			continue
		}
		for _, precision := range cuda.Precisions(card) {
			found, times, err := examine(ctx, backend, card, precision, line)
			if err != nil {
				return err
			}
			findings, timings = append(findings, found...), append(timings, times...)
		}
	}
	findings = append(findings, lookTelemetry())
	if err := t.reportGPU(c, findings, timings); err != nil {
		return err
	}
	if status.Worst(findings) == status.Fail {
		return errors.New("GPUs of this machine cannot train as they stand: see what fails above, and its mend")
	}
	return nil
}

// lookDriver finds the driver and its cards.
func lookDriver(backend driver.Driver) ([]status.Finding, []driver.Info) {
	found := status.Finding{Name: "driver", State: status.OK}
	version, err := backend.Version()
	var cards []driver.Info
	if err == nil {
		cards, err = backend.Devices()
	}
	var failed *driver.Error
	switch {
	case errors.As(err, &failed):
		found.State, found.Detail, found.Mend = status.Fail, failed.Text(), failed.Mend()
		if failed.Detail != "" {
			found.Detail += ": " + failed.Detail
		}
	case err != nil:
		found.State, found.Detail, found.Mend = status.Fail, err.Error(), mendKernels
	case len(cards) == 0:
		none := &driver.Error{Code: driver.NoDevice}
		found.State, found.Detail, found.Mend = status.Fail, none.Text(), none.Mend()
	default:
		found.Detail = fmt.Sprintf("speaks CUDA %d.%d, lists %d", version/1000, version%1000/10, len(cards))
	}
	return []status.Finding{found}, cards
}

func cardName(card driver.Info) string { return fmt.Sprintf("cuda:%d", card.Index) }

// lookCapability tells whether the kernels run on a card.
func lookCapability(card driver.Info) status.Finding {
	found := status.Finding{Name: cardName(card), State: status.OK}
	found.Detail = fmt.Sprintf("%s, compute capability %d.%d, %s, %d multiprocessors", card.Name, card.Major, card.Minor, status.Bytes(float64(card.MemoryBytes)), card.Multiprocessors)
	if card.Capability() < leastCapability {
		found.State, found.Detail, found.Mend = status.Fail, tooOld(card), mendOldCard
	}
	return found
}

// examine runs every kernel of a precision on a card against the reference, and times them where that tells something:
// on an emulated card, which has no clock, it takes one case of each operation and no times.
func examine(ctx context.Context, backend driver.Driver, card driver.Info, precision compute.Precision, line *progress) ([]status.Finding, []timing, error) {
	found := status.Finding{Name: cardName(card) + " " + string(precision), State: status.OK}
	fail := func(err error, mend string) ([]status.Finding, []timing, error) {
		var failed *driver.Error
		if errors.As(err, &failed) {
			mend = failed.Mend()
		}
		found.State, found.Detail, found.Mend = status.Fail, err.Error(), mend
		return []status.Finding{found}, nil, nil
	}
	timed := card.PCI != "" // an emulated card is on no bus
	cases := computetest.Cases(precision)
	if timed {
		cases = append(cases, computetest.Large(precision, benchSizes.sizes())...)
	} else {
		cases = slices.CompactFunc(cases, func(a, b computetest.Case) bool { return operation(a) == operation(b) })
	}
	on, err := openExamined(backend, card, precision, line)
	if err != nil {
		return fail(err, mendKernels)
	}
	defer func() {
		if on != nil {
			_ = on.Close() // a fault of it was found before
		}
	}()
	var wrong []string
	for i, k := range cases {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if line.live {
			line.step(fmt.Sprintf("%s: kernel %d of %d, %s …", found.Name, i+1, len(cases), k.Name))
		}
		err := k.Check(on)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", k.Name, err)
		_ = on.Close() // of no more use
		if errors.Is(err, compute.ErrLost) || errors.Is(err, compute.ErrMemory) {
			return fail(err, mendKernels)
		}
		wrong = append(wrong, err.Error())
		if on, err = openExamined(backend, card, precision, line); err != nil {
			return fail(err, mendKernels)
		}
	}
	if len(wrong) > 0 {
		return fail(fmt.Errorf("%d of %d cases differ from the reference; %s", len(wrong), len(cases), wrong[0]), mendKernels)
	}
	found.Detail = fmt.Sprintf("%d cases of %d operations agree with the reference", len(cases), operations(cases))
	if !timed {
		found.Detail += "; not timed, an emulation tells nothing of speed"
		return []status.Finding{found}, nil, nil
	}
	vector, tensor := card.Peak()
	if precision != compute.FP32 {
		vector = tensor
	}
	times, err := timeOperations(ctx, on, benchSizes, vector, card.Bandwidth())
	if err != nil {
		return fail(err, mendKernels)
	}
	for i := range times {
		times[i].Card, times[i].Precision = cardName(card), string(precision)
	}
	return []status.Finding{found}, times, nil
}

func openExamined(backend driver.Driver, card driver.Info, precision compute.Precision, line *progress) (compute.Device, error) {
	c := &Config{Precision: string(precision)}
	d, err := c.openCard(backend, card, line)
	if err != nil {
		return nil, err
	}
	return d.on, nil
}

// operation is what a case is named after.
func operation(c computetest.Case) string {
	name, _, _ := strings.Cut(c.Name, "/")
	return name
}

func operations(cases []computetest.Case) int {
	seen := map[string]bool{}
	for _, c := range cases {
		seen[operation(c)] = true
	}
	return len(seen)
}

// lookTelemetry tells whether temperature and power are known.
func lookTelemetry() status.Finding {
	found := status.Finding{Name: "telemetry", State: status.OK}
	source, err := telemetry.Open()
	if err != nil {
		found.State, found.Detail, found.Mend = status.Warn, err.Error(), "training works without; --gpu-max-temp and --gpu-max-power need it"
		return found
	}
	readings, err := source.Read()
	if err := errors.Join(err, source.Close()); err != nil {
		found.State, found.Detail, found.Mend = status.Warn, err.Error(), "look whether nvidia-smi works"
		return found
	}
	var parts []string
	for i, r := range readings {
		part := fmt.Sprintf("%d: %.0f °C, %.0f W", i, r.Temperature, r.Power)
		if len(r.Throttled) > 0 {
			part += ", held down by " + strings.Join(r.Throttled, " and ")
			found.State, found.Mend = status.Warn, "better cooling or a higher power limit makes it faster"
		}
		parts = append(parts, part)
	}
	found.Detail = strings.Join(parts, "; ")
	return found
}

// reportGPU prints findings and, where cards were timed, the table.
func (t *terminal) reportGPU(c *Config, findings []status.Finding, timings []timing) error {
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"findings": findings, "timings": timings, "state": status.Worst(findings), "version": release, "system": runtime.GOOS + "/" + runtime.GOARCH,
		})
	}
	_, err := fmt.Fprint(t.out, status.Findings(findings, t.width())+timingTable(timings))
	return err
}
