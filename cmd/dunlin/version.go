package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"dunlin/wire"
)

// release is the version of this source tree; CHANGELOG.md says what is in it.
const release = "0.1.0"

func newVersion(t *terminal) *cobra.Command {
	return t.command("version", "print the version of this binary", "  dunlin version --json", exactly(),
		func(_ context.Context, c *Config, _ []string) error {
			commit := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						commit = s.Value
					}
				}
			}
			if c.JSON {
				return json.NewEncoder(t.out).Encode(map[string]any{
					"version": release, "protocol": wire.Protocol, "commit": commit, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintf(t.out, "dunlin %s (protocol %d, commit %s, %s, %s/%s)\n", release, wire.Protocol, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		})
}
