package ledger

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"dunlin/wire"
)

// council is several seats, the sequence that Raft would give them and the mail
// among them.
type council struct {
	t       *testing.T
	rules   Rules
	agreed  []wire.Command
	seats   []*Seat
	at      []int              // commands that each has heard
	ledgers [][]wire.Certified // of each, on disk
	mail    []letter
	reigns  [2]uint64 // newest term and key by any seat
	out     strings.Builder
}

type letter struct {
	from, to int
	sigs     wire.Signatures
}

func newCouncil(t *testing.T, n int) *council {
	c := &council{t: t, rules: testRules(n), seats: make([]*Seat, n), at: make([]int, n), ledgers: make([][]wire.Certified, n)}
	for i := range n {
		c.restart(i)
	}
	return c
}

// restart begins a seat anew from its ledger; Raft hands it every command again.
func (c *council) restart(i int) {
	s, err := NewSeat(SeatConfig{
		Rules: c.rules, Key: testKey(i), Height: uint64(len(c.ledgers[i])),
		Stored: func(height uint64) (wire.Hash, bool) {
			if height == 0 || height > uint64(len(c.ledgers[i])) {
				return wire.Hash{}, false
			}
			return c.ledgers[i][height-1].Entry.Hash(), true
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.seats[i], c.at[i] = s, 0
}

func (c *council) step(i int, ev SeatEvent) {
	fmt.Fprintf(&c.out, "%d > %s\n", i, ev)
	for _, e := range c.seats[i].Step(ev) {
		fmt.Fprintf(&c.out, "    %s\n", e)
		switch e := e.(type) {
		case Sign:
			c.send(i, e.Signatures)
		case Stands:
			c.store(i, e.Item.Certified)
		case Reigns:
			c.reigns = [2]uint64{e.Term, uint64(e.Key)}
		case Refused, Split:
		}
	}
}

func (c *council) send(from int, sigs wire.Signatures) {
	for to := range c.seats {
		if to != from {
			c.mail = append(c.mail, letter{from, to, sigs})
		}
	}
}

// store checks what a seat puts on its ledger as a stranger would.
func (c *council) store(i int, e wire.Certified) {
	if err := e.Check(c.rules.Keys); err != nil {
		c.t.Errorf("seat %d: %v", i, err)
	}
	if want := uint64(len(c.ledgers[i]) + 1); e.Entry.Height != want {
		c.t.Errorf("seat %d stores height %d, want %d", i, e.Entry.Height, want)
	}
	c.ledgers[i] = append(c.ledgers[i], e)
}

// hear gives a seat the commands that it has not heard, up to n of them.
func (c *council) hear(i, n int) {
	for ; n > 0 && c.at[i] < len(c.agreed); n-- {
		c.at[i]++
		c.step(i, Agreed{Command: c.agreed[c.at[i]-1]})
	}
}

func appendOf(key int, term uint64, body wire.Body) wire.Command {
	return wire.Command{Op: wire.OpAppend, Term: term, Key: uint64(key), Kind: body.Kind(), Payload: wire.Encode(body)}
}

func TestSeats(t *testing.T) {
	datadriven.Walk(t, "testdata/seats", func(t *testing.T, path string) {
		c := newCouncil(t, 3)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			c.out.Reset()
			number := func(i int) int {
				n, err := strconv.Atoi(d.CmdArgs[i].Key)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			switch d.Cmd {
			case "reign": // KEY TERM
				c.agreed = append(c.agreed, wire.Command{Op: wire.OpReign, Key: uint64(number(0)), Term: uint64(number(1))})
			case "admit": // KEY TERM SLOT: the leader KEY admits a worker
				c.agreed = append(c.agreed, appendOf(number(0), uint64(number(1)), admit(wire.Slot(number(2)), number(2))))
			case "adopt": // KEY HEIGHT of the ledger of KEY
				c.agreed = append(c.agreed, wire.Command{Op: wire.OpAdopt, Key: uint64(number(0)), Adopted: &c.ledgers[number(0)][number(1)-1]})
			case "hear": // SEAT…
				for i := range d.CmdArgs {
					c.hear(number(i), len(c.agreed))
				}
			case "post": // FROM TO: what FROM wrote to TO; the rest stays
				var rest []letter
				for _, l := range c.mail {
					if l.from == number(0) && l.to == number(1) {
						c.step(l.to, Signed{Key: l.from, Signatures: l.sigs})
					} else {
						rest = append(rest, l)
					}
				}
				c.mail = rest
			case "again": // FROM: its signatures once more
				own := c.seats[number(0)].Own(1)
				fmt.Fprintf(&c.out, "%d from height %d, wants from %d\n", len(own.Sigs), own.From, own.Want)
				c.send(number(0), *own)
			case "lose":
				c.mail = nil
			case "restart": // SEAT
				c.restart(number(0))
			case "rollback": // SEAT HEIGHT: its disk is set back, and Raft's sequence to COUNT commands
				c.ledgers[number(0)] = c.ledgers[number(0)][:number(1)]
				c.restart(number(0))
			case "forget": // COUNT: what is left of the sequence
				c.agreed = c.agreed[:number(0)]
			case "copy": // FROM TO: TO takes over the ledger of FROM
				from, to := number(0), number(1)
				c.ledgers[to] = append(c.ledgers[to][:0:0], c.ledgers[from]...)
				c.step(to, Stood{Height: uint64(len(c.ledgers[to]))})
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			return c.out.String()
		})
	})
}

// TestSeatsUnderAnyMail: whatever becomes of signatures, whoever restarts, all
// ledgers are prefixes of one, and a round of letters after the storm brings all
// to the end.
func TestSeatsUnderAnyMail(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 22))
		n := 3 + 2*int(seed%2)
		c := newCouncil(t, n)
		term, slot := uint64(0), wire.Slot(0)
		for range 120 {
			i := rng.IntN(n)
			switch rng.IntN(12) {
			case 0:
				term++
				c.agreed = append(c.agreed, wire.Command{Op: wire.OpReign, Key: uint64(i), Term: term})
			case 1, 2:
				slot++
				old := term - uint64(rng.IntN(2)) // at times of a reign that is over
				c.agreed = append(c.agreed, appendOf(int(c.reigns[1]), old, admit(slot, int(slot))))
			case 3:
				c.restart(i)
			case 4:
				c.send(i, *c.seats[i].Own(1))
			case 5, 6, 7:
				c.hear(i, 1+rng.IntN(3))
			default:
				if len(c.mail) > 0 {
					k := rng.IntN(len(c.mail))
					l := c.mail[k]
					c.mail = append(c.mail[:k], c.mail[k+1:]...)
					if rng.IntN(3) > 0 {
						c.step(l.to, Signed{Key: l.from, Signatures: l.sigs})
					}
				}
			}
		}
		c.mail = nil
		for i := range n {
			c.hear(i, len(c.agreed))
		}
		for i := range n {
			c.send(i, *c.seats[i].Own(1))
		}
		for _, l := range c.mail {
			c.step(l.to, Signed{Key: l.from, Signatures: l.sigs})
		}
		longest := 0
		for i := range n {
			if len(c.ledgers[i]) > len(c.ledgers[longest]) {
				longest = i
			}
		}
		for i := range n {
			for h := range c.ledgers[i] {
				if c.ledgers[i][h].Entry.Hash() != c.ledgers[longest][h].Entry.Hash() {
					t.Fatalf("seed %d: seats %d and %d differ at height %d", seed, i, longest, h+1)
				}
			}
		}
		// A majority signed every entry: who lacks some gets them from a ledger.
		if got, want := uint64(len(c.ledgers[longest])), c.seats[longest].Height(); got != want {
			t.Fatalf("seed %d: height %d is agreed on, %d stands", seed, want, got)
		}
	}
}
