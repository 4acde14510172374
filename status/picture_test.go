package status

import (
	"bytes"
	"fmt"
	"image/png"
	"math"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"dunlin/status/statustest"
)

// pictures are those of the documents, by width of the window.
var pictures = map[string][2]int64{"../docs/images/page.png": {1440, 900}, "../docs/images/phone.png": {390, 844}}

// An evening's run, as the pictures show it.
func evening() *Snapshot {
	s := sample()
	s.At = time.Now()
	s.Run.Started = s.At.Add(-3 * time.Hour)
	s.Run.Tokens, s.Run.TokenBudget, s.Run.Height, s.Health.Commits, s.Speed.SecondsLeft = 86_400_000, 114_000_000, 8812, 4030, value(3400)
	s.Learning.Curve, s.Learning.HeldOuts, s.Speed.History = nil, nil, nil
	for i := range 240 {
		x := float64(i+1) / 240
		tokens := uint64(86.4e6 * x)
		curve := 2.55 + 2.9*math.Exp(-9*x) + 0.35*math.Exp(-2*x)
		s.Learning.Curve = append(s.Learning.Curve, Point{tokens, curve + 0.03*math.Sin(float64(i*i)), 10_800 * x})
		if i%12 == 11 {
			s.Learning.HeldOuts = append(s.Learning.HeldOuts, Point{tokens, curve + 0.04, 10_800 * x})
		}
		workers := 3 + min(i/40, 1) + min(i/90, 1) - min(i/150, 1)
		s.Speed.History = append(s.Speed.History, Rate{
			At: 10_800 * x, Rate: float64(workers) * 2010 * (1 + 0.02*math.Sin(float64(i))), Peers: workers, Own: 2010,
			Classes: []float64{float64(workers-1) * 2010 * (1 + 0.02*math.Sin(float64(i))), 2010 * (1 + 0.02*math.Sin(float64(i)))},
		})
	}
	s.Learning.Train, s.Learning.HeldOut = &s.Learning.Curve[239].Loss, &s.Learning.HeldOuts[19].Loss
	s.Rounds = nil
	for i := range 60 {
		at := 10_800 - 600 + 10*float64(i)
		s.Rounds = append(s.Rounds, Round{
			Fragment: i % 2, Base: uint64(4000 + i/2), Attempt: fmt.Sprintf("1/%d", 8000+i), Phase: "committing", Members: 4,
			Ready: value(at), Opened: value(at + 0.8), Summed: value(at + 3.2), Held: value(at + 5.5), Closed: value(at + 6),
		})
	}
	return s
}

// TestPagePictures takes the pictures of the documents with -update, and else checks that they are small and whole.
func TestPagePictures(t *testing.T) {
	if *update {
		ctx := statustest.Browser(t)
		s := start(t, Config{})
		s.Publish(evening())
		for name, size := range pictures {
			do(t, ctx, chromedp.EmulateViewport(size[0], size[1]), chromedp.Navigate(s.URL()))
			await(t, ctx, `document.querySelectorAll("canvas").length > 0`)
			b, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, size := range pictures {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.DecodeConfig(bytes.NewReader(b))
		if err != nil || picture.Width != int(size[0]) || len(b) > 200_000 {
			t.Errorf("%s: %d bytes, %d wide, %v", name, len(b), picture.Width, err)
		}
	}
}
