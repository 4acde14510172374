package wire

import (
	"crypto/ed25519"
	"testing"
)

func TestMerkleProofs(t *testing.T) {
	for n := 1; n < 40; n++ {
		leaves := make([]Hash, n)
		for i := range leaves {
			leaves[i] = HashLeaf([]byte{byte(i)})
		}
		root := MerkleRoot(leaves)
		for i := range leaves {
			proof := MerkleProof(leaves, i)
			if err := VerifyProof(root, leaves[i], i, n, proof); err != nil {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
			if VerifyProof(root, HashLeaf([]byte("other")), i, n, proof) == nil {
				t.Fatalf("leaf %d of %d: another leaf passed", i, n)
			}
			if n > 1 && VerifyProof(root, leaves[i], (i+1)%n, n, proof) == nil {
				t.Fatalf("leaf %d of %d: passed at another place", i, n)
			}
		}
	}
}

func TestMessagesSurviveTheWire(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	ready := Ready{Slot: 3, Fragment: 1, Base: 7, Root: HashLeaf([]byte("r")), From: 1, To: 5, Tokens: 9, Windows: []Range{{From: 1, To: 4}}, Norm: FloatOf(1.5)}
	run := HashLeaf([]byte("run"))
	signed := &SignedReady{Ready: ready, Sig: Sign(key, ReadyKind(run), Encode(&ready))}
	m, err := DecodeMessage(EncodeMessage(signed))
	if err != nil {
		t.Fatal(err)
	}
	got := m.(*SignedReady)
	if err := got.Verify(run, PeerIDOf(key)); err != nil {
		t.Fatal(err)
	}
	if got.Verify(HashLeaf([]byte("another run")), PeerIDOf(key)) == nil {
		t.Fatal("a Ready passed for another run")
	}
	if n := len(EncodeMessage(signed)); n > 220 {
		t.Fatalf("a Ready takes %d bytes: hashes and signatures must be byte strings", n)
	}
}

func TestCommandsAreBounded(t *testing.T) {
	adopted := Command{Op: OpAdopt, Adopted: &Certified{Entry: Entry{Height: 1, Payload: []byte{}}, Certs: []Attestation{}}}
	for name, c := range map[string]struct {
		command Command
		ok      bool
	}{
		"reign":                 {Command{Op: OpReign, Term: 1}, true},
		"reign of no term":      {Command{Op: OpReign}, false},
		"reign with a body":     {Command{Op: OpReign, Term: 1, Payload: []byte{1}}, false},
		"append":                {Command{Op: OpAppend, Term: 1, Kind: KindLease, Payload: []byte{1}}, true},
		"append of no term":     {Command{Op: OpAppend, Kind: KindLease, Payload: []byte{1}}, false},
		"append with an entry":  {Command{Op: OpAppend, Term: 1, Kind: KindLease, Payload: []byte{1}, Adopted: adopted.Adopted}, false},
		"adoption":              {adopted, true},
		"adoption of nothing":   {Command{Op: OpAdopt}, false},
		"unknown":               {Command{Op: 9, Term: 1}, false},
		"a sixth coordinator":   {Command{Op: OpReign, Term: 1, Key: MaxKeys}, false},
		"more than a message":   {Command{Op: OpAppend, Term: 1, Kind: KindLease, Payload: make([]byte, MaxCommand)}, false},
		"as much as is allowed": {Command{Op: OpAppend, Term: 1, Kind: KindLease, Payload: make([]byte, MaxCommand-32)}, true},
	} {
		if _, err := DecodeCommand(Encode(&c.command)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
