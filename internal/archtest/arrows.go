package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// everything stands for all packages of the module.
const everything = "*"

// arrows is the layout and, for each package, which packages of this module its code may import directly. Folders
// that end in /... cover everything below them. internal/invariants may be imported by all.
func arrows() map[string][]string {
	return map[string][]string{
		"cmd/dunlin":            {everything, "cmd/dunlin/localswarm", "cmd/dunlin/doctor"},
		"cmd/dunlin/localswarm": {"folder", "machine", "round", "status", "swarm", "wire"},
		"cmd/dunlin/doctor":     {"folder", "machine", "status", "swarm", "compute/cpu"},
		"peer": {
			"peer/core", "peer/worker", "peer/stage", "peer/keeper", "peer/slabs", "peer/contact", "peer/judge", "peer/figures", "peer/mailbox",
			"peer/reign", "coordinator", "round", "catchup", "contribution", "replica", "ledger", "store", "status",
			"engine", "folder", "recipe", "training", "checkpoint", "compress", "compute", "data", "wire",
		},
		"engine": {"recipe", "training", "checkpoint", "compress", "optimizer", "model", "compute", "data", "store", "wire"},
		"folder": {"recipe", "training", "replica", "ledger", "checkpoint", "data", "store", "wire"},
		"recipe": {
			"training", "contribution", "replica", "pipeline", "round", "compress", "optimizer", "model", "compute", "data", "store", "wire",
		},
		"training": {"checkpoint", "data", "optimizer", "model", "compute"},
		"sim": {
			"peer/core", "coordinator", "round", "pipeline", "catchup", "contribution", "replica", "ledger", "store",
			"compress", "optimizer", "compute", "wire",
		},
		"peer/core":    {"coordinator", "round", "pipeline", "catchup", "wire"},
		"peer/figures": {"peer/core", "coordinator", "round", "catchup", "pipeline", "status", "store", "wire"},
		"peer/worker":  {"peer/mailbox", "peer/slabs", "engine", "training", "contribution", "pipeline", "compute", "wire"},
		"peer/stage": {
			"peer/mailbox", "peer/worker", "peer/contact", "peer/figures", "engine", "recipe", "pipeline", "data", "wire",
		},
		"peer/keeper":    {"peer/mailbox", "folder", "catchup", "replica", "store", "wire"},
		"peer/slabs":     {"peer/mailbox", "folder", "contribution", "store", "wire"},
		"peer/contact":   {"peer/mailbox", "peer/figures", "folder", "recipe", "data", "store", "wire"},
		"peer/reign":     {"peer/core", "peer/contact", "coordinator", "catchup", "ledger", "folder", "store", "wire"},
		"peer/judge":     {"peer/mailbox", "recipe", "training", "model", "compute", "data", "wire"},
		"peer/mailbox":   {},
		"coordinator":    {"wire", "invite"},
		"round":          {"wire"},
		"pipeline":       {"wire"},
		"catchup":        {"wire"},
		"invite":         {"wire"},
		"ledger":         {"store", "wire"},
		"contribution":   {"compress", "optimizer", "compute", "wire"},
		"replica":        {"ledger", "compress", "optimizer", "compute", "wire"},
		"swarm":          {"wire", "invite"},
		"swarm/group":    {"wire"},
		"model":          {"compute"},
		"optimizer":      {"compute"},
		"compute":        {},
		"compute/cpu":    {"compute"},
		"cuda":           {"compute", "cuda/driver", "cuda/kernels"},
		"cuda/loader":    {},
		"cuda/driver":    {"cuda/loader"},
		"cuda/kernels":   {},
		"cuda/ptxemu":    {"cuda/driver"},
		"cuda/telemetry": {"cuda/loader"},
		"checkpoint":     {"store", "compute", "wire"},
		"data":           {"store"},
		"data/parquet":   {"data"},
		"compress":       {},
		"store":          {},
		"wire":           {},
		"status":         {"wire"},
		"allowance":      {},
		"machine":        {},
		"plan":           {},

		// Conformance suites and test doubles: they serve tests, and computetest the doctor.
		"compute/computetest":    {"compute"},
		"compute/cpu/cputest":    {"compute/cpu"},
		"compress/compresstest":  {"compress"},
		"recipe/recipetest":      {"recipe", "model", "data", "store", "wire"},
		"status/statustest":      {},
		"swarm/swarmtest":        {"swarm", "wire", "invite"},
		"cuda/loader/loadertest": {},

		"internal/invariants": {},
		"internal/archtest":   {},
		"internal/world":      {everything},
		"internal/world/link": {},
		"tools/...":           {everything},
	}
}

