package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"dunlin/store"
)

// PrepareConfig says how text becomes a prepared folder.
type PrepareConfig struct {
	Inputs    []string // files, folders or globs; read in this order
	Out       string   // the folder
	Tokenizer Tokenizer
	Format    string  // one of Formats
	Field     string  // of JSON lines, or the column of Parquet
	Dtype     string  // one of Dtypes
	HeldOut   float64 // share of documents that are held out, 0 to 0.5
	FileSize  int64   // tokens in a file at most
	Threads   int     // that encode; 0 is all. The bytes do not depend on it

	// Parquet opens Parquet files; see package data/parquet.
	Parquet OpenDocuments
	// Report hears how it goes on, every few hundred kilobytes.
	Report func(PrepareReport)

	saveEvery int64                     // bytes of text between two points to go on from; 0 is the usual
	before    func(change string) error // each change on disk; tests crash there
}

// DefaultFileSize is the usual number of tokens in a file.
const DefaultFileSize = 100_000_000

// lockName is the file by which the caller keeps other processes away from a folder.
const lockName = "lock"

// usualSaveEvery is a few seconds of work.
const usualSaveEvery = 16 << 20

// Validate lists every fault.
func (c PrepareConfig) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Inputs) == 0 {
		fault("no input: name files, folders or quoted globs")
	}
	if c.Out == "" {
		fault("no folder to write to")
	}
	if c.Tokenizer == nil {
		fault("no tokenizer")
	}
	if !slices.Contains(Formats(), c.Format) {
		fault("format %q: allowed are %v", c.Format, Formats())
	}
	if c.Field == "" {
		fault("no field")
	}
	if !slices.Contains(Dtypes(), c.Dtype) {
		fault("dtype %q: allowed are %v", c.Dtype, Dtypes())
	}
	if c.Dtype == Uint16 && c.Tokenizer != nil && c.Tokenizer.Vocab() > 1<<16 {
		fault("dtype %s holds %d tokens, the vocabulary has %d: take %s", c.Dtype, 1<<16, c.Tokenizer.Vocab(), Uint32)
	}
	if !(c.HeldOut >= 0 && c.HeldOut <= 0.5) {
		fault("held-out share %v: allowed are 0 to 0.5", c.HeldOut)
	}
	if c.FileSize < 1 || c.FileSize > maxTokens {
		fault("files of %d tokens: allowed are 1 to %d", c.FileSize, int64(maxTokens))
	}
	if c.Threads < 0 {
		fault("%d threads", c.Threads)
	}
	return errors.Join(faults...)
}

// PrepareReport tells how a preparation goes on.
type PrepareReport struct {
	Input         string // at work
	Read, Size    int64  // bytes on disk, of all inputs
	Bytes         int64  // of text
	Tokens        int64
	Documents     int64
	ResumedTokens int64 // of Tokens, those of an earlier process
}

// Unfinished says that a preparation ended early, in order, and can go on.
type Unfinished struct{ Out string }

func (u *Unfinished) Error() string {
	return fmt.Sprintf("stopped, what is done is kept in %s: the same command goes on from there", u.Out)
}

// Prepare turns text into a folder of token files with a manifest. It gives the
// same bytes for the same inputs and settings, whatever the number of threads and
// however often it was killed: the same call goes on from the last point that is
// safe on disk. Memory is bounded by MaxDocument, not by the input. When ctx ends
// it keeps what is done and returns *Unfinished. A folder that is whole already is
// left alone.
func Prepare(ctx context.Context, cfg PrepareConfig) (*Manifest, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	inputs, err := listInputs(cfg.Inputs, cfg.Format, cfg.Out)
	if err != nil {
		return nil, err
	}
	p := newPreparation(cfg, inputs)
	if m, err := p.begin(); err != nil || m != nil {
		return m, err
	}
	err = p.run(ctx)
	if stopped := ctx.Err(); stopped != nil && errors.Is(err, stopped) {
		if err = p.save(); err == nil {
			err = &Unfinished{Out: cfg.Out}
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.train.close(), p.heldOut.close())
	}
	return p.end()
}

// preparation is one Prepare at work, and the single writer of its folder.
type preparation struct {
	cfg     PrepareConfig
	inputs  []input
	size    int64 // of all inputs, on disk
	dtype   string
	group   int64 // one unit of so many is held out; 0 holds out none
	train   splitWriter
	heldOut splitWriter
	state   prepareState
	resumed int64 // tokens of an earlier process
	unsaved int64 // bytes of text since the last save
}

// prepareState is unfinished.json: where to go on.
type prepareState struct {
	Format   int               `json:"format"`
	Settings map[string]string `json:"settings"`
	Position position          `json:"position"`
	Units    int64             `json:"units"` // read so far
	Open     side              `json:"open"`  // which split the document at work was written to last
	Train    splitState        `json:"train"`
	HeldOut  splitState        `json:"held_out"`
}

