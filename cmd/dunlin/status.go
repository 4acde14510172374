package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dunlin/folder"
	"dunlin/invite"
	"dunlin/peer/contact"
	"dunlin/status"
	"dunlin/swarm"
)

func newStatus(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("status [INVITE|URL]", "show how a run goes, as one of its peers has it: this machine's, the coordinator that an invite names, or a page's",
		"  dunlin status\n  dunlin status dunlin1:…\n  dunlin status http://127.0.0.1:7310/ --watch=false\n  dunlin status --data-dir out/demo/coordinator --json",
		optionally("the invite or the page's address"), t.status,
		text(&c.DataDir, "data-dir", "", "path", "folder of the peer that is meant; without it, this machine's worker or coordinator"),
		on(&c.Watch, "watch", "show it again every second until Ctrl-C, in place; where this is no terminal, only when it is said"))
}

const statusEvery = time.Second

func (t *terminal) status(ctx context.Context, c *Config, args []string) (err error) {
	ask, end, err := c.asked(ctx, args)
	if err != nil {
		return err
	}
	defer closing(&err, end)
	watch := c.Watch && (t.live() && !c.JSON || t.settings.chosen["watch"])
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		shot, body, err := ask(ctx)
		if err == nil {
			err = t.showStatus(c, shot, body, watch, first)
		} else if watch && !first && ctx.Err() == nil {
			fmt.Fprintln(t.err, err)
			err = nil
		}
		if !watch || err != nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// asked returns what asks for snapshots: pages, or the coordinators that an invite names.
func (c *Config) asked(ctx context.Context, args []string) (ask func(context.Context) (*status.Snapshot, []byte, error), end func() error, err error) {
	end = func() error { return nil }
	if len(args) == 1 && !strings.HasPrefix(args[0], "http://") && !strings.HasPrefix(args[0], "https://") {
		token, err := invite.Parse(args[0])
		if err != nil {
			return nil, nil, fmt.Errorf("%q is neither an invite nor the address of a page, like http://127.0.0.1:7310/: %w", shorten(args[0]), err)
		}
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, nil, err
		}
		// It listens nowhere: it only asks.
		host, err := swarm.New(ctx, swarm.Config{Key: key, Protocol: swarm.ProtocolOf(token.Run), Secret: token.Run[:], Handler: contact.Deaf{}, Limits: swarm.DefaultLimits()})
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context) (*status.Snapshot, []byte, error) {
			body, err := contact.FetchStatus(ctx, transport{host}, token.Coordinators())
			if err != nil {
				return nil, nil, err
			}
			shot, err := status.Decode(body)
			return shot, body, err
		}, host.Close, nil
	}
	pages, err := c.pages(args)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) (*status.Snapshot, []byte, error) { return askPages(ctx, pages) }, end, nil
}

// pages lists where to ask: the address given, or those that peers of this machine left in their data folders.
func (c *Config) pages(args []string) ([]string, error) {
	if len(args) == 1 {
		u, err := url.Parse(args[0])
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("page %q: want the address that join or coordinator printed, like http://127.0.0.1:7310/", shorten(args[0]))
		}
		return []string{u.String()}, nil
	}
	folders := []string{filepath.Join(dataHome(), "worker"), filepath.Join(dataHome(), "coordinator")}
	if c.DataDir != "" {
		folders = []string{c.DataDir}
	}
	var pages []string
	for _, dir := range folders {
		page, err := folder.Folder{Dir: dir}.Page()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("page of the peer in %s: %w", dir, err)
		}
		if err == nil {
			pages = append(pages, page)
		}
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("no peer runs in %s: start one with dunlin join, or give its --data-dir or the address of its page", strings.Join(folders, " or "))
	}
	return pages, nil
}

// askPages returns the snapshot of the first page that answers, also as it came.
func askPages(ctx context.Context, pages []string) (*status.Snapshot, []byte, error) {
	var errs []error
	for _, page := range pages {
		shot, body, err := status.Ask(ctx, page)
		if err == nil {
			return shot, body, nil
		}
		errs = append(errs, fmt.Errorf("no answer from %s: %w", page, err))
	}
	return nil, nil, errors.Join(errs...)
}

// showStatus prints a snapshot, which while one watches takes the place of the one before.
func (t *terminal) showStatus(c *Config, shot *status.Snapshot, body []byte, watch, first bool) error {
	if c.JSON {
		_, err := fmt.Fprintf(t.out, "%s\n", strings.TrimSpace(string(body)))
		return err
	}
	width, height := t.size()
	between := ""
	switch {
	case watch && t.live():
		between = "\x1b[H\x1b[J"
	case watch && !first:
		between = "\n"
	default:
		height = 0 // what does not fit can be scrolled to
	}
	_, err := fmt.Fprint(t.out, between, status.Text(shot, width, height))
	return err
}

// live tells whether results go to a terminal.
func (t *terminal) live() bool {
	f, ok := t.out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// width is the terminal's columns, or 0.
func (t *terminal) width() int {
	columns, _ := t.size()
	return columns
}

// size is the terminal's columns and rows, or 0 where results go elsewhere.
func (t *terminal) size() (columns, rows int) {
	if !t.live() {
		return 0, 0
	}
	columns, rows, err := term.GetSize(int(t.out.(*os.File).Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, rows
}
