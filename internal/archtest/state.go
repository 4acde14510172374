package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// why is the reason of the two laws below.
const stateless = "a simulator with 1,000 peers in one process tolerates no package state"

// State checks that no package has an init function or a package variable that changes. Errors, interface checks,
// embedded files and tables that are written once in their declaration may be variables.
func State(packages []*Package) []string {
	var faults []string
	for _, p := range packages {
		if under(p.Path, "tools") {
			continue
		}
		vars := packageVars(p)
		for _, f := range p.Files {
			if f.Test() {
				continue
			}
			names := importNames(f)
			for _, decl := range f.AST.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if fn.Recv == nil && fn.Name.Name == "init" {
					faults = append(faults, fmt.Sprintf("%s declares init: behaviour must not depend on import order; build tables in a function", p.at(f, fn)))
				}
				faults = append(faults, writes(p, f, fn, vars, names)...)
			}
		}
		faults = append(faults, changingVars(p)...)
	}
	return faults
}

// packageVars maps the names of a package's variables to their declarations.
func packageVars(p *Package) map[string]*ast.ValueSpec {
	vars := make(map[string]*ast.ValueSpec)
	eachVar(p, func(_ *File, spec *ast.ValueSpec, name *ast.Ident) { vars[name.Name] = spec })
	return vars
}

// eachVar calls visit for every package variable that tests do not declare.
func eachVar(p *Package, visit func(*File, *ast.ValueSpec, *ast.Ident)) {
	for _, f := range p.Files {
		if f.Test() {
			continue
		}
		for _, decl := range f.AST.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				spec := spec.(*ast.ValueSpec)
				for _, name := range spec.Names {
					if name.Name != "_" {
						visit(f, spec, name)
					}
				}
			}
		}
	}
}

// changingVars finds package variables whose type exists in order to change.
func changingVars(p *Package) []string {
	var faults []string
	eachVar(p, func(f *File, spec *ast.ValueSpec, name *ast.Ident) {
		exprs := append([]ast.Expr{spec.Type}, spec.Values...)
		for _, expr := range exprs {
			if lit, ok := expr.(*ast.CompositeLit); ok {
				expr = lit.Type
			}
			if star, ok := expr.(*ast.UnaryExpr); ok {
				expr = star.X
				if lit, ok := expr.(*ast.CompositeLit); ok {
					expr = lit.Type
				}
			}
			if index, ok := expr.(*ast.IndexExpr); ok {
				expr = index.X
			}
			sel, ok := expr.(*ast.SelectorExpr)
			if !ok {
				if _, channel := expr.(*ast.ChanType); channel {
					faults = append(faults, fmt.Sprintf("%s: package variable %s is a channel: %s", p.at(f, name), name.Name, stateless))
				}
				continue
			}
			from, _ := sel.X.(*ast.Ident)
			if from == nil {
				continue
			}
			path := importNames(f)[from.Name]
			lock := path == "sync" && slices.Contains([]string{"Mutex", "RWMutex", "Once", "Pool", "Map", "WaitGroup", "Cond"}, sel.Sel.Name)
			if lock || path == "sync/atomic" {
				faults = append(faults, fmt.Sprintf("%s: package variable %s is a %s.%s: %s", p.at(f, name), name.Name, from.Name, sel.Sel.Name, stateless))
			}
		}
	})
	return faults
}

// writes finds statements of a function that change a package variable, of this package or of another one.
func writes(p *Package, f *File, fn *ast.FuncDecl, vars map[string]*ast.ValueSpec, names map[string]string) []string {
	if fn.Body == nil {
		return nil
	}
	var faults []string
	report := func(node ast.Node, target ast.Expr) {
		if name := packageVar(target, vars, names); name != "" {
			faults = append(faults, fmt.Sprintf("%s changes the package variable %s: %s", p.at(f, node), name, stateless))
		}
	}
	ast.Inspect(fn.Body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			if node.Tok != token.DEFINE {
				for _, target := range node.Lhs {
					report(node, target)
				}
			}
		case *ast.IncDecStmt:
			report(node, node.X)
		case *ast.UnaryExpr:
			if node.Op == token.AND {
				report(node, node.X)
			}
		case *ast.CallExpr:
			if id, ok := node.Fun.(*ast.Ident); ok && id.Obj == nil && slices.Contains([]string{"delete", "clear", "copy"}, id.Name) && len(node.Args) > 0 {
				report(node, node.Args[0])
			}
		}
		return true
	})
	return faults
}

