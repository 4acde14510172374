package main

import (
	"context"
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
	"dunlin/status"
)

func newStatus(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("status [URL]", "show how a run goes, as the web page of one of its peers has it",
		"  dunlin status\n  dunlin status --data-dir out/demo/coordinator\n  dunlin status http://127.0.0.1:7310/ --watch\n  dunlin status --json",
		optionally("the page's address"), t.status,
		text(&c.DataDir, "data-dir", "", "path", "folder of the peer whose page is meant; without it, this machine's worker or coordinator"),
		yes(&c.Watch, "watch", "show it again every second until Ctrl-C, on a terminal in place"))
}

const statusEvery = time.Second

func (t *terminal) status(ctx context.Context, c *Config, args []string) error {
	pages, err := c.pages(args)
	if err != nil {
		return err
	}
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		shot, body, err := askPages(ctx, pages)
		if err == nil {
			err = t.showStatus(c, shot, body, c.Watch && !first)
		} else if c.Watch && !first && ctx.Err() == nil {
			fmt.Fprintln(t.err, err)
			err = nil
		}
		if !c.Watch || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
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

// showStatus prints a snapshot; again says that it takes the place of the one before.
func (t *terminal) showStatus(c *Config, shot *status.Snapshot, body []byte, again bool) error {
	if c.JSON {
		_, err := fmt.Fprintf(t.out, "%s\n", strings.TrimSpace(string(body)))
		return err
	}
	clear := ""
	switch {
	case c.Watch && t.live():
		clear = "\x1b[H\x1b[J"
	case again:
		clear = "\n"
	}
	_, err := fmt.Fprint(t.out, clear, status.Text(shot, t.width()))
	return err
}

// live tells whether results go to a terminal.
func (t *terminal) live() bool {
	f, ok := t.out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// width is the terminal's columns, or 0 where results go elsewhere.
func (t *terminal) width() int {
	if !t.live() {
		return 0
	}
	columns, _, err := term.GetSize(int(t.out.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return columns
}
