package parquet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"dunlin/data"
)

type row struct {
	ID   int64   `parquet:"id"`
	Text *string `parquet:"text,optional"`
	Meta struct {
		Title string `parquet:"title"`
	} `parquet:"meta"`
	Tags []string `parquet:"tags,list"`
}

// written writes n rows in groups of 70 and returns their texts; each ninth is null.
func written(t testing.TB, path string, n int, codec compress.Codec) []string {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, parquet.Compression(codec), parquet.MaxRowsPerRowGroup(70), parquet.PageBufferSize(600))
	var texts []string
	for i := range n {
		text := fmt.Sprintf("document %d %s", i, strings.Repeat("über ", i%13))
		r := row{ID: int64(i), Text: &text, Tags: []string{"a", "b"}}
		r.Meta.Title = fmt.Sprint("title ", i)
		if i%9 == 0 {
			text, r.Text = "", nil
		}
		texts = append(texts, text)
		if _, err := w.Write([]row{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return texts
}

func read(d data.Documents) (texts []string, err error) {
	for {
		b, err := d.Next(nil)
		if errors.Is(err, io.EOF) {
			return texts, nil
		}
		if err != nil {
			return texts, err
		}
		texts = append(texts, string(b))
	}
}

func TestDocumentsAreTheRowsOfAColumn(t *testing.T) {
	for _, codec := range []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Gzip, &parquet.Zstd, &parquet.Brotli, &parquet.Lz4Raw} {
		path := filepath.Join(t.TempDir(), "a.parquet")
		texts := written(t, path, 200, codec)
		for _, skip := range []int64{0, 1, 69, 70, 71, 139, 199, 200} {
			d, err := Open(path, "text")
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Skip(skip); err != nil {
				t.Fatal(err)
			}
			got, err := read(d)
			if err != nil || strings.Join(got, "|") != strings.Join(texts[skip:], "|") || len(got) != len(texts[skip:]) {
				t.Errorf("%v behind row %d: %d texts, want %d, %v", codec, skip, len(got), len(texts[skip:]), err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestColumnsAreCheckedByName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.parquet")
	written(t, path, 3, &parquet.Snappy)
	d, err := Open(path, "meta.title")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(d); err != nil || len(got) != 3 || got[2] != "title 2" {
		t.Errorf("titles %q, %v", got, err)
	}
	if err := d.Skip(1); err == nil {
		t.Error("skipped a row behind the end")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for column, want := range map[string]string{
		"body": "there are: id, text, meta.title", "id": "one text a row is needed", "meta": "", "tags.list.element": "one text a row is needed",
	} {
		if _, err := Open(path, column); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("column %s: %v, want %q", column, err, want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "gone"), "text"); err == nil {
		t.Error("opened nothing")
	}
}

// Prepare reads a Parquet file and goes on in the middle of it.
func TestPrepareReadsParquet(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.parquet")
	texts := written(t, path, 200, &parquet.Zstd)
	out := filepath.Join(dir, "out")
	m, err := data.Prepare(context.Background(), data.PrepareConfig{
		Inputs: []string{path}, Out: out, Tokenizer: data.Bytes{}, Format: "auto", Field: "text", Dtype: "auto",
		HeldOut: 0.1, FileSize: data.DefaultFileSize, Parquet: Open,
	})
	if err != nil {
		t.Fatal(err)
	}
	documents := 0
	for _, text := range texts {
		if text != "" {
			documents++
		}
	}
	if got := m.Train.Documents + m.HeldOut.Documents; got != int64(documents) {
		t.Errorf("%d documents, want %d", got, documents)
	}
}

// Stopped in the middle of a file, a preparation goes on to the same bytes.
func TestPrepareGoesOnInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.parquet")
	written(t, path, 40_000, &parquet.Snappy)
	cfg := data.PrepareConfig{
		Inputs: []string{path}, Out: filepath.Join(dir, "whole"), Tokenizer: data.Bytes{}, Format: "auto", Field: "text", Dtype: "auto",
		HeldOut: 0.1, FileSize: data.DefaultFileSize, Parquet: Open,
	}
	want, err := data.Prepare(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Out = filepath.Join(dir, "stopped")
	ctx, cancel := context.WithCancel(context.Background())
	cfg.Report = func(data.PrepareReport) { cancel() }
	var unfinished *data.Unfinished
	if _, err := data.Prepare(ctx, cfg); !errors.As(err, &unfinished) {
		t.Fatal(err)
	}
	resumed := int64(0)
	cfg.Report = func(r data.PrepareReport) { resumed = r.ResumedTokens }
	got, err := data.Prepare(context.Background(), cfg)
	if err != nil || resumed == 0 || got.Train.Files[0].SHA256 != want.Train.Files[0].SHA256 || got.HeldOut.Files[0].SHA256 != want.HeldOut.Files[0].SHA256 {
		t.Errorf("went on behind %d tokens to %+v, want %+v, %v", resumed, got, want, err)
	}
}

// FuzzOpen takes damaged files for Parquet: an error, never a panic.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "a.parquet")
	written(f, path, 20, &parquet.Snappy)
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "a.parquet")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(path, "text")
		if err != nil {
			return
		}
		defer d.Close()
		for range 100 {
			if _, err := d.Next(nil); err != nil {
				return
			}
		}
	})
}
