package wire

import (
	"errors"
	"fmt"
)

// Request is one bulk request; all bulk is pulled. Exactly one kind is asked:
// the signed run spec, a blob by its address, one slab of a contribution by the
// contribution's root, which its maker alone can serve, or who is where.
type Request struct {
	Class Class  `cbor:"1,keyasint"`
	What  What   `cbor:"2,keyasint"`
	Hash  Hash   `cbor:"3,keyasint"` // blob address, contribution root or state hash
	Index uint64 `cbor:"4,keyasint"` // slab of the contribution
}

// What says what a request names.
type What uint8

// Requests.
const (
	WhatSpec     What = 1 // answer: SignedSpec
	WhatBlob     What = 2 // answer: the bytes whose HashLeaf is Hash
	WhatSlab     What = 3 // answer: Slab
	WhatManifest What = 4 // answer: Manifest of the fragment state whose hash is Hash
	WhatPeers    What = 5 // answer: Peers that this one knows; Hash is random, since answers differ
	WhatStage    What = 6 // answer of the coordinator: Offer, the stage that it wants the asker in; Hash is random
	WhatPull     What = 7 // answer of the coordinator: Pulled, how fast it had the asker's answers to WhatSlab of Hash, which is random
	WhatStatus   What = 8 // answer: the newest status.Snapshot, as JSON, at most MaxStatus bytes; Hash is random
)

// MaxStatus bounds the bytes of an answer to WhatStatus.
const MaxStatus = 8 << 20

// Class is the byte class that a transfer is counted and scheduled in.
type Class uint8

// Byte classes, in order of urgency but for the last.
const (
	ClassControl      Class = 0
	ClassContribution Class = 1
	ClassResult       Class = 2
	ClassJoin         Class = 3
	ClassData         Class = 4
	ClassObserver     Class = 5
	ClassActivation   Class = 6 // between stages; as urgent as contributions
	Classes                 = 7
)

// Urgency orders classes: who has less goes first.
func (c Class) Urgency() int {
	if c == ClassActivation {
		return int(ClassContribution)
	}
	return int(c)
}

func (c Class) String() string {
	names := [...]string{"control", "contribution", "result", "join", "data", "observer", "activation"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Offer answers WhatStage.
type Offer struct {
	Stage  uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"` // for people
}

// DecodeOffer reads and bounds an answer to WhatStage.
func DecodeOffer(b []byte) (*Offer, error) {
	var o Offer
	if err := Decode(b, &o); err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	if o.Stage >= MaxFragments {
		return nil, fmt.Errorf("offer of stage %d", o.Stage)
	}
	return &o, checkReason(o.Reason)
}

// Pulled answers WhatPull.
type Pulled struct {
	Bytes  uint64 `cbor:"1,keyasint"`
	Micros uint64 `cbor:"2,keyasint"` // µs that they took, above 0
}

// DecodePulled reads and bounds an answer to WhatPull.
func DecodePulled(b []byte) (*Pulled, error) {
	var p Pulled
	if err := Decode(b, &p); err != nil {
		return nil, fmt.Errorf("pulled: %w", err)
	}
	if p.Bytes > MaxMessage || p.Micros == 0 {
		return nil, fmt.Errorf("pulled %d bytes in %d µs", p.Bytes, p.Micros)
	}
	return &p, nil
}

// Slab is one slab of a contribution with its proof of belonging.
type Slab struct {
	Frame []byte `cbor:"1,keyasint"`
	Proof []Hash `cbor:"2,keyasint"`
}

// Verify checks that the frame is slab i of n of the contribution.
func (s *Slab) Verify(root Hash, i, n int) error {
	if len(s.Frame) == 0 || len(s.Frame) > MaxFrame {
		return fmt.Errorf("slab %d: %d bytes", i, len(s.Frame))
	}
	if err := VerifyProof(root, HashLeaf(s.Frame), i, n, s.Proof); err != nil {
		return fmt.Errorf("slab %d: %w", i, err)
	}
	return nil
}

// Peers tells where peers were last reached. It is hearsay: who is dialled
// proves its identity.
type Peers struct {
	Known []Known `cbor:"1,keyasint"` // at most MaxKnown
}

// Known is one peer's addresses.
type Known struct {
	Peer  PeerID   `cbor:"1,keyasint"`
	Addrs []string `cbor:"2,keyasint"` // 1 to MaxAddrs
}

// MaxKnown bounds the peers of one Peers.
const MaxKnown = 64

// DecodePeers reads and bounds an answer to WhatPeers.
func DecodePeers(b []byte) (*Peers, error) {
	var p Peers
	if err := Decode(b, &p); err != nil {
		return nil, fmt.Errorf("known peers: %w", err)
	}
	if len(p.Known) > MaxKnown {
		return nil, fmt.Errorf("%d known peers, at most %d are taken", len(p.Known), MaxKnown)
	}
	for _, k := range p.Known {
		if k.Peer.IsZero() || len(k.Addrs) == 0 {
			return nil, errors.New("a known peer without a name or an address")
		}
		if err := checkAddrs(k.Addrs); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

// DecodeRequest reads and bounds a bulk request.
func DecodeRequest(b []byte) (*Request, error) {
	var r Request
	if err := Decode(b, &r); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if r.Class >= Classes || r.What < WhatSpec || r.What > WhatStatus || r.Index >= MaxSlabs {
		return nil, fmt.Errorf("request: kind %d, class %d", r.What, r.Class)
	}
	return &r, nil
}
