package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dunlin/status"
)

func newPause(t *terminal) *cobra.Command {
	return t.steering("pause", "pause this machine's worker until dunlin resume, also over restarts", true)
}

func newResume(t *terminal) *cobra.Command {
	return t.steering("resume", "let this machine's worker train again after dunlin pause", false)
}

// steering makes a command that pauses the worker or lets it go on.
func (t *terminal) steering(name, short string, pause bool) *cobra.Command {
	c := &t.settings.config
	return t.command(name+" [URL]", short, "  dunlin "+name+"\n  dunlin "+name+" --data-dir /mnt/big/dunlin", optionally("the page's address"),
		func(ctx context.Context, c *Config, args []string) error {
			pages, err := c.pages(args)
			if err != nil {
				return err
			}
			var errs []error
			for _, page := range pages {
				err := steer(ctx, page, status.Change{Pause: &pause})
				if err == nil {
					_, err = fmt.Fprintln(t.out, map[bool]string{
						true:  "paused: it hands over its rounds and leaves the run; dunlin resume goes on",
						false: "resumed: it trains unless its schedule, other programs, battery or the day's upload are against it; dunlin status says",
					}[pause])
					return err
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
		text(&c.DataDir, "data-dir", "", "path", "folder of the worker; without it, this machine's"))
}

// Bounds of an exchange with a page.
const (
	steerWithin = 2 * time.Second
	maxAnswer   = 1 << 20 // bytes
)

// steer sends a change to the page of a worker on this machine.
func steer(ctx context.Context, page string, change status.Change) error {
	ctx, cancel := context.WithTimeout(ctx, steerWithin)
	defer cancel()
	base, err := url.Parse(page)
	if err != nil {
		return err
	}
	var token struct{ Token string }
	if err := exchange(ctx, http.MethodGet, base.JoinPath("api/v1/machine/token").String(), nil, nil, &token); err != nil {
		return fmt.Errorf("ask the worker at %s: %w", page, err)
	}
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {"application/json"}, status.ControlHeader: {token.Token}}
	if err := exchange(ctx, http.MethodPost, base.JoinPath("api/v1/machine").String(), body, header, nil); err != nil {
		return fmt.Errorf("tell the worker at %s: %w", page, err)
	}
	return nil
}

// exchange sends a request to a page and decodes its answer into out unless that is nil.
func exchange(ctx context.Context, method, address string, body []byte, header http.Header, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for key, values := range header {
		request.Header[key] = values
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // the address is said already
		}
		return fmt.Errorf("nobody answers, so it does not run any more: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		var refusal struct{ Error string }
		if json.Unmarshal(answer, &refusal) != nil || refusal.Error == "" {
			refusal.Error = response.Status + ": " + shorten(strings.TrimSpace(string(answer)))
		}
		return errors.New(refusal.Error)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
