package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dunlin/wire"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("LEDGER_TEST_PROPOSE"); path != "" {
		proposeForEver(path)
	}
	goleak.VerifyTestMain(m)
}

func openLog(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path, testRules(1), testKey(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustClose(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustPropose(t *testing.T, l *Log, body wire.Body) *wire.Certified {
	t.Helper()
	e, err := l.Propose(body)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// written fills a ledger file with some of everything and returns its entries.
func written(t *testing.T, path string) []wire.Certified {
	t.Helper()
	w := newWorld(t, 1)
	w.story(5)
	l := openLog(t, path)
	if n, err := l.Append(w.all...); err != nil || n != len(w.all) {
		t.Fatalf("%d appended, %v", n, err)
	}
	mustClose(t, l)
	return w.all
}

func same(a, b []wire.Certified) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if string(wire.Encode(&a[i])) != string(wire.Encode(&b[i])) {
			return false
		}
	}
	return true
}

func TestProposeStoresAndReopens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openLog(t, path)
	if _, err := l.Propose(admit(1, 1)); !errors.Is(err, ErrNoTerm) {
		t.Fatalf("an entry before any term: %v", err)
	}
	if term, err := l.RaiseTerm(0); err != nil || term != 1 {
		t.Fatalf("term %d, %v", term, err)
	}
	e := mustPropose(t, l, admit(1, 1))
	if e.Entry.Height != 1 || e.Entry.Term != 1 || e.Check(testRules(1).Keys) != nil {
		t.Fatalf("entry %+v", e)
	}
	mustPropose(t, l, attempt(0, 0, 1, 1))
	if _, err := l.Propose(attempt(0, 0, 1, 1)); !errors.Is(err, ErrDropped) {
		t.Fatalf("an attempt id used twice: %v", err)
	}
	_, head := l.Head()
	mustClose(t, l)

	l = openLog(t, path)
	if h, again := l.Head(); h != 2 || again != head {
		t.Fatalf("reopened at height %d", h)
	}
	var id wire.AttemptID
	l.View(func(c *Chain) { id, _ = c.Attempt(0) })
	if id.Counter != 1 {
		t.Fatalf("open attempt %s", id)
	}
	if _, err := l.Propose(admit(2, 2)); !errors.Is(err, ErrNoTerm) {
		t.Fatalf("the old reign went on after a restart: %v", err)
	}
	if term, err := l.RaiseTerm(0); err != nil || term != 2 {
		t.Fatalf("term %d, %v", term, err)
	}
	r, err := l.Verify()
	if err != nil || r.Height != 2 || r.Head != head || r.Entries[wire.KindMember] != 1 || r.Entries[wire.KindAttempt] != 1 {
		t.Fatalf("report %+v, %v", r, err)
	}
}

// A term counts as used from the moment it is raised, entries or not.
func TestTermIsDurableBeforeUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	for want := uint64(1); want <= 3; want++ {
		l := openLog(t, path)
		if term, err := l.RaiseTerm(0); err != nil || term != want {
			t.Fatalf("term %d, %v, want %d", term, err, want)
		}
		mustClose(t, l)
	}
	l := openLog(t, path)
	if term, err := l.RaiseTerm(40); err != nil || term != 41 {
		t.Fatalf("term %d above 40, %v", term, err)
	}
	if _, err := l.RaiseTerm(1<<64 - 1); err == nil {
		t.Fatal("a term above the highest number")
	}
}

