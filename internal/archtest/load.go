package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path every package of this repository begins with.
const Module = "dunlin"

// Package is what the checks see of one package.
type Package struct {
	Path  string   // relative to the module, "compute/cpu"; "." is the root
	Name  string   // the package clause
	Deps  []string // full import paths, transitive, of the default build
	Files []*File  // every .go file of the folder, whatever its build tags
}

// File is one parsed source file.
type File struct {
	Name   string // base name
	Source []byte
	AST    *ast.File
	Fset   *token.FileSet
}

// Test reports whether the file is compiled into tests only.
func (f *File) Test() bool { return strings.HasSuffix(f.Name, "_test.go") }

// Generated reports whether a program wrote the file.
func (f *File) Generated() bool { return ast.IsGenerated(f.AST) }

// Import is one import declaration of a file.
type Import struct {
	Path string // full import path
	Name string // the alias, or "" when there is none
}

// Imports lists the file's import declarations.
func (f *File) Imports() []Import {
	imports := make([]Import, 0, len(f.AST.Imports))
	for _, spec := range f.AST.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		imp := Import{Path: path}
		if spec.Name != nil {
			imp.Name = spec.Name.Name
		}
		imports = append(imports, imp)
	}
	return imports
}

// at renders the position of a node as "package/file.go:line".
func (p *Package) at(f *File, node ast.Node) string {
	return fmt.Sprintf("%s/%s:%d", p.Path, f.Name, f.Fset.Position(node.Pos()).Line)
}

// Load reads every package below dir, the root of the module.
func Load(dir string) ([]*Package, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Dir,Deps", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var packages []*Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var listed struct {
			ImportPath, Name, Dir string
			Deps                  []string
		}
		if err := dec.Decode(&listed); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the output of go list: %w", err)
		}
		p := &Package{Path: relative(listed.ImportPath), Name: listed.Name, Deps: listed.Deps}
		if p.Files, err = parseFolder(listed.Dir); err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

// parseFolder parses the .go files of a folder, in name order.
func parseFolder(dir string) ([]*File, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	files := make([]*File, 0, len(names))
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		file, err := Parse(filepath.Base(name), source)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// Parse makes a File of source text.
func Parse(name string, source []byte) (*File, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, source, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return &File{Name: name, Source: source, AST: tree, Fset: fset}, nil
}

// relative cuts the module's name from an import path of this module and leaves other paths alone.
func relative(path string) string {
	if path == Module {
		return "."
	}
	return strings.TrimPrefix(path, Module+"/")
}

// internalPath reports whether an import path belongs to this module.
func internalPath(path string) bool {
	return path == Module || strings.HasPrefix(path, Module+"/")
}

// under reports whether path is dir or lies below it.
func under(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}
