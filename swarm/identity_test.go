package swarm

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	p2ppeer "github.com/libp2p/go-libp2p/core/peer"

	"dunlin/wire"
)

// wireIDOf reads the peer id at the end of an address.
func wireIDOf(addr string) (wire.PeerID, error) {
	info, err := p2ppeer.AddrInfoFromString(addr)
	if err != nil {
		return wire.PeerID{}, err
	}
	return wireID(info.ID)
}

func TestPeerIDsConvert(t *testing.T) {
	id := wire.PeerIDOf(testKey(1))
	back, err := wireID(p2pID(id))
	if err != nil || back != id {
		t.Errorf("%s became %s, %v", id, back, err)
	}
	key, err := p2pcrypto.UnmarshalEd25519PublicKey(id[:])
	if err != nil {
		t.Fatal(err)
	}
	if want, err := p2ppeer.IDFromPublicKey(key); err != nil || p2pID(id) != want {
		t.Errorf("%s is %s for libp2p, want %s, %v", id, p2pID(id), want, err)
	}
	rsa, err := p2ppeer.Decode("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wireID(rsa); err == nil {
		t.Error("an RSA identity was taken")
	}
}

func TestIdentityKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.key")
	key, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(path)
	if err != nil || !again.Equal(key) {
		t.Fatalf("the key changed or is gone: %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("files left behind: %v", entries)
	}
	if info, _ := os.Stat(path); runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	good, _ := os.ReadFile(path)

	for name, test := range map[string]struct {
		bytes string
		mode  os.FileMode
		want  string
	}{
		"open to all": {string(good), 0o644, "chmod 600"},
		"empty":       {"", 0o600, "PEM"},
		"cut":         {string(good[:len(good)/2]), 0o600, "PEM"},
		"damaged":     {strings.Replace(string(good), "MC4C", "MC4D", 1), 0o600, "damaged"},
		"other kind":  {"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\nOF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n-----END PRIVATE KEY-----\n", 0o600, "another kind"},
	} {
		if test.mode != 0o600 && runtime.GOOS == "windows" {
			continue
		}
		bad := filepath.Join(t.TempDir(), "identity.key")
		if err := os.WriteFile(bad, []byte(test.bytes), test.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKey(bad); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v, want %q and the path", name, err, test.want)
		}
		if left, _ := os.ReadFile(bad); string(left) != test.bytes {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	path := filepath.Join(f.TempDir(), "key")
	if _, err := LoadOrCreateKey(path); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := parseKey(b); err == nil && len(key) != ed25519.PrivateKeySize {
			t.Fatalf("a key of %d bytes", len(key))
		}
	})
}

func TestFolderLock(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "run")
	lock, err := LockFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if _, err := LockFolder(folder); !errors.As(err, &inUse) || inUse.Process != os.Getpid() {
		t.Errorf("second lock: %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	lock, err = LockFolder(folder)
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	lock.Unlock()
}
