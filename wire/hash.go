package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Hash is a SHA-256 digest: a run id, a content address, a Merkle root.
type Hash [32]byte

// String returns the full hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short returns the first and last bytes as people see them, "7f3a…c1".
func (h Hash) Short() string { return hex.EncodeToString(h[:2]) + "…" + hex.EncodeToString(h[31:]) }

// IsZero reports whether h is the zero value, which names nothing.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText writes the hash in hexadecimal, for JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}

// ParseHash reads 64 hexadecimal digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != hex.EncodedLen(len(h)) {
		return Hash{}, fmt.Errorf("hash %q: want 64 hexadecimal digits", clip(s))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("hash %q: %w", clip(s), err)
	}
	return h, nil
}

// PeerID is a peer's Ed25519 public key: its identity on the network and the
// key under which its signatures verify.
type PeerID [ed25519.PublicKeySize]byte

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// PeerIDOf returns the id that belongs to a private key.
func PeerIDOf(key ed25519.PrivateKey) PeerID {
	return PeerID(key.Public().(ed25519.PublicKey))
}

// String returns the id in lower-case base32 without padding, 52 characters.
func (p PeerID) String() string { return base32Lower.EncodeToString(p[:]) }

// Short returns the first eight characters, enough to tell peers apart in a log.
func (p PeerID) Short() string { return p.String()[:8] }

// IsZero reports whether p is the zero value, which names nobody.
func (p PeerID) IsZero() bool { return p == PeerID{} }

// MarshalText writes the id as String does, for JSON.
func (p PeerID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (p *PeerID) UnmarshalText(text []byte) error {
	parsed, err := ParsePeerID(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// ParsePeerID reads what String wrote.
func ParsePeerID(s string) (PeerID, error) {
	raw, err := base32Lower.DecodeString(strings.ToLower(s))
	if err != nil {
		return PeerID{}, fmt.Errorf("peer id %q: %w", clip(s), err)
	}
	if len(raw) != len(PeerID{}) {
		return PeerID{}, fmt.Errorf("peer id %q: want 52 characters of base32", clip(s))
	}
	return PeerID(raw), nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// HashLeaf is the address of content: H(0x00 ‖ data). It is also that content's
// leaf in every Merkle tree, so a tree's leaves are addresses (RFC 6962's
// domain separation).
func HashLeaf(data []byte) Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(data)
	return Hash(h.Sum(nil))
}

func hashNode(left, right Hash) Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// MerkleRoot returns the root over leaves in order; an odd node is promoted.
// The root of no leaves is the zero hash.
func MerkleRoot(leaves []Hash) Hash {
	if len(leaves) == 0 {
		return Hash{}
	}
	level := append([]Hash(nil), leaves...)
	for len(level) > 1 {
		level = parents(level)
	}
	return level[0]
}

// parents overwrites level with the next one up.
func parents(level []Hash) []Hash {
	n := 0
	for i := 0; i+1 < len(level); i += 2 {
		level[n] = hashNode(level[i], level[i+1])
		n++
	}
	if len(level)%2 == 1 {
		level[n] = level[len(level)-1]
		n++
	}
	return level[:n]
}

// MerkleProof returns the siblings that lead from leaf i to the root, lowest
// first; levels at which the node is promoted have none.
func MerkleProof(leaves []Hash, i int) []Hash {
	var proof []Hash
	level := append([]Hash(nil), leaves...)
	for len(level) > 1 {
		if sibling := i ^ 1; sibling < len(level) {
			proof = append(proof, level[sibling])
		}
		level = parents(level)
		i /= 2
	}
	return proof
}

var errProof = errors.New("merkle proof does not lead to the root")

// VerifyProof checks that leaf is number i of n leaves under root.
func VerifyProof(root, leaf Hash, i, n int, proof []Hash) error {
	if i < 0 || i >= n {
		return fmt.Errorf("merkle proof: leaf %d of %d", i, n)
	}
	node := leaf
	for n > 1 {
		if i^1 < n {
			if len(proof) == 0 {
				return errProof
			}
			if i%2 == 0 {
				node = hashNode(node, proof[0])
			} else {
				node = hashNode(proof[0], node)
			}
			proof = proof[1:]
		}
		i, n = i/2, (n+1)/2
	}
	if len(proof) != 0 || node != root {
		return errProof
	}
	return nil
}