func TestFollowerAppendsButDoesNotPropose(t *testing.T) {
	w := newWorld(t, 1)
	w.story(2)
	l, err := Open(filepath.Join(t.TempDir(), "ledger.db"), testRules(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n, err := l.Append(w.all...); err != nil || n != len(w.all) {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := l.Propose(admit(9, 9)); !errors.Is(err, ErrNotCoordinator) {
		t.Fatal(err)
	}
	if _, err := l.RaiseTerm(0); !errors.Is(err, ErrNotCoordinator) {
		t.Fatal(err)
	}
}

func TestProposeNeedsToBeTheOnlyCoordinator(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "ledger.db"), testRules(3), testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Propose(admit(1, 1)); err == nil || !strings.Contains(err.Error(), "3 coordinators") {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "ledger.db"), testRules(3), testKey(7)); !errors.Is(err, ErrNotCoordinator) {
		t.Fatal(err)
	}
}

// Chunking must not matter: one at a time, all at once, in overlapping pieces.
func TestAppendInAnyChunks(t *testing.T) {
	const seed = 3
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, 1)
	w.story(8)
	for range 4 {
		l := openLog(t, filepath.Join(t.TempDir(), "ledger.db"))
		for at := 0; at < len(w.all); {
			from := max(0, at-rng.IntN(4))
			to := min(len(w.all), at+rng.IntN(5))
			n, err := l.Append(w.all[from:to]...)
			if err != nil || n != max(0, to-at) {
				t.Fatalf("entries %d to %d at height %d: %d, %v", from, to, at, n, err)
			}
			at = max(at, to)
		}
		got, err := l.Range(1, 1000)
		if err != nil || !same(got, w.all) {
			t.Fatalf("%d entries, %v", len(got), err)
		}
	}
}

func TestAppendKeepsWhatCameBeforeARefusal(t *testing.T) {
	w := newWorld(t, 1)
	w.story(2)
	l := openLog(t, filepath.Join(t.TempDir(), "ledger.db"))
	if n, err := l.Append(w.all[0], w.all[1], w.all[3]); n != 2 || !errors.Is(err, ErrGap) {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := l.Append(w.all...); n != len(w.all)-2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
}

func TestRangeIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	all := written(t, path)
	l := openLog(t, path)
	for _, c := range []struct {
		from        uint64
		count, want int
	}{{0, 3, 3}, {1, 3, 3}, {uint64(len(all)), 5, 1}, {uint64(len(all)) + 1, 5, 0}, {1, 0, 0}, {1, 1000, len(all)}} {
		got, err := l.Range(c.from, c.count)
		if err != nil || len(got) != c.want {
			t.Errorf("from %d, %d: %d entries, %v", c.from, c.count, len(got), err)
		}
	}
	mustClose(t, l)
	if _, err := l.Range(1, 1); err == nil {
		t.Error("a closed log was read")
	}
	if _, err := l.Append(all...); err == nil {
		t.Error("a closed log was written")
	}

	// Entries at their largest still fit a message.
	long := &wire.Member{Op: wire.MemberAdmit, Reason: strings.Repeat("r", wire.MaxReason)}
	for range wire.MaxAddrs {
		long.Addrs = append(long.Addrs, strings.Repeat("a", wire.MaxAddr))
	}
	w := newWorld(t, 1)
	for slot := range wire.Slot(300) {
		m := *long
		m.Slot = slot + 1
		w.must(&m)
	}
	l = openLog(t, filepath.Join(t.TempDir(), "long.db"))
	if _, err := l.Append(w.all...); err != nil {
		t.Fatal(err)
	}
	got, err := l.Range(1, 1000)
	if err != nil || len(got) < 100 || len(got) == 300 {
		t.Fatalf("%d entries in one answer, %v", len(got), err)
	}
}

func TestWrongRunAndBusyFileAreNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	written(t, path)
	other := testRules(1)
	other.Run = state("another run")
	if _, err := Open(path, other, nil); err == nil || !strings.Contains(err.Error(), "belongs to run") {
		t.Fatalf("another run's file: %v", err)
	}
	l := openLog(t, path)
	defer l.Close()
	if _, err := Open(path, testRules(1), nil); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a file in use: %v", err)
	}
}

// Named interleaving: a restored backup. The coordinator goes on from an old
// copy; whoever holds the true entries sees the fork, and still after a restart.
func TestRestoredBackupIsSeenAsFork(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "ledger.db"), filepath.Join(dir, "backup.db")
	l := openLog(t, path)
	if _, err := l.RaiseTerm(0); err != nil {
		t.Fatal(err)
	}
	mustPropose(t, l, admit(1, 1))
	mustClose(t, l)
	copyFile(t, path, backup)

	l = openLog(t, path)
	if _, err := l.RaiseTerm(0); err != nil {
		t.Fatal(err)
	}
	for slot := wire.Slot(2); slot < recentHashes+20; slot++ { // far beyond what a Chain remembers
		mustProposeFast(t, l, admit(slot, 2))
	}
	restored := openLog(t, backup)
	if _, err := restored.RaiseTerm(9); err != nil {
		t.Fatal(err)
	}
	rival := mustPropose(t, restored, admit(7, 7))
	_, err := l.Append(*rival)
	var fork *ForkError
	if !errors.As(err, &fork) || fork.Height != 2 || fork.Theirs != rival.Entry.Hash() {
		t.Fatalf("the rival entry: %v", err)
	}
	mustClose(t, l)
	l = openLog(t, path)
	if _, err := l.RaiseTerm(0); !errors.Is(err, ErrFork) {
		t.Fatalf("the fork was forgotten: %v", err)
	}
	if _, err := l.Verify(); !errors.Is(err, ErrFork) {
		t.Fatalf("verify of a forked log: %v", err)
	}
	if got, err := l.Range(1, 1); err != nil || len(got) != 1 {
		t.Fatalf("a forked log can still be read: %v", err)
	}
}

