package world

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dunlin/status"
)

// smallDisk returns a folder with a file system of its own, of so many bytes: a tmpfs in the mount namespace of a process
// that does nothing else, seen through /proc.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	holder := exec.Command("sh", "-c", `mount -t tmpfs -o mode=700,size="$1" tmpfs "$2" && echo mounted && exec cat`, "sh", strconv.Itoa(bytes), dir)
	holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Skipf("no disk of its own can be made here: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends
		_ = holder.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		t.Skipf("no disk of its own can be mounted here: %q, %v", line, err)
	}
	disk := filepath.Join("/proc", strconv.Itoa(holder.Process.Pid), "root", dir)
	if _, err := os.ReadDir(disk); err != nil {
		t.Skipf("a disk of another process cannot be seen here: %v", err)
	}
	return disk
}

// fill leaves no room on a small disk until the file that it returns is removed.
func fill(t *testing.T, disk string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(chunk) // what fits of it is written
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return ballast
}

// full checks that a process ends because its disk is full, and says so in one line.
func (p *process) full(t *testing.T, disk string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		for p.lines.Scan() { // Wait closes the pipe, so it is read first
		}
		_ = p.cmd.Wait() // its exit code tells
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a process goes on without a disk")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	saysFull(t, p.logs.String(), disk)
}

// saysFull looks for the one line.
func saysFull(t *testing.T, stderr, disk string) {
	t.Helper()
	_, last, told := strings.Cut("\n"+strings.TrimSuffix(stderr, "\n"), "\ndunlin: ")
	if !told {
		t.Fatalf("it says nothing of its end:\n%s", stderr)
	}
	says(t, last, "the disk is full: make room, then give the same command again: ", disk, "no space left on device")
}

// TestFullDisk: a worker and a coordinator whose disks fill up each end with one clear line, and with room again the same
// command goes on from where they were. A disk that is full from the beginning is told as well.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := binary(t, "")
	leadDisk, workDisk := smallDisk(t, 24<<20), smallDisk(t, 24<<20)
	leadFolder, workFolder := filepath.Join(leadDisk, "c"), filepath.Join(workDisk, "w")
	coordinator := []string{
		"--data-dir", leadFolder, "--preset", "pico", "--data", corpusFile(t), "--tokens", "1000000000", "--h", "10", "--held-out=false",
	}
	lead, invite, page := coordinate(t, path, coordinator...)
	join := func(dir string) []string {
		return []string{"join", invite, "--loopback", "--pause-on-battery=false", "--threads", "1", "--data-dir", dir}
	}

	room := fill(t, workDisk)
	o := command(t, patience, path, nil, join(workFolder)...)
	if o.code != 1 {
		t.Errorf("on a disk that was full before: exit code %d", o.code)
	}
	saysFull(t, o.stderr, workDisk)
	remove(t, room)

	worker := begin(t, path, join(workFolder)...)
	before := follow(t, page, func(s *status.Snapshot) bool { return s.Health.Commits >= 2 })
	room = fill(t, workDisk)
	worker.full(t, workDisk)
	remove(t, room)
	worker = begin(t, path, join(workFolder)...)
	before = follow(t, page, func(s *status.Snapshot) bool { return s.Health.Commits >= before.Health.Commits+2 })

	room = fill(t, leadDisk)
	lead.full(t, leadDisk)
	remove(t, room)
	lead, again, page := coordinate(t, path, coordinator...)
	if again != invite {
		t.Error("the coordinator came back with another invite")
	}
	after := follow(t, page, func(s *status.Snapshot) bool { return s.Health.Commits >= before.Health.Commits+2 })
	if after.Run.ID != before.Run.ID || after.Run.Height <= before.Run.Height || after.Run.Tokens <= before.Run.Tokens {
		t.Errorf("before its disk was full %+v, after it %+v", before.Run, after.Run)
	}
	for _, p := range []*process{worker, lead} {
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		p.ends(t, p.cmd.Args[1])
	}
	for _, dir := range []string{leadFolder, workFolder} {
		if o := command(t, patience, path, nil, "ledger", "verify", dir); o.code != 0 {
			t.Errorf("%s: %s", dir, o.stderr)
		}
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}
