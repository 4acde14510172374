package contact

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"dunlin/wire"
)

// giver answers requests with what it has, one after the other.
type giver struct {
	Network
	answers [][]byte
}

func (g *giver) Fetch(context.Context, wire.PeerID, wire.Class, []byte, int) ([]byte, error) {
	b := g.answers[0]
	g.answers = g.answers[1:]
	return b, nil
}

// TestWrongBytesAreAskedForOnceMore has an answer begin with bytes that another peer gave before its transfer broke: the one
// who gave the rest is asked again, and blamed only for an answer of its own.
func TestWrongBytesAreAskedForOnceMore(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []string
		want    string // "" for an error
	}{
		{"right", []string{"right"}, "right"},
		{"another's beginning", []string{"falseright", "right"}, "right"},
		{"wrong twice", []string{"wrong", "wrong"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &giver{}
			for _, a := range c.answers {
				g.answers = append(g.answers, []byte(a))
			}
			var got []byte
			var failed error
			f := &Fetcher{network: g}
			f.fetch(t.Context(), Job{
				Timeout: time.Minute,
				Check: func(b []byte) error {
					if !bytes.Equal(b, []byte("right")) {
						return errors.New("not right")
					}
					return nil
				},
				Done: func(b []byte, err error) { got, failed = b, err },
			})
			if string(got) != c.want || (failed == nil) != (c.want != "") || len(g.answers) > 0 {
				t.Errorf("answer %q, error %v, %d answers not asked for; want %q", got, failed, len(g.answers), c.want)
			}
			if failed != nil && !errors.Is(failed, ErrWrongBytes) {
				t.Errorf("error %v does not say that the bytes are wrong", failed)
			}
		})
	}
}
