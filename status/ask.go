package status

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Bounds of asking a page.
const (
	askWithin   = 2 * time.Second
	maxSnapshot = 16 << 20 // bytes
)

// Ask fetches the snapshot that the page at an address shows now, also as it came.
func Ask(ctx context.Context, page string) (*Snapshot, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	u, err := url.Parse(page)
	if err != nil {
		return nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("api/v1/snapshot").String(), http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSnapshot))
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %.80s", response.Status, strings.TrimSpace(string(body)))
	}
	shot, err := Decode(body)
	return shot, body, err
}
