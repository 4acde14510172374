package swarm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dunlin/wire"
)

// childEnv makes the test binary a peer process of its own: the value is a
// folder to lock; it prints its address and lives until it is killed.
// childListen is where it listens.
const (
	childEnv    = "DUNLIN_SWARM_CHILD"
	childListen = "DUNLIN_SWARM_LISTEN"
)

func runChild() {
	lock, err := LockFolder(os.Getenv(childEnv))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer lock.Unlock()
	h, err := New(context.Background(), Config{
		Key: testKey(7), Protocol: testProtocol, Handler: newRecorder(),
		Listen: []string{os.Getenv(childListen)},
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(h.Addrs()[0])
	bufio.NewReader(os.Stdin).ReadByte() // ends with the test
}

func startChild(t *testing.T, folder, listen string) (child *exec.Cmd, line string) {
	t.Helper()
	child = exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+folder, childListen+"="+listen)
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		child.Process.Kill()
		child.Wait()
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return child, strings.TrimSpace(line)
}

// meetChild starts a child and a host of this process, and has a session between them begin.
func meetChild(t *testing.T, folder, listen string, change func(*Config)) (child *exec.Cmd, h *Host, heard *recorder, id wire.PeerID) {
	t.Helper()
	child, addr := startChild(t, folder, listen)
	h, heard = startHost(t, 1, change)
	id, err := wireIDOf(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), id, []string{addr}); err != nil {
		t.Fatal(err)
	}
	heard.expect(t, "up", id, "")
	return child, h, heard, id
}

func TestKilledProcessIsNoticedAtOnce(t *testing.T) {
	folder := t.TempDir()
	child, _, heard, id := meetChild(t, folder, "/ip4/127.0.0.1/tcp/0", nil)

	// While the process lives, its data folder is taken.
	var inUse *InUseError
	if _, err := LockFolder(folder); !errors.As(err, &inUse) || inUse.Process != child.Process.Pid {
		t.Errorf("folder of a living process: %v, want process %d", err, child.Process.Pid)
	}
	killed := time.Now()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	heard.expect(t, "down", id, "")
	if took := time.Since(killed); took > 2*time.Second {
		t.Errorf("a killed process was noticed after %s", took)
	} else {
		t.Logf("noticed after %s", took)
	}
	child.Wait()
	lock, err := LockFolder(folder)
	if err != nil {
		t.Fatalf("folder of a killed process: %v", err)
	}
	lock.Unlock()
}

// Over QUIC only the kernel of a killed process's machine tells of its end, and it is asked when something is awaited: at
// whatever moment between two signs of life, or while one is on its way, the process ends.
func TestKilledProcessIsNoticedOverQUIC(t *testing.T) {
	const silence, moments = 3200 * time.Millisecond, 4 // half of it is left to a machine that does other things
	for i := range moments {
		t.Run(fmt.Sprintf("%d of %d", i, moments), func(t *testing.T) {
			t.Parallel()
			child, h, heard, id := meetChild(t, t.TempDir(), "/ip4/127.0.0.1/udp/0/quic-v1", func(c *Config) { c.Listen, c.Limits.Silence = Loopback(), silence })
			h.Await([]wire.PeerID{id})
			r, s, err := h.sessionWith(id)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "it was knocked at", func() bool {
				open := false
				s.open.Range(func(any, any) bool { open = true; return false })
				return open
			})
			h.release(r)
			time.Sleep(time.Duration(i) * silence / 2 / moments)
			killed := time.Now()
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			heard.expect(t, "down", id, "")
			if took := time.Since(killed); took > silence {
				t.Errorf("a killed process was noticed after %s", took)
			}
		})
	}
}
