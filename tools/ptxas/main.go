package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dunlin/cuda/kernels"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ptxas:", err)
		os.Exit(1)
	}
}

// card is a kind of card: what one multiprocessor has (CUDA C++ programming guide, "technical specifications per compute
// capability").
type card struct {
	capability, threads, blocks int
	shared                      int // bytes, of which newer cards take 1 KiB a block for themselves
}

func cards() []card {
	return []card{
		{61, 2048, 32, 96 << 10}, {75, 1024, 16, 64 << 10}, {80, 2048, 32, 164 << 10}, {86, 1536, 16, 100 << 10}, {89, 1536, 24, 100 << 10}, {90, 2048, 32, 228 << 10},
	}
}

// kernel is what the assembler says of one.
type kernel struct {
	module, name                               string
	threads, registers, shared, spills, blocks int
	occupancy                                  float64 // share of the threads that a multiprocessor can hold
}

// hot are the kernels that most of a step's time goes to.
var hot = regexp.MustCompile(`^(matmul|attention|query_grad|key_grad)`)

func run() error {
	path := cmp.Or(os.Getenv("PTXAS"), "ptxas")
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		return fmt.Errorf("run %s: %w; set PTXAS to the one in the wheel nvidia-cuda-nvcc-cu12 or Debian's nvidia-cuda-toolkit", path, err)
	}
	release := regexp.MustCompile(`release [0-9.]+`).Find(version)
	fmt.Printf("# Kernels, as ptxas assembles them\n\nWritten by `make ptxas` with %s of CUDA %s. Spills are bytes stored and loaded; occupancy is the share of a\n"+
		"multiprocessor's threads that fit at once, by registers, shared memory and blocks. It says nothing of speed.\n", filepath.Base(path), release)
	folder, err := os.MkdirTemp("", "ptxas")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }() // the system clears it in time
	var faults []error
	for _, c := range cards() {
		fmt.Printf("\n## sm_%d\n\n| module | kernel | threads | registers | shared bytes | spills | blocks | occupancy |\n|---|---|--:|--:|--:|--:|--:|--:|\n", c.capability)
		for _, m := range kernels.Modules(c.capability) {
			list, err := assemble(path, folder, m, c)
			if err != nil {
				return err
			}
			for _, k := range list {
				fmt.Printf("| %s.sm_%d | %s | %d | %d | %d | %d | %d | %.0f %% |\n", k.module, m.Capability, k.name, k.threads, k.registers, k.shared, k.spills, k.blocks, 100*k.occupancy)
				if k.spills > 0 && hot.MatchString(k.name) {
					faults = append(faults, fmt.Errorf("%s spills %d bytes on sm_%d", k.name, k.spills, c.capability))
				}
			}
		}
	}
	return errors.Join(faults...)
}

// assemble returns the kernels of a module on a card.
func assemble(path, folder string, m kernels.Module, c card) ([]kernel, error) {
	source := filepath.Join(folder, m.Name+".ptx")
	if err := os.WriteFile(source, m.PTX, 0o600); err != nil {
		return nil, err
	}
	var says bytes.Buffer
	command := exec.Command(path, "--verbose", fmt.Sprintf("--gpu-name=sm_%d", c.capability), "--output-file", filepath.Join(folder, "out"), source)
	command.Stderr = &says
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("assemble %s for sm_%d: %w\n%s", m.Name, c.capability, err, says.String())
	}
	threads := blockSizes(string(m.PTX))
	var list []kernel
	for _, part := range strings.Split(says.String(), "Compiling entry function '")[1:] {
		name, _, _ := strings.Cut(part, "'")
		k := kernel{module: m.Name, name: name, threads: threads[name]}
		k.registers = number(part, `Used (\d+) registers`)
		k.shared = number(part, `(\d+) bytes smem`)
		k.spills = number(part, `(\d+) bytes spill stores`) + number(part, `(\d+) bytes spill loads`)
		k.fill(c)
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b kernel) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

// fill works out how many blocks a multiprocessor holds.
func (k *kernel) fill(c card) {
	const registers, unit = 65536, 256 // of a multiprocessor; a warp takes whole units
	warps := (k.threads + 31) / 32
	k.blocks = min(c.blocks, c.threads/(warps*32), registers/(warps*((k.registers*32+unit-1)/unit*unit)))
	shared := k.shared
	if c.capability >= 80 {
		shared += 1 << 10
	}
	if shared > 0 {
		k.blocks = min(k.blocks, c.shared/shared)
	}
	k.occupancy = float64(k.blocks*warps*32) / float64(c.threads)
}

// blockSizes returns the threads of a block of each kernel: those it is bound to, or 256.
func blockSizes(ptx string) map[string]int {
	sizes := map[string]int{}
	for _, part := range strings.Split(ptx, ".visible .entry ")[1:] {
		name, rest, _ := strings.Cut(part, "(")
		head, _, _ := strings.Cut(rest, "{")
		sizes[name] = cmp.Or(number(head, `\.maxntid (\d+)`), 256)
	}
	return sizes
}

func number(text, pattern string) int {
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(found[1]) // digits
	return n
}
