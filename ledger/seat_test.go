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
	kept    []condensed        // newest of each, in place of its first commands
	ledgers [][]wire.Certified // of each, on disk
	mail    []letter
	reigns  [2]uint64 // newest term and key by any seat
	out     strings.Builder
}

// condensed is what Raft has in place of the first commands of the sequence.
type condensed struct {
	commands int
	standing wire.Standing
}

// seatLedger is one seat's ledger.
type seatLedger struct {
	c *council
	i int
}

func (l seatLedger) Stored(height uint64) (wire.Hash, bool) {
	if height == 0 || height > uint64(len(l.c.ledgers[l.i])) {
		return wire.Hash{}, false
	}
	return l.c.ledgers[l.i][height-1].Entry.Hash(), true
}

func (l seatLedger) ChainAt(height uint64) (*Chain, error) {
	chain, err := NewChain(l.c.rules)
	for h := uint64(0); h < height && err == nil; h++ {
		err = chain.AppendVerified(&l.c.ledgers[l.i][h])
	}
	return chain, err
}

type letter struct {
	from, to int
	sigs     wire.Signatures
}

func newCouncil(t *testing.T, n int) *council {
	c := &council{t: t, rules: testRules(n), seats: make([]*Seat, n), at: make([]int, n), kept: make([]condensed, n), ledgers: make([][]wire.Certified, n)}
	for i := range n {
		c.restart(i)
	}
	return c
}

// restart begins a seat anew from its ledger; Raft hands it every command again
// that it keeps.
func (c *council) restart(i int) {
	s, err := NewSeat(SeatConfig{Rules: c.rules, Key: testKey(i), Height: uint64(len(c.ledgers[i])), Ledger: seatLedger{c, i}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.seats[i], c.at[i] = s, 0
	if c.kept[i].commands > 0 {
		c.restore(i, c.kept[i])
	}
}

// condense lets Raft drop what a seat has heard, once its ledger has what became of it.
func (c *council) condense(i int) {
	if at, ok := c.seats[i].Standing(); ok && at.Height <= uint64(len(c.ledgers[i])) && c.at[i] > c.kept[i].commands {
		c.kept[i] = condensed{c.at[i], at}
	}
}

// restore has a seat begin with what another, or itself before, heard.
func (c *council) restore(i int, from condensed) {
	c.kept[i], c.at[i] = from, from.commands
	c.step(i, Restored{Standing: from.standing})
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
		case Unreadable:
			c.t.Error(e)
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
			case "condense": // SEAT
				c.condense(number(0))
			case "restore": // FROM TO: TO begins with what FROM keeps
				c.restore(number(1), c.kept[number(0)])
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
				c.copyLedger(to, c.ledgers[from])
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			return c.out.String()
		})
	})
}

// TestSeatStopsOverAnotherLedger: what commands came to names another entry than the
// own ledger has.
func TestSeatStopsOverAnotherLedger(t *testing.T) {
	c := newCouncil(t, 3)
	c.agreed = append(c.agreed, wire.Command{Op: wire.OpReign, Key: 0, Term: 1}, appendOf(0, 1, admit(1, 1)), appendOf(0, 1, admit(2, 2)))
	for i := range c.seats {
		c.hear(i, 2)
	}
	for _, l := range c.mail {
		c.step(l.to, Signed{Key: l.from, Signatures: l.sigs})
	}
	if c.condense(0); c.kept[0].commands != 2 {
		t.Fatalf("kept %+v", c.kept[0])
	}
	c.kept[0].standing.Head[0] ^= 1
	c.restart(0)
	c.out.Reset()
	c.hear(0, 1)
	if got := c.out.String(); strings.Contains(got, "sign") || c.seats[0].Height() != 1 {
		t.Fatalf("it goes on: %s", got)
	}
}

func (c *council) copyLedger(to int, from []wire.Certified) {
	c.ledgers[to] = append(c.ledgers[to][:0:0], from...)
	c.step(to, Stood{Height: uint64(len(from))})
}

// TestSeatsUnderAnyMail: whatever becomes of signatures, whoever restarts, however
// Raft's log is cut, all
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
			switch rng.IntN(14) {
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
			case 8:
				c.condense(i)
			case 9:
				if from := c.kept[rng.IntN(n)]; from.commands > c.at[i] {
					c.restore(i, from)
				}
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
			for _, other := range c.ledgers { // whoever misses entries gets them
				if len(other) > len(c.ledgers[i]) {
					c.copyLedger(i, other)
				}
			}
			c.hear(i, len(c.agreed))
			if at, ok := c.seats[i].Standing(); !ok || at.Height != c.seats[i].Height() {
				t.Fatalf("seed %d: seat %d does not stand: %+v, %t", seed, i, at, ok)
			}
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
