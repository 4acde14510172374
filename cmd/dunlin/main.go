package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, as promised to scripts.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code. The first Ctrl-C cancels the command's context, so that
// it saves and leaves in order; a second one ends the process at once.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from now on the system's default action holds again

	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	code := exitCode(err)
	if err != nil {
		fmt.Fprintf(stderr, "dunlin: %v\n", err)
	}
	if code == exitUsage {
		fmt.Fprintln(stderr, "dunlin: see `dunlin help`, or --help behind any command")
	}
	return code
}

// failure marks an error of a command that was used rightly. Any other error that reaches run is wrong usage: it
// comes from the flags, the arguments or the configuration.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// exitCode is the one place where errors become exit codes.
func exitCode(err error) int {
	var failed *failure
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &failed):
		return exitFailed
	default:
		return exitUsage
	}
}
