package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"dunlin/peer"
	"dunlin/store"
	"dunlin/swarm"
)

func newBackup(t *terminal) *cobra.Command {
	return t.command("backup FOLDER FILE", "write a peer's data folder, its keys too, into one file",
		"  dunlin backup ~/.local/share/dunlin/coordinator run.backup", exactly("the data folder", "the file"), t.backup)
}

func newRestore(t *terminal) *cobra.Command {
	return t.command("restore FILE FOLDER", "make a data folder of a backup, checked byte for byte",
		"  dunlin restore run.backup ~/.local/share/dunlin/coordinator", exactly("the backup", "the data folder"), t.restore)
}

func (t *terminal) backup(_ context.Context, _ *Config, args []string) (err error) {
	folder := peer.Folder{Dir: args[0]}
	if !folder.Exists() {
		return fmt.Errorf("%w: %s; give the data folder of a coordinator or of a worker", peer.ErrNoRun, args[0])
	}
	lock, err := swarm.LockFolder(folder.Dir)
	if used := (*swarm.InUseError)(nil); errors.As(err, &used) {
		return fmt.Errorf("%w: workers train on while their coordinator is away for as long as a backup takes", err)
	}
	if err != nil {
		return err
	}
	defer closing(&err, lock.Unlock)
	if _, err := os.Stat(args[1]); err == nil {
		return fmt.Errorf("%s exists: choose another name, or remove it", args[1])
	}
	var files int
	var size int64
	if err := store.WriteStream(args[1], 0o600, func(w io.Writer) error {
		var err error
		files, size, err = folder.Backup(w)
		return err
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s has %d files, %s MB; it holds keys and secrets: keep it as safe as the folder\n", args[1], files, megabytes(size))
	return err
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/1e6) }

func (t *terminal) restore(_ context.Context, _ *Config, args []string) error {
	in, err := os.Open(args[0])
	if err != nil {
		return fmt.Errorf("open backup: %w", err)
	}
	defer in.Close()
	run, files, err := peer.Restore(in, args[1])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s has the %d files of run %s; start it while workers are there: a coordinator asks them for what came after the backup before it writes anything\n",
		args[1], files, run.Short())
	return err
}
