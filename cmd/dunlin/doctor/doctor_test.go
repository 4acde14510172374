package doctor

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"dunlin/status"
	"dunlin/swarm"
)

// TestDoctorJudges gives each judge what a machine may show.
func TestDoctorJudges(t *testing.T) {
	home, outside, carrier := netip.MustParseAddr("192.168.1.7"), netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("100.64.3.2")
	untold := errors.New("this system does not tell")
	for _, c := range []struct {
		name         string
		got          status.Finding
		state        status.Verdict
		detail, mend string
	}{
		{"memory", judgeMemory(16e9, 8e9, nil), status.OK, "8.00 GB free of 16.0 GB", ""},
		{"little memory", judgeMemory(2e9, 500<<20, nil), status.Warn, "524 MB free", "--memory 400MiB"},
		{"no memory", judgeMemory(1e9, 50e6, nil), status.Fail, "50.0 MB free", "close other programs"},
		{"untold memory", judgeMemory(0, 0, untold), status.Warn, "does not tell", "look yourself"},
		{"disk", judgeDisk("/d", 50e9, 20e9, nil), status.OK, "50.0 GB free for /d", ""},
		{"little disk", judgeDisk("/d", 10e9, 20e9, nil), status.Warn, "10.0 GB free", "join with --disk 8.0"},
		{"full disk", judgeDisk("/d", 1e6, 20e9, nil), status.Fail, "1.00 MB free", "--data-dir"},
		{"untold disk", judgeDisk("/d", 0, 20e9, untold), status.Warn, "does not tell", "look yourself"},
		{"clock", JudgeClock(500*time.Millisecond, "ntp.example", nil), status.OK, "by ntp.example", ""},
		{"fast clock", JudgeClock(3*time.Minute, "ntp.example", nil), status.Warn, "3 m 0 s ahead by ntp.example", map[string]string{"linux": "sudo timedatectl set-ntp true"}[runtime.GOOS]},
		{"slow clock", JudgeClock(-time.Hour, "ntp.example", nil), status.Warn, "1 h 0 m behind", ""},
		{"no time server", JudgeClock(0, "", untold), status.Warn, "no time server answers", "date -u"},
		{"no router", judgeRouter(outside, swarm.Router{}, true, 0), status.OK, "203.0.113.7 can be reached from everywhere", ""},
		{"good router", judgeRouter(home, swarm.Router{Mapped: true, Outside: outside}, true, 0), status.OK, "opens ports on request; outside it is 203.0.113.7", ""},
		{"two routers", judgeRouter(home, swarm.Router{Mapped: true, Outside: carrier}, true, 0), status.Warn, "behind another one (100.64.3.2", "holes are punched"},
		{"silent router", judgeRouter(home, swarm.Router{}, true, 5000), status.Warn, "neither UPnP nor NAT-PMP", "forward TCP and UDP 5000 and 5001 to 192.168.1.7 there and join with --port 5000"},
		{"no way out", judgeOffline(untold, false), status.Fail, "does not tell", "connect this machine"},
		{"no way out of the run's network", judgeOffline(untold, true), status.Warn, "does not tell", "needs none"},
		{"router not asked", judgeRouter(home, swarm.Router{}, false, 0), status.Warn, "not asked", "4001 and 4002"},
	} {
		if c.got.State != c.state || !strings.Contains(c.got.Detail, c.detail) || !strings.Contains(c.got.Mend, c.mend) || (c.state == status.OK) != (c.got.Mend == "") {
			t.Errorf("%s: %+v, want %s with %q and %q", c.name, c.got, c.state, c.detail, c.mend)
		}
	}
}

func TestDoctorLooksIntoFolders(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func(name, dir string, state status.Verdict, detail, mend string) {
		t.Helper()
		got := Folder(dir, func(string) error { return nil })
		if len(got) != 1 || got[0].State != state || !strings.Contains(got[0].Detail, detail) || !strings.Contains(got[0].Mend, mend) {
			t.Errorf("%s: %+v, want %s with %q and %q", name, got, state, detail, mend)
		}
	}
	look("none", filepath.Join(dir, "none"), status.OK, "not there yet", "")
	look("empty", dir, status.OK, "no run yet", "")
	write("file", "")
	look("a file", filepath.Join(dir, "file"), status.Fail, "is a file", "--data-dir")
	write("identity.key", "rubbish")
	look("a damaged key", dir, status.Fail, "identity.key", "delete it")
	if err := os.Remove(filepath.Join(dir, "identity.key")); err != nil {
		t.Fatal(err)
	}
	write("current", "rubbish")
	look("a damaged pointer", dir, status.Fail, "current", "join again")
	if os.Geteuid() != 0 && runtime.GOOS != "windows" {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		look("a folder of another's", dir, status.Fail, "permission", "chown")
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDoctorAsksTimeServersInVain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f := Clock(ctx, []string{"127.0.0.1:1"}); f.State != status.Warn {
		t.Errorf("%+v", f)
	}
}
