package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dunlin/store"
	"dunlin/wire"
)

// Folder is a peer's data folder: its identity and one folder for each run it
// knows. Deleting it loses only this peer's copy.
//
//	identity.key        this machine's key (0600)
//	organiser.key       the organiser's, on the machine that made the run (0600)
//	current             id of the run that was used last
//	page                address of the web page of the process that uses the folder
//	seats/<n>/          data folders of a run's other coordinators, to be moved to their machines
//	runs/<run id>/      spec, ledger.db, store/, checkpoint-<height>.head, secret, stage, moments, peers, thanks
type Folder struct{ Dir string }

// LedgerFile is the ledger's name in a run's folder.
const LedgerFile = "ledger.db"

// ErrNoRun says that a data folder holds no run yet.
var ErrNoRun = errors.New("no run in the data folder")

// Identity is the path of this machine's key.
func (f Folder) Identity() string { return filepath.Join(f.Dir, "identity.key") }

// Organiser is the path of the organiser's key.
func (f Folder) Organiser() string { return filepath.Join(f.Dir, "organiser.key") }

// Run is the folder of one run.
func (f Folder) Run(run wire.Hash) string { return filepath.Join(f.Dir, "runs", run.String()) }

// Moments is the file in which a worker of a run keeps its optimizer's moments.
func (f Folder) Moments(run wire.Hash) string {
	return filepath.Join(f.Run(run), "moments.safetensors")
}

// Seats are the data folders of the run's other coordinators that are still here.
func (f Folder) Seats() ([]Folder, error) {
	entries, err := os.ReadDir(filepath.Join(f.Dir, "seats"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for seats: %w", err)
	}
	var out []Folder
	for _, e := range entries {
		if seat := (Folder{filepath.Join(f.Dir, "seats", e.Name())}); seat.Exists() {
			out = append(out, seat)
		}
	}
	return out, nil
}

// Seat is the data folder of the run's coordinator number n, from 2 on, until it is moved.
func (f Folder) Seat(n int) Folder {
	return Folder{filepath.Join(f.Dir, "seats", fmt.Sprint(n))}
}

// Introduce tells the process that will use the folder where other peers of a run are.
func (f Folder) Introduce(run wire.Hash, known []wire.Known) error {
	return store.WriteFile(filepath.Join(f.Run(run), "peers"), wire.Encode(&wire.Peers{Known: known}), 0o600)
}

// Known returns where the peers of a run were last reached.
func (f Folder) Known(run wire.Hash) []wire.Known {
	return OpenBook(filepath.Join(f.Run(run), "peers")).List()
}

// Announce leaves the address of this process's web page for others on the machine; withdraw takes it back.
func (f Folder) Announce(url string) (withdraw func() error, err error) {
	path := filepath.Join(f.Dir, "page")
	if err := store.WriteFile(path, []byte(url+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("announce the web page: %w", err)
	}
	return func() error { return os.Remove(path) }, nil
}

// Page returns the address that the last process left; fs.ErrNotExist when none did, or it took it back. A process that
// was killed leaves an address at which nobody answers.
func (f Folder) Page() (string, error) {
	b, err := os.ReadFile(filepath.Join(f.Dir, "page"))
	return strings.TrimSpace(string(b)), err
}

// SavePort keeps the first of a coordinator's ports for its next process.
func (f Folder) SavePort(port int) error {
	return store.WriteFile(filepath.Join(f.Dir, "port"), []byte(strconv.Itoa(port)+"\n"), 0o600)
}

// Port returns what SavePort kept; 0 when there is nothing of use.
func (f Folder) Port() int {
	b, err := os.ReadFile(filepath.Join(f.Dir, "port"))
	if err != nil {
		return 0
	}
	port, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 16)
	if err != nil {
		return 0
	}
	return int(port)
}

// Exists reports whether this is the data folder of a peer that knows a run.
func (f Folder) Exists() bool {
	_, err := os.Stat(filepath.Join(f.Dir, "current"))
	return err == nil
}

// Current returns the run that was used last, or ErrNoRun.
func (f Folder) Current() (wire.Hash, error) {
	b, err := os.ReadFile(filepath.Join(f.Dir, "current"))
	if errors.Is(err, fs.ErrNotExist) {
		return wire.Hash{}, ErrNoRun
	}
	if err != nil {
		return wire.Hash{}, fmt.Errorf("read data folder: %w", err)
	}
	run, err := wire.ParseHash(strings.TrimSpace(string(b)))
	if err != nil {
		return wire.Hash{}, fmt.Errorf("data folder %s: file current: %w: delete it or choose another --data-dir", f.Dir, err)
	}
	return run, nil
}

// Load reads a run's spec and checks it; fs.ErrNotExist when it is not here.
func (f Folder) Load(run wire.Hash) (*wire.SignedSpec, *wire.RunSpec, error) {
	b, err := os.ReadFile(filepath.Join(f.Run(run), "spec"))
	if err != nil {
		return nil, nil, fmt.Errorf("read run %s: %w", run.Short(), err)
	}
	var signed wire.SignedSpec
	if err := wire.Decode(b, &signed); err != nil {
		return nil, nil, fmt.Errorf("read run %s: %s is damaged: %w; restore the folder from a backup, or let a worker begin with an empty one", run.Short(), filepath.Join(f.Run(run), "spec"), err)
	}
	spec, err := signed.Open(run)
	return &signed, spec, err
}

// Save keeps a run's spec, and the join secret of a private one, and makes it
// the current run.
func (f Folder) Save(run wire.Hash, signed *wire.SignedSpec, secret []byte) error {
	dir := f.Run(run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make run folder: %w", err)
	}
	if len(secret) > 0 {
		if err := store.WriteFile(filepath.Join(dir, "secret"), secret, 0o600); err != nil {
			return err
		}
	}
	if err := store.WriteFile(filepath.Join(dir, "spec"), wire.Encode(signed), 0o600); err != nil {
		return err
	}
	return store.WriteFile(filepath.Join(f.Dir, "current"), []byte(run.String()+"\n"), 0o600)
}

// Stage returns which stage of a run this machine served last, if it did.
func (f Folder) Stage(run wire.Hash) (stage int, known bool) {
	b, err := os.ReadFile(filepath.Join(f.Run(run), "stage"))
	if err != nil {
		return 0, false
	}
	stage, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return stage, err == nil && stage >= 0
}

// SaveStage keeps it.
func (f Folder) SaveStage(run wire.Hash, stage int) error {
	return store.WriteFile(filepath.Join(f.Run(run), "stage"), fmt.Appendf(nil, "%d\n", stage), 0o600)
}

// Secret returns the join secret of a private run, nil for a public one.
func (f Folder) Secret(run wire.Hash) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(f.Run(run), "secret"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// PutData stores a new run's token shards in its folder.
func (f Folder) PutData(run wire.Hash, pack func(put func([]byte) (store.Hash, error)) error) error {
	s, err := store.Open(filepath.Join(f.Run(run), "store"), 0)
	if err != nil {
		return err
	}
	if err := pack(s.Put); err != nil {
		return err
	}
	return s.Sync()
}
