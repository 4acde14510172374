package statustest

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Browser opens Chromium without a window until the test ends, or skips the test where there is none.
func Browser(t *testing.T) context.Context {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WSURLReadTimeout(2*time.Minute),
			chromedp.NoSandbox) // which root, and many a container, cannot have; it opens pages of the tests alone
		alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), options...)
		t.Cleanup(stopAlloc)
		ctx, stop := chromedp.NewContext(alloc)
		t.Cleanup(stop)
		if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
			t.Fatal(err)
		}
		return ctx
	}
	t.Skip("no Chromium on this machine: the page is not tested in a browser")
	return nil
}
