package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dunlin/folder"
	"dunlin/store"
	"dunlin/swarm"
	"dunlin/wire"
)

func newBackup(t *terminal) *cobra.Command {
	return t.command("backup FOLDER FILE", "write a peer's data folder, its keys too, into one file; a coordinator goes on meanwhile",
		"  dunlin backup ~/.local/share/dunlin/coordinator run.backup", exactly("the data folder", "the file"), t.backup)
}

func newRestore(t *terminal) *cobra.Command {
	return t.command("restore FILE FOLDER", "make a data folder of a backup, checked byte for byte",
		"  dunlin restore run.backup ~/.local/share/dunlin/coordinator", exactly("the backup", "the data folder"), t.restore)
}

func (t *terminal) backup(ctx context.Context, _ *Config, args []string) (err error) {
	home := folder.Folder{Dir: args[0]}
	if !home.Exists() {
		return fmt.Errorf("%w: %s; give the data folder of a coordinator or of a worker", folder.ErrNoRun, args[0])
	}
	if _, err := os.Stat(args[1]); err == nil {
		return fmt.Errorf("%s exists: choose another name, or remove it", args[1])
	}
	lock, err := swarm.LockFolder(home.Dir)
	switch used := (*swarm.InUseError)(nil); {
	case errors.As(err, &used):
		if home, err = frozen(ctx, home, err); err != nil {
			return err
		}
		defer closing(&err, func() error { return os.RemoveAll(home.Dir) })
	case err != nil:
		return err
	default:
		defer closing(&err, lock.Unlock)
	}
	var files int
	var size int64
	if err := store.WriteStream(args[1], 0o600, func(w io.Writer) error {
		var err error
		files, size, err = home.Backup(w)
		return err
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s has %d files, %s MB; it holds keys and secrets: keep it as safe as the folder\n", args[1], files, megabytes(size))
	return err
}

// frozen has the coordinator that uses a folder make a copy of it that holds still. A worker's folder holds nothing that its
// run does not have, so that nobody waits for it.
func frozen(ctx context.Context, home folder.Folder, used error) (folder.Folder, error) {
	run, err := home.Current()
	if err != nil {
		return home, err
	}
	_, spec, err := home.Load(run)
	if err != nil {
		return home, err
	}
	key, err := swarm.LoadOrCreateKey(home.Identity())
	if err != nil {
		return home, err
	}
	if checkSeat(spec, wire.PeerIDOf(key)) != nil {
		return home, fmt.Errorf("%w: only a coordinator is backed up while it runs", used)
	}
	dir, err := giveOrder(ctx, home, order{Verb: verbFreeze})
	return folder.Folder{Dir: filepath.Join(home.Dir, filepath.Base(dir))}, err // its path there may be relative
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/1e6) }

func (t *terminal) restore(_ context.Context, _ *Config, args []string) error {
	in, err := os.Open(args[0])
	if err != nil {
		return fmt.Errorf("open backup: %w", err)
	}
	defer in.Close()
	run, files, err := folder.Restore(in, args[1])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s has the %d files of run %s; start it while workers are there: a coordinator asks them for what came after the backup before it writes anything\n",
		args[1], files, run.Short())
	return err
}