// mustProposeFast skips the flush, which a test of many entries cannot wait for.
func mustProposeFast(t *testing.T, l *Log, body wire.Body) {
	t.Helper()
	l.file.db.NoSync = true
	mustPropose(t, l, body)
	l.file.db.NoSync = false
}

func TestRestoredBackupAdoptsTheTrueHead(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "ledger.db"), filepath.Join(dir, "backup.db")
	all := written(t, path)
	l := openLog(t, backup)
	if _, err := l.Append(all[:4]...); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(all...); err != nil {
		t.Fatal(err)
	}
	if term, err := l.RaiseTerm(0); err != nil || term != 2 {
		t.Fatalf("term %d, %v", term, err)
	}
	if e := mustPropose(t, l, admit(3, 3)); e.Entry.Height != uint64(len(all))+1 || e.Entry.Term != 2 {
		t.Fatalf("entry %d of term %d", e.Entry.Height, e.Entry.Term)
	}
}

// A failed write leaves it open what is on disk; the log must say so and stop.
func TestFailedWriteStopsTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openLog(t, path)
	if _, err := l.RaiseTerm(0); err != nil {
		t.Fatal(err)
	}
	mustPropose(t, l, admit(1, 1))
	if err := l.file.db.Close(); err != nil { // the disk goes away
		t.Fatal(err)
	}
	if _, err := l.Propose(admit(2, 2)); err == nil || !strings.Contains(err.Error(), "opened again") {
		t.Fatal(err)
	}
	if _, err := l.Append(); err == nil {
		t.Fatal("the log went on after a failed write")
	}
	l = openLog(t, path)
	if h := l.Height(); h != 1 {
		t.Fatalf("height %d after the failure", h)
	}
}

// proposeForEver is the child of the test below: it says a height only after
// Propose has returned.
func proposeForEver(path string) {
	l, err := Open(path, testRules(1), testKey(0))
	if err == nil {
		_, err = l.RaiseTerm(0)
	}
	for slot := l.chain.LastSlot() + 1; err == nil; slot++ {
		var e *wire.Certified
		if e, err = l.Propose(admit(slot, 1)); err == nil {
			fmt.Println(e.Entry.Height, e.Entry.Hash())
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// kill -9 at any moment: every entry that anyone heard of is there, the log
// opens, and the next reign has a higher term.
func TestKilledProcessLosesNothingItSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	said := map[uint64]string{}
	for kill := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "LEDGER_TEST_PROPOSE="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			text, hash, _ := strings.Cut(lines.Text(), " ")
			height, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			said[height] = hash
			if n == 3+5*kill {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		l := openLog(t, path)
		for height, hash := range said {
			var got wire.Hash
			l.View(func(c *Chain) { got, _ = c.HashAt(height) })
			if got.String() != hash {
				t.Fatalf("entry %d was said and is lost", height)
			}
		}
		if term, err := l.RaiseTerm(0); err != nil || term != uint64(2*kill+2) {
			t.Fatalf("term %d after kill %d, %v", term, kill, err)
		}
		mustClose(t, l)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkPropose(b *testing.B) {
	l, err := Open(filepath.Join(b.TempDir(), "ledger.db"), testRules(1), testKey(0))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if _, err := l.RaiseTerm(0); err != nil {
		b.Fatal(err)
	}
	for slot := wire.Slot(1); b.Loop(); slot++ {
		if _, err := l.Propose(admit(slot, 1)); err != nil {
			b.Fatal(err)
		}
	}
}