// packageVar names the package variable an expression is part of, or "".
func packageVar(expr ast.Expr, vars map[string]*ast.ValueSpec, names map[string]string) string {
	for {
		switch inner := expr.(type) {
		case *ast.IndexExpr:
			expr = inner.X
		case *ast.SliceExpr:
			expr = inner.X
		case *ast.StarExpr:
			expr = inner.X
		case *ast.ParenExpr:
			expr = inner.X
		case *ast.SelectorExpr:
			if id, ok := inner.X.(*ast.Ident); ok && id.Obj == nil && internalPath(names[id.Name]) && ast.IsExported(inner.Sel.Name) {
				return id.Name + "." + inner.Sel.Name
			}
			expr = inner.X
		case *ast.Ident:
			spec, ok := vars[inner.Name]
			// The parser resolves names inside one file: a local of the same name has another declaration.
			if ok && (inner.Obj == nil || inner.Obj.Decl == spec) {
				return inner.Name
			}
			return ""
		case *ast.CompositeLit:
			return ""
		default:
			return ""
		}
	}
}

// Glossary checks docs/glossary.md: each row of its table names an identifier and the file that declares it. The
// last two cells of a row are `package.Identifier` (or `package.Type.Member`) and `path/to/file.go`.
func Glossary(text string, packages []*Package) []string {
	var faults []string
	terms := 0
	for number, line := range strings.Split(text, "\n") {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) != 4 || strings.TrimSpace(cells[0]) == "term" {
			continue
		}
		terms++
		term := strings.TrimSpace(cells[0])
		identifier := strings.Trim(strings.TrimSpace(cells[2]), "`")
		path := strings.Trim(strings.TrimSpace(cells[3]), "`")
		if fault := resolve(identifier, path, packages); fault != "" {
			faults = append(faults, fmt.Sprintf("docs/glossary.md:%d: %q: %s; a word without its code misleads", number+1, term, fault))
		}
	}
	if terms == 0 {
		faults = append(faults, "docs/glossary.md: has no row that this check can read")
	}
	return faults
}

// resolve says why an identifier is not declared in the file at path, or "".
func resolve(identifier, path string, packages []*Package) string {
	slash := strings.LastIndex(path, "/")
	if slash < 0 {
		return fmt.Sprintf("%q is not a path", path)
	}
	for _, p := range packages {
		if p.Path != path[:slash] {
			continue
		}
		for _, f := range p.Files {
			if f.Name != path[slash+1:] {
				continue
			}
			name, ok := strings.CutPrefix(identifier, p.Name+".")
			if !ok {
				return fmt.Sprintf("%s does not begin with the package's name %s", identifier, p.Name)
			}
			if !slices.Contains(declared(f), name) {
				return fmt.Sprintf("%s does not declare %s", path, name)
			}
			return ""
		}
	}
	return fmt.Sprintf("there is no file %s", path)
}

// declared lists what a file declares: functions, types, constants, variables, and members as Type.Member.
func declared(f *File) []string {
	var names []string
	for _, decl := range f.AST.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			name := decl.Name.Name
			if decl.Recv != nil && len(decl.Recv.List) == 1 {
				name = receiver(decl.Recv.List[0].Type) + "." + name
			}
			names = append(names, name)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				names = append(names, declaredBy(spec)...)
			}
		}
	}
	return names
}

func declaredBy(spec ast.Spec) []string {
	var names []string
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			names = append(names, name.Name)
		}
	case *ast.TypeSpec:
		names = append(names, spec.Name.Name)
		var members *ast.FieldList
		switch body := spec.Type.(type) {
		case *ast.StructType:
			members = body.Fields
		case *ast.InterfaceType:
			members = body.Methods
		}
		if members == nil {
			break
		}
		for _, member := range members.List {
			for _, name := range member.Names {
				names = append(names, spec.Name.Name+"."+name.Name)
			}
		}
	}
	return names
}

func receiver(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return receiver(expr.X)
	case *ast.IndexExpr:
		return receiver(expr.X)
	case *ast.IndexListExpr:
		return receiver(expr.X)
	case *ast.Ident:
		return expr.Name
	}
	return ""
}