// Arrows checks that each package has its place in the layout and imports only what an arrow allows. Tests are free.
func Arrows(packages []*Package) []string {
	table := arrows()
	var faults []string
	for _, p := range packages {
		allowed, known := lookup(table, p.Path)
		if !known {
			faults = append(faults, fmt.Sprintf("%s: has no place in the layout of docs/architecture.md; put the code into the package whose concept it is, or write an ADR that adds one", p.Path))
			continue
		}
		for _, f := range p.Files {
			if f.Test() {
				continue
			}
			for _, imp := range f.Imports() {
				to := relative(imp.Path)
				if !internalPath(imp.Path) || to == "internal/invariants" || slices.Contains(allowed, to) {
					continue
				}
				if slices.Contains(allowed, everything) && !under(to, "cmd") {
					continue
				}
				faults = append(faults, fmt.Sprintf("%s/%s imports %s: the architecture gives %s no such arrow (it may import: %s); arrows keep each part testable without the others",
					p.Path, f.Name, to, p.Path, orNothing(allowed)))
			}
		}
	}
	return faults
}

// lookup finds a package's row, its own or that of a folder above it which covers everything below.
func lookup(table map[string][]string, path string) (allowed []string, known bool) {
	if allowed, known = table[path]; known {
		return allowed, true
	}
	for dir, row := range table {
		if top, below := strings.CutSuffix(dir, "/..."); below && under(path, top) {
			return row, true
		}
	}
	return nil, false
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing of this module"
	}
	return strings.Join(list, ", ")
}

// Bans checks the laws about imports that reach across arrows: numerics without a network, one importer of libp2p,
// flags in cmd only, fixed aliases for names that libp2p also uses.
func Bans(packages []*Package) []string {
	var faults []string
	for _, p := range packages {
		if numeric(p.Path) {
			for _, banned := range []string{"net", "net/http"} {
				if slices.Contains(p.Deps, banned) {
					faults = append(faults, fmt.Sprintf("%s reaches %s: numerics never reach the network, even through others, so that training can be tested and trusted alone (find the way with `go list -deps -f '{{.ImportPath}}: {{.Imports}}' ./%s`)", p.Path, banned, p.Path))
				}
			}
		}
		for _, f := range p.Files {
			for _, imp := range f.Imports() {
				if why := banned(p.Path, f, imp); why != "" {
					faults = append(faults, fmt.Sprintf("%s/%s imports %s: %s", p.Path, f.Name, imp.Path, why))
				}
			}
		}
	}
	return faults
}

// numeric reports whether the law against networks binds the package. The Parquet reader stands apart because its
// library reaches the network.
func numeric(path string) bool {
	if under(path, "data/parquet") {
		return false
	}
	for _, dir := range []string{"model", "optimizer", "compress", "compute", "cuda", "data", "checkpoint"} {
		if under(path, dir) {
			return true
		}
	}
	return false
}

// banned says why a package must not have an import, or "".
func banned(path string, f *File, imp Import) string {
	aliases := map[string]string{
		"github.com/libp2p/go-libp2p/core/peer":     "p2ppeer",
		"github.com/libp2p/go-libp2p/p2p/net/swarm": "p2pswarm",
	}
	if want, listed := aliases[imp.Path]; listed && imp.Name != want {
		return fmt.Sprintf("import it as %s; dunlin has packages of the same name", want)
	}
	world := under(path, "internal/world")
	switch {
	case strings.HasPrefix(imp.Path, "github.com/libp2p/") && !under(path, "swarm") && !world:
		return "only swarm knows libp2p; others see peers through the interfaces that peer declares"
	case strings.HasPrefix(imp.Path, "github.com/spf13/") && !under(path, "cmd"):
		return "flags and configuration files exist in cmd only; packages take a Config"
	case imp.Path == "C" && !under(path, "cuda") && !f.Test():
		return "the product builds without cgo"
	}
	return ""
}
