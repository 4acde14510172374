package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/folder"
	"dunlin/ledger"
	"dunlin/replica"
	"dunlin/status"
	"dunlin/swarm"
	"dunlin/wire"
)

func newLedger(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ledger", Short: "inspect and check a run's ledger", Example: "  dunlin ledger verify out/demo/coordinator",
		Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		t.command("verify DIR", "check every byte, link, rule and signature of the ledger in a data folder",
			"  dunlin ledger verify out/demo/coordinator\n  dunlin ledger verify ~/.local/share/dunlin/worker --json", exactly("the data folder"), t.ledgerVerify),
		t.command("log DIR", "print the entries of the ledger in a data folder, oldest first",
			"  dunlin ledger log out/demo/w1\n  dunlin ledger log out/demo/w1 --json", exactly("the data folder"), t.ledgerLog),
	)
	return cmd
}

// openLedger opens the ledger of a data folder's current run. Nobody else may use the folder meanwhile.
func openLedger(dir string) (_ *ledger.Log, run wire.Hash, closeIt func() error, err error) {
	home := folder.Folder{Dir: dir}
	if run, err = home.Current(); err != nil {
		return nil, run, nil, fmt.Errorf("%s: %w: give the data folder of a peer or a coordinator", dir, err)
	}
	path := filepath.Join(home.Run(run), "ledger.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, run, nil, fmt.Errorf("%s: run %s has no ledger here yet", dir, run.Short())
	}
	lock, err := swarm.LockFolder(dir)
	if err != nil {
		return nil, run, nil, err
	}
	_, spec, err := home.Load(run)
	if err != nil {
		return nil, run, nil, errors.Join(err, lock.Unlock())
	}
	state, err := replica.NewStage(spec, wire.NoStage, nil) // only its hashes are needed
	if err != nil {
		return nil, run, nil, errors.Join(err, lock.Unlock())
	}
	var state0 []wire.Hash
	for _, h := range state.Heads() {
		state0 = append(state0, h.State)
	}
	log, err := ledger.Open(path, ledger.RulesOf(spec, state0), nil)
	if err != nil {
		return nil, run, nil, errors.Join(err, lock.Unlock())
	}
	return log, run, func() error { return errors.Join(log.Close(), lock.Unlock()) }, nil
}

// verifyLedger checks the ledger of a data folder's current run.
func verifyLedger(dir string) (err error) {
	log, _, closeIt, err := openLedger(dir)
	if err != nil {
		return err
	}
	defer closing(&err, closeIt)
	_, err = log.Verify()
	return err
}

func (t *terminal) ledgerVerify(_ context.Context, c *Config, args []string) (err error) {
	log, run, closeIt, err := openLedger(args[0])
	if err != nil {
		return err
	}
	defer closing(&err, closeIt)
	r, err := log.Verify()
	if err != nil {
		return fmt.Errorf("verify ledger of run %s: %w", run.Short(), err)
	}
	counts := map[string]int{}
	for kind, n := range r.Entries {
		counts[kind.String()] = n
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"run": run, "height": r.Height, "head": r.Head, "term": r.Term, "tokens": r.Tokens, "entries": counts, "ok": true,
		})
	}
	fmt.Fprintf(t.out, "run        %s\nheight     %d in term %d\nhead       %s\ntokens     %s committed\n", run, r.Height, r.Term, r.Head, grouped(r.Tokens))
	for i, f := range r.Fragments {
		fmt.Fprintf(t.out, "fragment %d version %d, state %s\n", i, f.Version, f.State.Short())
	}
	var kinds []string
	for kind, n := range counts {
		kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(kinds)
	_, err = fmt.Fprintf(t.out, "entries    %s\nevery byte, link, rule and signature holds\n", strings.Join(kinds, ", "))
	return err
}

func (t *terminal) ledgerLog(ctx context.Context, c *Config, args []string) (err error) {
	log, _, closeIt, err := openLedger(args[0])
	if err != nil {
		return err
	}
	defer closing(&err, closeIt)
	out := json.NewEncoder(t.out)
	for from := uint64(1); ctx.Err() == nil; {
		entries, err := log.Range(from, wire.MaxItems)
		if err != nil || len(entries) == 0 {
			return err
		}
		for i := range entries {
			e := &entries[i].Entry
			body, err := e.Body()
			if err != nil {
				return err
			}
			if c.JSON {
				err = out.Encode(map[string]any{"height": e.Height, "term": e.Term, "kind": e.Kind.String(), "hash": e.Hash(), "text": status.DescribeEntry(body)})
			} else {
				_, err = fmt.Fprintf(t.out, "%6d  %2d  %-10s  %s\n", e.Height, e.Term, e.Kind, status.DescribeEntry(body))
			}
			if err != nil {
				return err
			}
		}
		from += uint64(len(entries))
	}
	return ctx.Err()
}
