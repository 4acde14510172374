package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// Limits on the size of files, in lines.
const (
	maxDocLines  = 40
	maxFileLines = 600
)

// Form checks names, package documents and the size of files.
func Form(packages []*Package) []string {
	drawers := []string{"util", "utils", "common", "helper", "helpers", "types", "misc"}
	var faults []string
	for _, p := range packages {
		last := p.Path[strings.LastIndex(p.Path, "/")+1:]
		if slices.Contains(drawers, last) || slices.Contains(drawers, p.Name) {
			faults = append(faults, fmt.Sprintf("%s: is named after a drawer; name it after its concept or keep the code beside its only user", p.Path))
		}
		faults = append(faults, document(p)...)
		for _, f := range p.Files {
			if lines := bytes.Count(f.Source, []byte("\n")); lines > maxFileLines && !f.Test() && !f.Generated() {
				faults = append(faults, fmt.Sprintf("%s/%s: has %d lines, at most %d; split it by concept, readers hold one concept at a time", p.Path, f.Name, lines, maxFileLines))
			}
		}
	}
	return faults
}

// document checks that a package says in doc.go what it is for.
func document(p *Package) []string {
	index := slices.IndexFunc(p.Files, func(f *File) bool { return f.Name == "doc.go" })
	if index < 0 {
		return []string{fmt.Sprintf("%s: has no doc.go; a reader starts there", p.Path)}
	}
	doc := p.Files[index]
	var faults []string
	if lines := bytes.Count(doc.Source, []byte("\n")); lines > maxDocLines {
		faults = append(faults, fmt.Sprintf("%s/doc.go: has %d lines, at most %d; more belongs into docs/", p.Path, lines, maxDocLines))
	}
	want := "Package " + p.Name + " "
	if p.Name == "main" {
		want = "Command "
	}
	if !strings.HasPrefix(doc.AST.Doc.Text(), want) {
		faults = append(faults, fmt.Sprintf("%s/doc.go: its package comment must begin with %q, as go doc shows it", p.Path, want))
	}
	return faults
}

// Pure checks the packages that decide: no clock, no timer, no global randomness, no operating system, no log, no
// goroutine. A failure of one of them is replayed from its seed, which any of these would break.
func Pure(packages []*Package) []string {
	pure := []string{"peer/core", "coordinator", "round", "pipeline", "catchup", "wire", "allowance"}
	var faults []string
	for _, p := range packages {
		if !slices.Contains(pure, p.Path) {
			continue
		}
		for _, f := range p.Files {
			if f.Test() {
				continue
			}
			for _, imp := range f.Imports() {
				if why := impureImport(imp.Path); why != "" {
					faults = append(faults, fmt.Sprintf("%s/%s imports %s: %s", p.Path, f.Name, imp.Path, why))
				}
			}
			names := importNames(f)
			ast.Inspect(f.AST, func(node ast.Node) bool {
				switch node := node.(type) {
				case *ast.GoStmt:
					faults = append(faults, fmt.Sprintf("%s starts a goroutine: decisions are functions of state, now and one event; peer owns every goroutine", p.at(f, node)))
				case *ast.SelectorExpr:
					if why := impureCall(names, node); why != "" {
						faults = append(faults, fmt.Sprintf("%s %s", p.at(f, node), why))
					}
				}
				return true
			})
		}
	}
	return faults
}

func impureImport(path string) string {
	switch {
	case path == "os" || strings.HasPrefix(path, "os/") || path == "syscall":
		return "decisions do not touch the operating system; effects leave as values"
	case path == "log" || path == "log/slog":
		return "decisions carry their reason as a value; the driver logs it"
	case path == "crypto/rand":
		return "the random source arrives in the configuration, so that a run is replayed from its seed"
	case path == "sync" || path == "sync/atomic":
		return "decisions run on one goroutine"
	}
	return ""
}

// impureCall says why a use of a package's name breaks purity, or "". names maps a local name to its import path.
func impureCall(names map[string]string, use *ast.SelectorExpr) string {
	id, ok := use.X.(*ast.Ident)
	if !ok || id.Obj != nil {
		return ""
	}
	clock := []string{"Now", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Since", "Until"}
	seeded := []string{"Rand", "New", "Source", "PCG", "NewPCG", "ChaCha8", "NewChaCha8", "Zipf", "NewZipf", "NewSource", "Source64"}
	switch path := names[id.Name]; {
	case path == "time" && slices.Contains(clock, use.Sel.Name):
		return "uses time." + use.Sel.Name + ": now is an argument and Deadline says when to call back, so that tests and the simulator own the clock"
	case (path == "math/rand" || path == "math/rand/v2") && !slices.Contains(seeded, use.Sel.Name):
		return "uses the global random source (rand." + use.Sel.Name + "): take a seeded one from the configuration, so that a failure is replayed"
	}
	return ""
}

// importNames maps the names a file's imports are used by to their paths.
func importNames(f *File) map[string]string {
	names := make(map[string]string)
	for _, imp := range f.Imports() {
		name := imp.Name
		if name == "" {
			name = imp.Path[strings.LastIndex(imp.Path, "/")+1:]
			if imp.Path == "math/rand/v2" {
				name = "rand"
			}
		}
		names[name] = imp.Path
	}
	return names
}
