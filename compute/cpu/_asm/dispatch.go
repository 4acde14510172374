package main

import "fmt"

// shape is a micro-kernel's tile.
type shape struct{ rows, vectors int }

// genDispatch writes the switch from a tile's shape to its micro-kernel. Calls
// are direct, so that the compiler knows that the tile does not escape.
func genDispatch(f *file, set isa, shapes []shape) {
	fmt.Fprintf(&f.decl, "\n// multiply%s runs the micro-kernel for the tile's rows and vectors.\nfunc multiply%s(kMajor bool, rows, vectors int, t *tile) {\n",
		set.suffix, set.suffix)
	fmt.Fprintf(&f.decl, "shape := rows<<3 | vectors<<1\nif kMajor { shape |= 1 }\nswitch shape {\n")
	for _, s := range shapes {
		for i, layout := range []string{"R", "K"} {
			fmt.Fprintf(&f.decl, "case %d<<3 | %d<<1 | %d:\ngemm%s%dx%d%s(t)\n", s.rows, s.vectors, i, layout, s.rows, s.vectors, set.suffix)
		}
	}
	f.decl.WriteString("default:\npanic(\"compute/cpu: no micro-kernel for this tile\")\n}\n}\n")
}