// side is a split, or none.
type side int

const (
	sideNone side = iota
	sideTrain
	sideHeldOut
)

func newPreparation(cfg PrepareConfig, inputs []input) *preparation {
	if cfg.saveEvery == 0 {
		cfg.saveEvery = usualSaveEvery
	}
	if cfg.before == nil {
		cfg.before = func(string) error { return nil }
	}
	if cfg.Threads == 0 {
		cfg.Threads = runtime.GOMAXPROCS(0)
	}
	p := &preparation{cfg: cfg, inputs: inputs, dtype: cfg.Dtype}
	if p.dtype == "auto" {
		p.dtype = Uint16
		if cfg.Tokenizer.Vocab() > 1<<16 {
			p.dtype = Uint32
		}
	}
	if cfg.HeldOut > 0 {
		p.group = int64(math.Round(min(1/cfg.HeldOut, maxTokens))) // a smaller share is nothing, which end says
	}
	for _, in := range inputs {
		p.size += in.size
	}
	writer := func(name string) splitWriter {
		return splitWriter{dir: cfg.Out, name: name, width: widthOf(p.dtype), most: cfg.FileSize, before: cfg.before}
	}
	p.train, p.heldOut = writer("train"), writer("held-out")
	p.state = prepareState{Format: manifestFormat, Settings: p.settings()}
	return p
}

// settings names all that the bytes depend on.
func (p *preparation) settings() map[string]string {
	t := p.cfg.Tokenizer
	list := ""
	for _, in := range p.inputs {
		list += fmt.Sprintln(in.path, in.format, in.size, in.modified.UnixNano())
	}
	return map[string]string{
		"tokenizer": fmt.Sprintf("%d tokens, ends with %d, %.12s", t.Vocab(), t.EndOfText(), hexHash(t.File())),
		"inputs":    fmt.Sprintf("%d files, %d bytes, %.12s", len(p.inputs), p.size, hexHash([]byte(list))),
		"field":     p.cfg.Field,
		"dtype":     p.dtype,
		"held-out":  "1 of " + strconv.FormatInt(p.group, 10),
		"file size": strconv.FormatInt(p.cfg.FileSize, 10),
	}
}

