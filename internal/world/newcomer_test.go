package world

import (
	"testing"
	"time"

	"dunlin/peer"
	"dunlin/peer/contact"
	"dunlin/recipe"
)

// TestNewcomerMeasuresItsLink: the coordinator pulls noise from a newcomer and says how fast that went; one with nothing to
// give is refused.
func TestNewcomerMeasuresItsLink(t *testing.T) {
	w := newWorld(t, nil, func(*recipe.Run) {})
	w.start(place{})
	defer w.lead.halt()
	n := contact.NewNewcomer()
	host := w.host(peer.Config{Key: testKey(31), Run: w.id}, place{}, n)
	defer host.Close()
	lead := w.lead.host
	if err := host.Connect(t.Context(), lead.ID(), lead.Addrs()); err != nil {
		t.Fatal(err)
	}
	bytes, took, err := n.MeasureUp(t.Context(), transport{Host: host}, lead.ID())
	if err != nil || bytes != 1<<20 || took <= 0 || took > 10*time.Second {
		t.Errorf("%d bytes up in %s, %v", bytes, took, err)
	}
	if bytes, _, err := contact.NewNewcomer().MeasureUp(t.Context(), transport{Host: host}, lead.ID()); err == nil || bytes != 0 {
		t.Errorf("noise under another name: %d bytes, %v", bytes, err)
	}
	if bytes, took, err := contact.MeasureDown(t.Context(), transport{Host: host}, lead.ID(), w.spec, 1<<20, 10*time.Second); err != nil || bytes == 0 || took <= 0 {
		t.Errorf("%d bytes down in %s, %v", bytes, took, err)
	}
}
