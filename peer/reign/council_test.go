package reign

import (
	"bytes"
	"crypto/ed25519"
	"log/slog"
	"path/filepath"
	"testing"

	"dunlin/coordinator"
	"dunlin/ledger"
	"dunlin/peer/core"
	"dunlin/wire"
)

// proposals is an Agreement that keeps what is proposed.
type proposals struct{ commands [][]byte }

func (p *proposals) Propose(command []byte) error {
	p.commands = append(p.commands, command)
	return nil
}

func (p *proposals) Close() error { return nil }

func coordinatorKey(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
}

// admissions are so many certified entries from height 1 on.
func admissions(rules ledger.Rules, n int) (out []wire.Certified) {
	prev := rules.Run
	for i := range n {
		e := wire.NewEntry(rules.Run, uint64(i+1), prev, 1, &wire.Member{Op: wire.MemberAdmit, Slot: wire.Slot(i + 1), Peer: wire.PeerIDOf(coordinatorKey(100 + i))})
		out = append(out, wire.Certified{Entry: e, Certs: []wire.Attestation{wire.Attest(&e, 0, coordinatorKey(0)), wire.Attest(&e, 1, coordinatorKey(1))}})
		prev = e.Hash()
	}
	return out
}

// seated returns the first of three coordinators, whose ledger is empty, and what it proposes and feeds.
func seated(t *testing.T) (*Reign, ledger.Rules, *proposals, *[]uint64) {
	t.Helper()
	spec := &wire.RunSpec{}
	for i := range 3 {
		spec.Coordinators = append(spec.Coordinators, wire.PeerIDOf(coordinatorKey(i)))
	}
	rules := ledger.Rules{Run: wire.HashLeaf([]byte("run")), Keys: spec.Coordinators, Fragments: 1}
	log, err := ledger.Open(filepath.Join(t.TempDir(), "ledger"), rules, coordinatorKey(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	p, fed := &proposals{}, &[]uint64{}
	r, err := New(Config{
		Self: spec.Coordinators[0], Key: coordinatorKey(0), Spec: spec, Ledger: log, Rules: rules, Log: slog.New(slog.DiscardHandler),
		Agree: func(*Reign) (Agreement, error) { return p, nil },
		Driver: Driver{
			Next: func(core.Event) {}, Send: func(wire.PeerID, []byte) {}, Note: func(text string) { t.Log(text) }, Fail: func(err error) { t.Error(err) },
			Logged: func(c *wire.Certified, _ []byte) error {
				*fed = append(*fed, c.Entry.Height)
				return nil
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Join(); err != nil {
		t.Fatal(err)
	}
	return r, rules, p, fed
}

// TestAdoptionIsProposedAgain: entries of the own ledger whose adoption a lost reign left open are proposed anew in the next.
func TestAdoptionIsProposedAgain(t *testing.T) {
	r, rules, p, _ := seated(t)
	if _, err := r.cfg.Ledger.Append(admissions(rules, 3)...); err != nil {
		t.Fatal(err)
	}
	r.consult(leading{true})
	if len(p.commands) != 3 {
		t.Fatalf("%d of 3 entries proposed", len(p.commands))
	}
	first := p.commands[0]
	r.consult(unknown{first, "a leader that has just lost its reign"}) // it proposes them again
	r.consult(leading{false})
	r.consult(unknown{first, "no leader"})
	before := len(p.commands)
	r.consult(leading{true})
	if len(p.commands) != before+3 {
		t.Errorf("%d of 3 entries proposed in the next reign", len(p.commands)-before)
	}
}

// TestEntriesBeforeARefusedOneStand: the seat hears of what was appended though a later entry of the message is refused,
// and what is on the ledger already is not fed a second time.
func TestEntriesBeforeARefusedOneStand(t *testing.T) {
	r, rules, p, fed := seated(t)
	r.consult(leading{true})
	good := admissions(rules, 3)
	bad := good[1]
	bad.Certs = bad.Certs[:1]
	r.entries(wire.PeerID{9}, &wire.Entries{Items: []wire.Item{{Certified: good[0]}, {Certified: bad}, {Certified: good[2]}}, Head: 3})
	if len(p.commands) != 1 {
		t.Errorf("%d proposals for one entry that came", len(p.commands))
	}
	r.stands(&wire.Item{Certified: good[0]})
	if len(*fed) != 1 || (*fed)[0] != 1 {
		t.Errorf("heights %v were fed, want 1 once", *fed)
	}
}

// TestOldOrderIsNotCarriedOut: an order that the ledger never said, since another took its place, is answered, and is not handed to
// whoever leads later.
func TestOldOrderIsNotCarriedOut(t *testing.T) {
	r, _, _, _ := seated(t)
	r.council.leads = true
	var told int
	r.driver.Send = func(wire.PeerID, []byte) { told++ }
	answer := make(chan error, 1)
	r.organise(Organise{Change: coordinator.Change{Phase: wire.PhasePaused, Reason: "by hand"}, Answer: answer})
	r.wanted[0].since = r.wanted[0].since.Add(-2 * conveyWithin)
	r.lookAfterOrganiser()
	select {
	case err := <-answer:
		if err == nil {
			t.Error("it is said to be carried out")
		}
	default:
		t.Error("it is not answered")
	}
	next := r.cfg.Spec.Coordinators[1]
	r.council.leads, r.lead = false, next
	r.cfg.Peers = map[wire.PeerID]bool{next: true}
	r.conveyAgain()
	r.lookAfterOrganiser()
	if told > 0 {
		t.Errorf("the next leader is told %d times", told)
	}
}

// TestBanIsHandedOver: a coordinator that does not lead gives a ban to the one that does, which takes it as one.
func TestBanIsHandedOver(t *testing.T) {
	r, rules, _, _ := seated(t)
	if _, err := r.cfg.Ledger.Append(admissions(rules, 1)...); err != nil {
		t.Fatal(err)
	}
	leader, worker := r.cfg.Spec.Coordinators[1], wire.PeerIDOf(coordinatorKey(100))
	r.lead, r.cfg.Peers = leader, map[wire.PeerID]bool{leader: true}
	var sent []byte
	r.driver.Send = func(to wire.PeerID, message []byte) {
		if to == leader {
			sent = message
		}
	}
	answer := make(chan error, 1)
	r.organise(Organise{Change: coordinator.Change{Ban: worker, Reason: "poison"}, Answer: answer})
	m, err := wire.DecodeMessage(sent)
	if err != nil {
		t.Fatal(err)
	}
	other, _, _, _ := seated(t) // as if it were the leader
	if _, err := other.cfg.Ledger.Append(admissions(rules, 1)...); err != nil {
		t.Fatal(err)
	}
	var taken []core.Event
	other.driver.Next = func(e core.Event) { taken = append(taken, e) }
	other.council.leads = true
	other.Hear(leader, m)
	if want := (coordinator.Banned{Peer: worker, Reason: "poison"}); len(taken) != 1 || taken[0] != core.Event(want) {
		t.Fatalf("the leader takes it as %v", taken)
	}
	r.Banned(worker) // the ledger says so
	if err := <-answer; err != nil {
		t.Error(err)
	}
}