// begin makes the folder or goes on from what it holds. It returns the manifest
// when the folder is whole.
func (p *preparation) begin() (*Manifest, error) {
	dir := p.cfg.Out
	if exists(filepath.Join(dir, manifestName)) {
		m, err := ReadManifest(dir)
		if err != nil {
			return nil, err
		}
		if err := p.same(m.Settings); err != nil {
			return nil, err
		}
		// A crash may have left the state behind.
		if err := os.Remove(filepath.Join(dir, unfinishedName)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("prepare %s: %w", dir, err)
		}
		return m, nil
	}
	b, err := readBounded(filepath.Join(dir, unfinishedName), maxManifest)
	switch {
	case err == nil:
		return nil, p.resume(b)
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("prepare %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockName {
			return nil, fmt.Errorf("prepare %s: the folder holds something else (%s): name a new one", dir, e.Name())
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	return nil, p.save()
}

// same checks that an earlier call had the same settings.
func (p *preparation) same(was map[string]string) error {
	for _, key := range []string{"tokenizer", "inputs", "field", "dtype", "held-out", "file size"} {
		if was[key] != p.state.Settings[key] {
			return fmt.Errorf("prepare %s: it was made with another %s (%s, now %s): give the same inputs and settings, or name a new folder",
				p.cfg.Out, key, was[key], p.state.Settings[key])
		}
	}
	return nil
}

func (p *preparation) resume(b []byte) error {
	var was prepareState
	if err := json.Unmarshal(b, &was); err != nil {
		return fmt.Errorf("prepare %s: %s: %w: remove the folder and begin anew", p.cfg.Out, unfinishedName, err)
	}
	if err := p.same(was.Settings); err != nil {
		return err
	}
	p.state = was
	if err := errors.Join(p.train.resume(was.Train), p.heldOut.resume(was.HeldOut)); err != nil {
		return fmt.Errorf("prepare %s: go on: %w: remove the folder and begin anew", p.cfg.Out, err)
	}
	p.resumed = was.Train.Split.Tokens + was.HeldOut.Split.Tokens
	return nil
}

// save makes all that is written a point to go on from.
func (p *preparation) save() error {
	if err := errors.Join(p.train.sync(), p.heldOut.sync()); err != nil {
		return fmt.Errorf("prepare %s: %w", p.cfg.Out, err)
	}
	p.state.Train, p.state.HeldOut = p.train.state, p.heldOut.state
	b, err := json.MarshalIndent(p.state, "", "  ")
	if err != nil {
		return fmt.Errorf("prepare %s: %w", p.cfg.Out, err)
	}
	if err := p.cfg.before("save"); err != nil {
		return err
	}
	p.unsaved = 0
	return store.WriteFile(filepath.Join(p.cfg.Out, unfinishedName), append(b, '\n'), 0o644)
}

// accept writes the units of a batch.
func (p *preparation) accept(b *batch) error {
	from, text := 0, 0
	for _, u := range b.units {
		if err := p.unit(b.tokens[from:u.tokenEnd], u.textEnd-text, u.last); err != nil {
			return fmt.Errorf("prepare %s: %w", p.cfg.Out, err)
		}
		from, text = u.tokenEnd, u.textEnd
	}
	p.state.Position = b.behind
	p.unsaved += int64(text)
	if p.unsaved >= p.cfg.saveEvery {
		if err := p.save(); err != nil {
			return err
		}
	}
	if p.cfg.Report != nil {
		a, h := &p.train.state.Split, &p.heldOut.state.Split
		p.cfg.Report(PrepareReport{
			Input: b.input, Read: b.read, Size: p.size, Bytes: a.Bytes + h.Bytes, Tokens: a.Tokens + h.Tokens,
			Documents: a.Documents + h.Documents, ResumedTokens: p.resumed,
		})
	}
	return nil
}

// unit writes one unit to its split. A document of which one stretch is held out
// ends where that begins.
func (p *preparation) unit(tokens []int32, bytes int, last bool) error {
	to := p.sideOf(p.state.Units)
	p.state.Units++
	if open := p.state.Open; open != sideNone && open != to {
		if err := p.endDocument(open); err != nil {
			return err
		}
	}
	w := p.writer(to)
	if err := w.write(tokens); err != nil {
		return err
	}
	w.state.Split.Bytes += int64(bytes)
	p.state.Open = to
	if last {
		return p.endDocument(to)
	}
	return nil
}

func (p *preparation) endDocument(of side) error {
	w := p.writer(of)
	w.state.Split.Documents++
	p.state.Open = sideNone
	return w.write([]int32{p.cfg.Tokenizer.EndOfText()})
}

func (p *preparation) writer(s side) *splitWriter {
	if s == sideHeldOut {
		return &p.heldOut
	}
	return &p.train
}

// sideOf holds out one unit of each group, the one that the hash of the group's
// number names.
func (p *preparation) sideOf(unit int64) side {
	if p.group > 0 && int64(draw("dunlin/1/split/unit", strconv.AppendInt(nil, unit/p.group, 10), int(p.group))) == unit%p.group {
		return sideHeldOut
	}
	return sideTrain
}

// end names the last files and writes the manifest.
func (p *preparation) end() (*Manifest, error) {
	fail := func(err error) (*Manifest, error) {
		return nil, fmt.Errorf("prepare %s: %w", p.cfg.Out, err)
	}
	if p.train.state.Split.Tokens == 0 {
		return fail(errors.New("no text in the inputs: name files with text"))
	}
	if p.group > 0 && p.heldOut.state.Split.Tokens == 0 {
		return fail(fmt.Errorf("nothing was held out of %d documents: raise the held-out share or add text", p.train.state.Split.Documents))
	}
	t := p.cfg.Tokenizer
	m := &Manifest{
		Format: manifestFormat, Dtype: p.dtype, Settings: p.state.Settings,
		Tokenizer: TokenizerSpec{Kind: kindByte, Vocab: t.Vocab(), EndOfText: t.EndOfText()},
	}
	if file := t.File(); file != nil {
		m.Tokenizer.Kind, m.Tokenizer.SHA256 = kindBPE, hexHash(file)
		if err := p.cfg.before("write tokenizer"); err != nil {
			return nil, err
		}
		if err := store.WriteFile(filepath.Join(p.cfg.Out, TokenizerFile), file, 0o644); err != nil {
			return fail(err)
		}
	}
	if err := errors.Join(p.train.finish(), p.heldOut.finish()); err != nil {
		return fail(err)
	}
	m.Train, m.HeldOut = p.train.state.Split, p.heldOut.state.Split
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fail(err)
	}
	if err := p.cfg.before("write manifest"); err != nil {
		return nil, err
	}
	if err := store.WriteFile(filepath.Join(p.cfg.Out, manifestName), append(b, '\n'), 0o644); err != nil {
		return fail(err)
	}
	if err := p.cfg.before("remove state"); err != nil {
		return nil, err
	}
	return m, os.Remove(filepath.Join(p.cfg.Out, unfinishedName))
}
