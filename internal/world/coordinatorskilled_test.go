package world

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"dunlin/status"
)

// TestLeaderOfThreeProcessesIsKilled kills, by SIGKILL, the coordinator that
// leads of three while two workers train; the run goes on without a new command.
// Its ledger has signatures of majorities throughout.
func TestLeaderOfThreeProcessesIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("processes of Windows take no interrupt from their parent")
	}
	path, dir := binary(t, ""), filepath.Join(t.TempDir(), "lead")
	folders := []string{dir, filepath.Join(dir, "seats", "2"), filepath.Join(dir, "seats", "3")}
	var coordinators []*process
	var pages []string
	invite := ""
	for i, folder := range folders {
		args := append([]string{"--data-dir", folder}, ports(t)...)
		if i == 0 {
			args = append(args, "--coordinators", "3", "--preset", "pico", "--data", corpusFile(t), "--tokens", "1000000000", "--eval-windows", "8")
		}
		p, token, page := coordinate(t, path, args...)
		coordinators, pages = append(coordinators, p), append(pages, page)
		if i == 0 {
			invite = token
		}
	}
	leads := func(id string) func(*status.Snapshot) bool {
		return func(s *status.Snapshot) bool {
			for _, c := range s.Run.Coordinators {
				if c.Leads && c.ID != id {
					return true
				}
			}
			return false
		}
	}
	leader := func(s *status.Snapshot) (index int, id string) {
		for i, c := range s.Run.Coordinators {
			if c.Leads {
				return i, c.ID
			}
		}
		return -1, ""
	}
	first, _ := leader(follow(t, pages[0], leads("")))
	for _, page := range pages { // two that have never met could not go on without the third
		follow(t, page, func(s *status.Snapshot) bool {
			return !slices.ContainsFunc(s.Run.Coordinators, func(c status.Coordinator) bool { return !c.You && !c.Connected })
		})
	}
	var workers []*process
	for i := range 2 {
		workers = append(workers, begin(t, path, "join", invite, "--loopback", "--pause-on-battery=false", "--threads", "1", "--duty", "0.2", "--data-dir", filepath.Join(t.TempDir(), fmt.Sprint("w", i))))
	}
	before := follow(t, pages[first], func(s *status.Snapshot) bool { return s.Health.Commits >= 2 && s.Health.Training == 2 && leads("")(s) })
	first, id := leader(before) // a slow machine may have had another election
	if err := coordinators[first].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = coordinators[first].cmd.Wait()
	other := (first + 1) % 3
	next := follow(t, pages[other], leads(id))
	second, _ := leader(next)
	after := follow(t, pages[second], func(s *status.Snapshot) bool {
		return s.Health.Commits >= next.Health.Commits+2 && s.Health.Training == 2
	})
	follower := 3 - first - second
	if o := command(t, patience, path, nil, "coordinator", "set", "outer-lr=0.5", "--data-dir", folders[follower]); o.code != 0 || !strings.HasPrefix(o.stdout, "set;") {
		t.Errorf("an order to a follower: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if after.Run.ID != before.Run.ID || after.Run.Term <= before.Run.Term || after.Run.Height <= before.Run.Height {
		t.Errorf("before the kill %+v, after it %+v", before.Run, after.Run)
	}
	for i, w := range workers {
		interrupt(t, w)
		w.ends(t, fmt.Sprint("worker ", i))
	}
	for i, c := range coordinators {
		if i != first {
			interrupt(t, c)
			c.ends(t, fmt.Sprint("coordinator ", i))
		}
	}
	for _, folder := range folders {
		if o := command(t, patience, path, nil, "ledger", "verify", folder); o.code != 0 || !strings.Contains(o.stdout, "every byte, link, rule and signature holds") {
			t.Errorf("%s: exit code %d, %s%s", folder, o.code, o.stdout, o.stderr)
		}
	}
}

func interrupt(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
}
