package folder

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"dunlin/store"
	"dunlin/wire"
)

// Invite is one way into a run, as its organiser keeps it.
type Invite struct {
	Name    string `json:"name"`
	Secret  []byte `json:"secret"` // join secret; empty in the invite of a public run
	Revoked bool   `json:"revoked,omitempty"`
}

// Invites are the invites that one coordinator of a run made, oldest first; the run's
// first is with each. Which of them hold is for the ledger to say. Public says that
// anybody may join.
type Invites struct {
	Public bool     `json:"public,omitempty"`
	List   []Invite `json:"list"`
}

// FirstInvite is the name of the invite that a run begins with.
const FirstInvite = "first"

// secretBytes is the length of a join secret.
const secretBytes = 16

// NewSecret draws a join secret.
func NewSecret() []byte {
	secret := make([]byte, secretBytes)
	rand.Read(secret)
	return secret
}

// Add makes an invite with a secret of its own; from then on the run is private.
func (v *Invites) Add(name string) error {
	switch {
	case name == "" || len(name) > 64:
		return fmt.Errorf("invite %q: a name has 1 to 64 bytes", name)
	case v.find(name) != nil:
		return fmt.Errorf("invite %q exists: choose another name", name)
	case len(v.secrets()) >= wire.MaxSecrets:
		return fmt.Errorf("%d invites hold, as many as a run may have: revoke some", wire.MaxSecrets)
	}
	v.Public = false
	v.List = append(v.List, Invite{Name: name, Secret: NewSecret()})
	return nil
}

// Revoke ends an invite: nobody new joins with it.
func (v *Invites) Revoke(name string) error {
	i := v.find(name)
	if i == nil || i.Revoked {
		return fmt.Errorf("no invite %q holds", name)
	}
	i.Revoked = true
	return nil
}

func (v *Invites) find(name string) *Invite {
	for i := range v.List {
		if v.List[i].Name == name {
			return &v.List[i]
		}
	}
	return nil
}

// secrets are those of the invites that hold.
func (v *Invites) secrets() (out [][]byte) {
	for _, i := range v.List {
		if !i.Revoked && len(i.Secret) > 0 {
			out = append(out, i.Secret)
		}
	}
	return out
}

// Newest returns the secret to hand out: that of the newest invite that admits, nil when none does.
func (v *Invites) Newest(admits func(secret []byte) bool) []byte {
	for _, i := range slices.Backward(v.List) {
		if len(i.Secret) > 0 && admits(i.Secret) {
			return i.Secret
		}
	}
	return nil
}

// Access is what the ledger must say: these invites, and those of the run's other coordinators that it admits now (in,
// nil where it never said so). When no invite holds, nobody new gets in.
func (v *Invites) Access(in *wire.Access) *wire.Access {
	a := &wire.Access{}
	if v.Public {
		return a
	}
	for _, s := range v.secrets() {
		a.Secrets = append(a.Secrets, wire.HashLeaf(s))
	}
	if in != nil {
		for _, h := range in.Secrets {
			if !slices.ContainsFunc(v.List, func(i Invite) bool { return wire.HashLeaf(i.Secret) == h }) {
				a.Secrets = append(a.Secrets, h)
			}
		}
	}
	if len(a.Secrets) == 0 {
		a.Secrets = append(a.Secrets, wire.HashLeaf(NewSecret())) // which nobody has
	}
	return a
}

// Clone returns a copy that shares nothing that changes.
func (v *Invites) Clone() Invites { return Invites{Public: v.Public, List: slices.Clone(v.List)} }

// Invites reads a run's invites; a run that never changed them has its first.
func (f Folder) Invites(run wire.Hash) (Invites, error) {
	b, err := os.ReadFile(f.invites(run))
	if errors.Is(err, fs.ErrNotExist) {
		secret, err := f.Secret(run)
		return Invites{Public: len(secret) == 0, List: []Invite{{Name: FirstInvite, Secret: secret}}}, err
	}
	if err != nil {
		return Invites{}, fmt.Errorf("read invites: %w", err)
	}
	var v Invites
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("read invites %s: %w: put back a backup of it, or delete it to begin with the first invite", f.invites(run), err)
	}
	return v, nil
}

// SaveInvites keeps a run's invites.
func (f Folder) SaveInvites(run wire.Hash, v Invites) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return store.WriteFile(f.invites(run), append(b, '\n'), 0o600)
}

func (f Folder) invites(run wire.Hash) string { return filepath.Join(f.Run(run), "invites.json") }
