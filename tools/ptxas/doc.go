// Command ptxas assembles the embedded kernels for each kind of card with NVIDIA's assembler and writes what each takes as
// a Markdown page to standard output:
//
//	PTXAS=/path/to/ptxas go run ./tools/ptxas > docs/cuda-ptxas.md
//
// It fails when a file does not assemble at the PTX version that it claims, or a hot kernel keeps registers in memory.
package main
