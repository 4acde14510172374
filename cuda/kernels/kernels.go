package kernels

import (
	"embed"
	"fmt"
	"strings"
)

//go:generate go run -C _asm . .. ..

//go:embed *.ptx
var files embed.FS

// Module is one file of PTX.
type Module struct {
	Name       string // of its source: "matmul"
	Capability int    // least compute capability that runs it, 10·major + minor: 61 for sm_61
	PTX        []byte
}

// Modules returns what a card of a compute capability (10·major + minor) runs: of
// each source the PTX for the newest architecture that the card has. It is empty
// for cards before Pascal.
func Modules(capability int) []Module {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the files are part of the program
	}
	var modules []Module
	for _, e := range entries { // in the order of names, so older architectures of a source come first
		m := Module{}
		m.Name, _, _ = strings.Cut(e.Name(), ".")
		if _, err := fmt.Sscanf(strings.TrimPrefix(e.Name(), m.Name), ".sm_%d.ptx", &m.Capability); err != nil {
			panic(err)
		}
		if m.Capability > capability {
			continue
		}
		if m.PTX, err = files.ReadFile(e.Name()); err != nil {
			panic(err)
		}
		if last := len(modules) - 1; last >= 0 && modules[last].Name == m.Name {
			modules[last] = m
			continue
		}
		modules = append(modules, m)
	}
	return modules
}
