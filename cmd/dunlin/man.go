package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dunlin/store"
)

func newMan(t *terminal, root *cobra.Command) *cobra.Command {
	return t.command("man DIR", "write a man page for each command", "  dunlin man ~/.local/share/man/man1 && man dunlin-join", exactly("the folder"),
		func(_ context.Context, _ *Config, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // manuals are for everybody
				return err
			}
			pages := 0
			for _, cmd := range manned(root) {
				path := filepath.Join(args[0], manName(cmd)+".1")
				if err := store.WriteFile(path, manPage(cmd), 0o644); err != nil {
					return err
				}
				pages++
			}
			_, err := fmt.Fprintf(t.out, "%d man pages in %s\n", pages, args[0])
			return err
		})
}

// manned lists the commands that people use, parents first.
func manned(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, manned(c)...)
		}
	}
	return all
}

// manName is a page's name: dunlin-ledger-verify.
func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage writes a command's page in man(7).
func manPage(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(".TH %s 1 \"\" \"%s\"", roff(strings.ToUpper(manName(cmd))), roff("dunlin "+release))
	line(".SH NAME\n%s \\- %s", roff(manName(cmd)), roff(cmd.Short))
	line(".SH SYNOPSIS\n.B %s", roff(cmd.UseLine()))
	if cmd.Long != "" {
		line(".SH DESCRIPTION\n%s", roff(cmd.Long))
	}
	options := func(title string, flags *pflag.FlagSet) {
		if !flags.HasAvailableFlags() {
			return
		}
		line(".SH %s", title)
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			name := "--" + f.Name
			if f.NoOptDefVal == "" {
				kind, _ := pflag.UnquoteUsage(f)
				name += " " + kind
			}
			_, usage := pflag.UnquoteUsage(f)
			if f.DefValue != "" && f.DefValue != "false" {
				usage += " (default " + f.DefValue + ")"
			}
			line(".TP\n.B %s\n%s", roff(name), roff(usage))
		})
	}
	cmd.InitDefaultHelpFlag()
	options("OPTIONS", cmd.NonInheritedFlags())
	options("OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	if cmd.Example != "" {
		line(".SH EXAMPLES\n.nf\n%s\n.fi", roff(cmd.Example))
	}
	line(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage")
	var also []string
	if cmd.HasParent() {
		also = append(also, manName(cmd.Parent()))
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			also = append(also, manName(c))
		}
	}
	if len(also) > 0 {
		slices.Sort(also)
		for i := range also {
			also[i] = ".BR " + roff(also[i]) + " (1)"
		}
		line(".SH SEE ALSO\n%s", strings.Join(also, ",\n"))
	}
	return b.Bytes()
}

// roff keeps text from being taken for requests.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "–", `\(en`, "…", `...`, "≤", "<=").Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
