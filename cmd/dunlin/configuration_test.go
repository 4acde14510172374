package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const configurationPage = "../../docs/configuration.md"

// setting is a row of the reference: commands that take a key with the same default and meaning share one.
type setting struct {
	key, kind, fallback, usage string
	commands                   []string
}

// reference lists all settings of all commands by key.
func reference(root *cobra.Command) []setting {
	var all []setting
	add := func(name string, f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		for i := range all {
			if s := &all[i]; s.key == f.Name && s.fallback == f.DefValue && s.usage == f.Usage {
				s.commands = append(s.commands, name)
				return
			}
		}
		all = append(all, setting{f.Name, f.Value.Type(), f.DefValue, f.Usage, []string{name}})
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { add("every command", f) })
	var walk func(cmd *cobra.Command, path string)
	walk = func(cmd *cobra.Command, path string) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if root.PersistentFlags().Lookup(f.Name) == nil {
				add(path, f)
			}
		})
		for _, c := range cmd.Commands() {
			if c.Name() != "completion" && c.Name() != "help" {
				walk(c, strings.TrimSpace(path+" "+c.Name()))
			}
		}
	}
	walk(root, "")
	slices.SortStableFunc(all, func(a, b setting) int { return strings.Compare(a.key, b.key) })
	return all
}

func configuration() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Every setting is a flag, an environment variable and a key of a YAML file; the first of these that says something counts. The
flag is ` + "`--key`" + `, the variable ` + "`DUNLIN_KEY`" + ` in capitals with ` + "`_`" + ` for ` + "`-`" + `, the file the one that ` + "`--config`" + ` names (for a
coordinator also its argument: ` + "`dunlin coordinator run.yaml`" + `, which ` + "`--init`" + ` writes). One file may hold settings of all commands;
keys that no command knows are refused, and so is every value that is not allowed, all faults at once.

This page is made from the program's own options by a test; do not edit it.

| key | value | default | meaning | commands |
|---|---|---|---|---|
`)
	cell := strings.NewReplacer("|", "\\|", "\n", " ").Replace
	for _, s := range reference(newRoot(io.Discard, io.Discard)) {
		fallback := "–"
		if s.fallback != "" {
			fallback = "`" + cell(s.fallback) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.key, cell(s.kind), fallback, cell(s.usage), strings.Join(s.commands, ", "))
	}
	b.WriteString("\nWhat changes while a run goes on is said with `dunlin coordinator set`; see [organisers](organisers.md).\n")
	return b.String()
}

// TestFilesKnowEverySetting: what a command takes may stand in a file, such as the one that coordinator --init writes.
func TestFilesKnowEverySetting(t *testing.T) {
	known := keys(everyOption(&Config{}))
	for _, s := range reference(newRoot(io.Discard, io.Discard)) {
		if !slices.Contains(known, s.key) && !slices.Contains([]string{"config", initKey}, s.key) {
			t.Errorf("--%s of %s is no setting of a file", s.key, strings.Join(s.commands, ", "))
		}
	}
}

func TestConfigurationIsDocumented(t *testing.T) {
	want := configuration()
	if *update {
		if err := os.WriteFile(configurationPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have, err := os.ReadFile(configurationPage); err != nil || string(have) != want {
		t.Errorf("docs/configuration.md is not what the commands take (%v): go test ./cmd/dunlin -run Configuration -update", err)
	}
}
