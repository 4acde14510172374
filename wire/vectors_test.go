package wire

import (
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/*.hex")

func testKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

// testSpec is a small valid spec.
func testSpec() *RunSpec {
	id := PeerIDOf(testKey())
	return &RunSpec{
		Protocol: Protocol, Name: "test", Model: ModelSpec{Family: "gpt2", Layers: 1, Heads: 1, Width: 4, Context: 8, Vocab: 256},
		Tensors: []TensorSpec{
			{Name: "a", Shape: []uint64{4, 4}, Init: InitNormal, Scale: FloatOf(5e-7)},
			{Name: "b", Shape: []uint64{4}, Init: InitOne, Fragment: 1},
		},
		Seed:  1,
		Data:  DataSpec{Tokenizer: "byte", Train: []ShardSpec{{Hash: HashLeaf([]byte("t")), Tokens: 100}}, HeldOut: []ShardSpec{{Hash: HashLeaf([]byte("h")), Tokens: 10}}, Windows: 12, Seed: 2, Batch: 2},
		Inner: InnerSpec{LR: FloatOf(2e-3), Beta1: FloatOf(0.9), Beta2: FloatOf(0.95), Eps: FloatOf(1e-8), Decay: FloatOf(0.1), Clip: FloatOf(1), Warmup: FloatOf(0.04), FinalRate: FloatOf(0.1)},
		Outer: OuterSpec{LR: FloatOf(0.7), Momentum: FloatOf(0.9)}, Fragments: 2, H: 24, Contribution: "int8", Result: "int8", Merge: "rebase", Decay: FloatOf(1),
		TokenBudget: 1000, Deadlines: DefaultDeadlines(), Checkpoint: 16, Coordinators: []PeerID{id}, Organiser: id,
	}
}

// llamaSpec is testSpec with a model of the other family.
func llamaSpec() *RunSpec {
	s := testSpec()
	s.Model = ModelSpec{
		Family: "llama", Layers: 1, Heads: 2, Width: 4, Context: 8, Vocab: 256,
		KVHeads: 1, Hidden: 6, RopeTheta: FloatOf(10000), NormEps: FloatOf(1e-5), Untied: true,
	}
	return s
}

// narrowSpec is llamaSpec with a subspace.
func narrowSpec() *RunSpec {
	s := llamaSpec()
	s.Model.Subspace, s.Tensors[0].Init, s.Tensors[0].Corner = 2, InitRows, []uint64{4, 2}
	return s
}

// ownerSpec is testSpec with error feedback at the owners.
func ownerSpec() *RunSpec {
	s := testSpec()
	s.OwnerDecay, s.Outer.Momentum = FloatOf(0.95), FloatOf(0.5)
	return s
}

// ownerRow is a slab's row in such a run.
func ownerRow() *SlabResult {
	return &SlabResult{Owner: PeerIDOf(testKey()), Hash: HashLeaf([]byte("frame")), Length: 5, Weight: 6144, Members: 1, Before: HashLeaf([]byte("e7")), After: HashLeaf([]byte("e8"))}
}

// examples has one value of every kind that crosses the network.
func examples() map[string]any {
	key := testKey()
	run := testSpec().ID()
	ready := Ready{Slot: 3, Fragment: 1, Base: 7, Root: HashLeaf([]byte("r")), From: 24, To: 48, Tokens: 6144, Windows: []Range{{From: 96, To: 144}}, Norm: FloatOf(1.5), StepTime: 90000}
	signed := SignedReady{Ready: ready, Sig: Sign(key, ReadyKind(run), Encode(&ready))}
	table := CommitTable{
		Contributors: []Contributor{{Slot: 3, Root: ready.Root, From: 24, To: 48, Tokens: 6144, Windows: ready.Windows, Weight: 6144, Clip: FloatOf(1)}},
		Slabs:        []SlabResult{{Owner: PeerIDOf(key), Hash: HashLeaf([]byte("frame")), Length: 5, Weight: 6144, Members: 1}},
	}
	attempts := AttemptTable{Members: []AttemptMember{{Peer: PeerIDOf(key), Ready: signed, Weight: 6144, Clip: FloatOf(1), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}}, Owners: []Share{{From: 0, To: 1}}, Pace: 90000}
	commit := &Commit{Fragment: 1, Base: 7, BaseState: HashLeaf([]byte("s7")), Attempt: AttemptID{Term: 2, Counter: 9}, Table: HashLeaf(Encode(&table)), Result: table.ResultRoot(), Weight: 6144, Tokens: 6144, State: HashLeaf([]byte("s8"))}
	entry := NewEntry(run, 1, run, 2, commit)
	certified := Certified{Entry: entry, Certs: []Attestation{Attest(&entry, 0, key)}}
	attempt := AttemptID{Term: 2, Counter: 9}
	return map[string]any{
		"runspec": testSpec(), "runspec-llama": llamaSpec(), "runspec-owner": ownerSpec(), "runspec-subspace": narrowSpec(), "slab-owner": ownerRow(), "entry-commit": &certified, "attempt-table": &attempts, "commit-table": &table,
		"body-member":   &Member{Op: MemberAdmit, Slot: 3, Peer: PeerIDOf(key), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}},
		"body-lease":    &Lease{Slot: 3, Ranges: []Range{{From: 96, To: 192}}},
		"body-attempt":  &Attempt{Fragment: 1, Base: 7, ID: attempt, Table: HashLeaf(Encode(&attempts))},
		"body-settings": &Settings{Phase: PhaseEnded, Reason: "token budget committed"},
		"body-settings-all": &Settings{
			Phase: PhaseTraining, Reason: "h 50", Tuning: &Tuning{H: 50, OuterLR: FloatOf(0.4), From: []uint64{5, 9}},
			Deadlines: &DeadlineSpec{ReadyMin: 1000, Stall: 3000, Attempt: 15000, Leave: 5000, Silence: 45000}, Workers: 20,
			Access: &Access{Secrets: []Hash{HashLeaf([]byte("a join secret"))}},
		},
		"body-checkpoint": &Checkpoint{At: 40, Fragments: []FragmentHead{{Version: 8, State: HashLeaf([]byte("s8"))}}, Tokens: 6144},
		"hello":           &Hello{Protocol: 1, Version: "v0", Run: run, Role: RoleWorker, Head: 4, HeadHash: run, HeadTerm: 2, Addrs: []string{"/ip4/127.0.0.1/tcp/1"}},
		"welcome":         &Welcome{Slot: 3, Head: 4, Term: 2},
		"refuse":          &Refuse{Code: RefuseRun, Reason: "another run"},
		"heartbeat":       &Heartbeat{Slot: 3, State: StateTraining, Height: 4, Step: 48, Loss: FloatOf(2.5), TokensPerSecond: FloatOf(2000), Utilisation: FloatOf(0.97)},
		"ready":           &signed,
		"slab-done":       &SlabDone{Fragment: 1, Attempt: attempt, Slabs: table.Slabs},
		"slab-failed":     &SlabFailed{Fragment: 1, Attempt: attempt, Slab: 2, Missing: 2, Reason: "disconnected"},
		"reassign":        &Reassign{Fragment: 1, Attempt: attempt, Slabs: []uint64{2}, Owner: 1, Reason: "owner gone"},
		"results":         &Results{Fragment: 1, Attempt: attempt, Base: 7, Table: table},
		"have":            &Have{Fragment: 1, Base: 7, Attempt: attempt, Result: commit.Result, State: commit.State},
		"lease-request":   &LeaseRequest{Slot: 3, Windows: 96},
		"leave":           &Leave{Slot: 3, Reason: "drained"},
		"entries":         &Entries{Items: []Item{{Certified: certified, Table: Encode(&table)}}, Head: 1},
		"get-entries":     &GetEntries{From: 1, Max: 256},
		"signatures":      &Signatures{From: 7, Sigs: []Signature{{1, 2, 3}}, Want: 5},
		"leads":           &Leads{Term: 3, Key: 2},
		"change":          &Change{H: 50, OuterLR: FloatOf(0.5), Deadlines: DeadlineSpec{Stall: 5000}, Reason: "tuned", Access: &Access{Secrets: []Hash{run}}},
		"standing":        &Standing{Height: 7, Head: run, Term: 3, Ruler: 2},
		"command-reign":   &Command{Op: OpReign, Term: 3, Key: 2},
		"command-append":  &Command{Op: OpAppend, Term: 3, Key: 2, Kind: KindSettings, Payload: Encode(&Settings{Phase: PhasePaused}), Table: []byte{1}},
		"request":         &Request{Class: ClassResult, What: WhatBlob, Hash: HashLeaf([]byte("frame"))},
		"pulled":          &Pulled{Bytes: 1 << 20, Micros: 873_000},
		"slab":            &Slab{Frame: []byte("frame"), Proof: []Hash{run}},
		"manifest":        &Manifest{Slabs: []Hash{run}},
	}
}

// TestBytesAreThoseOfTheVectors pins the canonical bytes of every structure.
func TestBytesAreThoseOfTheVectors(t *testing.T) {
	for name, v := range examples() {
		got := hex.EncodeToString(Encode(v))
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(want)) != got {
			t.Errorf("%s: the bytes have changed, which parts this release from all others:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestEveryMessageSurvivesTheWire(t *testing.T) {
	for name, v := range examples() {
		m, ok := v.(Message)
		if !ok {
			continue
		}
		b := EncodeMessage(m)
		got, err := DecodeMessage(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(EncodeMessage(got)) != string(b) {
			t.Errorf("%s: changed on its way", name)
		}
	}
}

func TestModelSpecOfEachFamily(t *testing.T) {
	if err := llamaSpec().Validate(); err != nil {
		t.Errorf("a run of a Llama: %v", err)
	}
	if err := narrowSpec().Validate(); err != nil {
		t.Errorf("a run in a subspace: %v", err)
	}
	for name, breakIt := range map[string]func(*ModelSpec){
		"family": func(m *ModelSpec) { m.Family = "rnn" }, "family with numbers of another": func(m *ModelSpec) { m.Family = "gpt2" },
		"number of key heads": func(m *ModelSpec) { m.KVHeads = 0 }, "hidden width": func(m *ModelSpec) { m.Hidden = 1<<18 + 1 },
		"theta": func(m *ModelSpec) { m.RopeTheta = FloatOf(1) }, "theta that is no number": func(m *ModelSpec) { m.RopeTheta = 0x7fc00000 },
		"eps": func(m *ModelSpec) { m.NormEps = 0 }, "subspace": func(m *ModelSpec) { m.Subspace = m.Width },
		"tied subspace": func(m *ModelSpec) { m.Subspace, m.Untied = 2, false },
	} {
		s := llamaSpec()
		breakIt(&s.Model)
		if s.Validate() == nil {
			t.Errorf("a model with a bad %s passed", name)
		}
	}
	// A zero that stands there would be a second form of the same spec.
	b := Encode(&ModelSpec{Family: "gpt2", Layers: 1, Heads: 1, Width: 4, Context: 8, Vocab: 256})
	b[0]++ // one more key
	var m ModelSpec
	if err := Decode(append(b, 7, 0), &m); err == nil {
		t.Errorf("a zero that must be absent passed: %+v", m)
	}
}

func TestSpecIsOpenedOnlyWhenAllOfItHolds(t *testing.T) {
	key, spec := testKey(), testSpec()
	signed, err := SignSpec(spec, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signed.Open(spec.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := signed.Open(HashLeaf([]byte("another run"))); err == nil {
		t.Error("a spec passed for another run")
	}
	forged := *signed
	forged.Sig[0] ^= 1
	if _, err := forged.Open(spec.ID()); err == nil {
		t.Error("a forged signature passed")
	}
	for name, breakIt := range map[string]func(*RunSpec){
		"name": func(s *RunSpec) { s.Name = "a\nb" }, "fragment without tensors": func(s *RunSpec) { s.Fragments = 3 },
		"tensor twice": func(s *RunSpec) { s.Tensors[1].Name = "a" }, "huge tensor": func(s *RunSpec) { s.Tensors[0].Shape = []uint64{1 << 30, 1 << 30} },
		"corner": func(s *RunSpec) { s.Tensors[0].Corner = []uint64{4, 5} }, "corner of nothing": func(s *RunSpec) { s.Tensors[1].Corner = []uint64{0} },
		"corner of other extents": func(s *RunSpec) { s.Tensors[0].Corner = []uint64{4} }, "rows of a vector": func(s *RunSpec) { s.Tensors[1].Init = InitRows },
		"not a number": func(s *RunSpec) { s.Outer.LR = 0x7fc00000 }, "h": func(s *RunSpec) { s.H = 501 }, "no key": func(s *RunSpec) { s.Coordinators = nil },
	} {
		s := testSpec()
		breakIt(s)
		if s.Validate() == nil {
			t.Errorf("a spec with a bad %s passed", name)
		}
	}
}

func TestEntryNeedsAMajority(t *testing.T) {
	var keys []ed25519.PrivateKey
	var ids []PeerID
	for i := range 3 {
		k := ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i)))
		keys, ids = append(keys, k), append(ids, PeerIDOf(k))
	}
	e := NewEntry(HashLeaf(nil), 1, HashLeaf(nil), 1, &Settings{Phase: PhaseTraining})
	one, two := Attest(&e, 0, keys[0]), Attest(&e, 2, keys[2])
	for name, c := range map[string]struct {
		certs []Attestation
		ok    bool
	}{
		"two of three": {[]Attestation{one, two}, true}, "one of three": {[]Attestation{one}, false}, "one twice": {[]Attestation{one, one}, false},
		"wrong order": {[]Attestation{two, one}, false}, "wrong key": {[]Attestation{one, {Key: 1, Sig: two.Sig}}, false}, "key out of range": {[]Attestation{one, {Key: 9, Sig: two.Sig}}, false},
	} {
		if err := (&Certified{Entry: e, Certs: c.certs}).Check(ids); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range examples() {
		if m, ok := v.(Message); ok {
			f.Add(EncodeMessage(m))
		} else {
			f.Add(Encode(v))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeMessage(b); err == nil && string(EncodeMessage(m)) != string(b) {
			t.Fatalf("%T has two encodings", m)
		}
		_, _ = DecodeRequest(b)
		_, _ = DecodePeers(b)
		if s, err := DecodeStanding(b); err == nil && string(Encode(s)) != string(b) {
			t.Fatal("a standing has two encodings")
		}
		if c, err := DecodeCommand(b); err == nil && c.Op == OpAppend {
			_, _ = c.Body()
		}
		var c Certified
		if Decode(b, &c) == nil {
			_, _ = c.Entry.Body()
			_ = c.Check([]PeerID{{}})
		}
		var spec RunSpec
		if Decode(b, &spec) == nil {
			_ = spec.Validate()
		}
		var a AttemptTable
		if Decode(b, &a) == nil {
			_ = a.Validate(1)
		}
		var s Slab
		if Decode(b, &s) == nil {
			_ = s.Verify(Hash{}, 0, 1)
		}
		var m Manifest
		_ = Decode(b, &m)
	})
}
