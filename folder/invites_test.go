package folder

import (
	"os"
	"slices"
	"strings"
	"testing"

	"dunlin/wire"
)

func TestInvitesAreAddedAndRevoked(t *testing.T) {
	f, run := Folder{Dir: t.TempDir()}, wire.HashLeaf([]byte("run"))
	secret := []byte("the first secret")
	if err := f.Save(run, &wire.SignedSpec{Spec: []byte{}}, secret); err != nil {
		t.Fatal(err)
	}
	v, err := f.Invites(run)
	all := func([]byte) bool { return true }
	if err != nil || v.Public || !slices.Equal(v.Newest(all), secret) {
		t.Fatalf("%+v, %v", v, err)
	}
	if err := v.Add("club"); err != nil {
		t.Fatal(err)
	}
	if err := v.Add("club"); err == nil {
		t.Error("a name is taken twice")
	}
	other := wire.HashLeaf([]byte("another coordinator's"))
	in := &wire.Access{Secrets: []wire.Hash{other, wire.HashLeaf(secret)}}
	if a := v.Access(in); len(a.Secrets) != 3 || a.Secrets[0] != wire.HashLeaf(secret) || a.Secrets[2] != other {
		t.Errorf("access %v", a.Secrets)
	}
	if a := v.Access(nil); len(a.Secrets) != 2 {
		t.Errorf("access %v", a.Secrets)
	}
	if err := v.Revoke(FirstInvite); err != nil {
		t.Fatal(err)
	}
	if err := v.Revoke(FirstInvite); err == nil {
		t.Error("revoked twice")
	}
	if err := f.SaveInvites(run, v); err != nil {
		t.Fatal(err)
	}
	again, err := f.Invites(run)
	if a := again.Access(in); err != nil || len(a.Secrets) != 2 || slices.Contains(a.Secrets, wire.HashLeaf(secret)) || len(again.Newest(all)) != secretBytes {
		t.Errorf("%+v, %v", again, err)
	}
	if info, err := os.Stat(f.invites(run)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := again.Revoke("club"); err != nil {
		t.Fatal(err)
	}
	if a := again.Access(nil); len(a.Secrets) != 1 || slices.ContainsFunc(again.List, func(i Invite) bool { return wire.HashLeaf(i.Secret) == a.Secrets[0] }) {
		t.Errorf("no invite holds, but %v admit", a.Secrets)
	}
	if again.Newest(func([]byte) bool { return false }) != nil {
		t.Error("an invite that does not admit is handed out")
	}
	again.Public = true
	if a := again.Access(in); len(a.Secrets) != 0 {
		t.Errorf("a public run wants one of %v", a.Secrets)
	}
}

func TestInvitesAreBounded(t *testing.T) {
	var v Invites
	for i := range wire.MaxSecrets {
		if err := v.Add(strings.Repeat("x", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Add("more"); err == nil {
		t.Error("more invites than settings may name")
	}
	if err := (&Invites{}).Add(""); err == nil {
		t.Error("an invite without a name")
	}
}

func TestBrokenInvitesAreNamed(t *testing.T) {
	f, run := Folder{Dir: t.TempDir()}, wire.Hash{1}
	if err := os.MkdirAll(f.Run(run), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.invites(run), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Invites(run); err == nil || !strings.Contains(err.Error(), "put back a backup") {
		t.Error(err)
	}
}
