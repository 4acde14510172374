package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dunlin/machine"
)

// terminal is what a command writes to: results to out, logs and progress to err.
type terminal struct {
	out, err    io.Writer
	settings    *settings
	runSettings []option // what coordinator --init writes
}

// newRoot builds the command tree.
func newRoot(stdout, stderr io.Writer) *cobra.Command {
	t := &terminal{out: stdout, err: stderr, settings: &settings{}}
	root := &cobra.Command{
		Use:   "dunlin",
		Short: "train one language model together over ordinary internet links",
		Long: "dunlin trains one language model together over ordinary internet links: each volunteer trains locally, and only\n" +
			"small, quantised pieces of what was learned cross the network.\n\n" +
			"Every flag can also be set as DUNLIN_FLAG in the environment or as a key of the YAML file given with --config.",
		Example:       "  dunlin train --preset pico --steps 200 --out out/first\n  dunlin sample out/first --prompt \"func \"",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.PersistentFlags().StringVar(&t.settings.file, "config", "", "YAML `file` with settings")
	t.settings.bind(root.PersistentFlags(), t.settings.config.global()...)
	root.AddCommand(newTrain(t), newEval(t), newSample(t), newBench(t), newVersion(t), newCoordinator(t), newJoin(t), newDemo(t), newStatus(t), newLedger(t), newInspect(t), newExport(t), newImport(t), newData(t), newPlan(t))
	root.AddCommand(newBackup(t), newRestore(t))
	root.AddCommand(newPause(t), newResume(t), newDoctor(t), newMan(t, root), newService(t))
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" { // cobra's own shows its help for a shell that it does not know
			cmd.Args, cmd.RunE = exactly(), func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	return root
}

// command makes a cobra command whose body runs with a checked Config. Errors of the body count as failures, all
// earlier ones as wrong usage.
func (t *terminal) command(use, short, example string, args cobra.PositionalArgs, body func(ctx context.Context, c *Config, args []string) error, options ...option) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: example,
		Args:    args,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := t.settings.load(cmd.Flags(), options); err != nil {
				return err
			}
			if err := body(cmd.Context(), &t.settings.config, args); err != nil {
				return &failure{advised(err)}
			}
			return nil
		},
	}
	t.settings.bind(cmd.Flags(), options...)
	completions(cmd)
	return cmd
}

// advised adds to an error what mends it, where that is the same in every command.
func advised(err error) error {
	if machine.DiskFull(err) {
		return fmt.Errorf("the disk is full: make room, then give the same command again: %w", err)
	}
	return err
}

// exactly wants the named arguments, no more and no fewer.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s: %s is missing; usage: %s", cmd.CommandPath(), names[len(args)], cmd.UseLine())
		}
		if len(args) > len(names) {
			return fmt.Errorf("%s: %q is one argument too many; usage: %s", cmd.CommandPath(), args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// optionally takes at most the named argument.
func optionally(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("%s: %q is one argument too many behind %s; usage: %s", cmd.CommandPath(), args[1], name, cmd.UseLine())
		}
		return nil
	}
}
