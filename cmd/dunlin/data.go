package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dunlin/data"
	"dunlin/data/parquet"
	"dunlin/store"
	"dunlin/swarm"
)

func newData(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "data",
		Short:   "prepare text for training, learn a tokenizer",
		Example: "  dunlin data train-bpe texts/ --vocab 8192 --out tokenizer.json\n  dunlin data prepare texts/ --tokenizer tokenizer.json --out out/texts",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := &t.settings.config
	cmd.AddCommand(
		t.command("prepare INPUT…", "turn text, JSON lines or Parquet into token files; goes on where it was stopped",
			"  dunlin data prepare book.txt --out out/book\n"+
				"  dunlin data prepare 'web/*.jsonl.zst' --field text --tokenizer tokenizer.json --out out/web --held-out 0.01\n"+
				"  dunlin data prepare corpus.parquet --tokenizer gpt2 --dtype uint16 --out out/corpus",
			someInputs, t.prepare, c.preparing()...),
		t.command("train-bpe INPUT…", "learn a byte-level BPE vocabulary and write it as tokenizer.json",
			"  dunlin data train-bpe 'web/*.jsonl.zst' --vocab 16384 --limit 500 --out tokenizer.json",
			someInputs, t.trainBPE, c.learning()...),
	)
	return cmd
}

// someInputs wants at least one argument.
func someInputs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s: INPUT is missing; usage: %s", cmd.CommandPath(), cmd.UseLine())
	}
	return nil
}

// Names of tokenizers that are no path.
const (
	byteTokenizer = "byte"
	gpt2Tokenizer = "gpt2"
)

// documents lists what says how documents are read.
func (c *Config) documents() []option {
	return []option{
		choice(&c.Format, "format", "auto", "of the inputs; auto goes by each name, with .gz or .zst behind it", data.Formats()...),
		needed(&c.Field, "field", "text", "name", "field of JSON lines or column of Parquet that holds the text"),
	}
}

// preparing lists the options of `data prepare`.
func (c *Config) preparing() []option {
	return append(c.documents(),
		needed(&c.Out, "out", "out/data", "path", "folder of the token files; it is gone on with when it holds some"),
		needed(&c.Tokenizer, "tokenizer", byteTokenizer, "name", "byte, gpt2, a tokenizer.json, or a folder with one or with encoder.json and vocab.bpe"),
		text(&c.EndOfText, "end-of-text", "", "text", "special token that follows each document; without it, <|endoftext|> or another known one"),
		choice(&c.Dtype, "dtype", "auto", "of a token in a file; auto takes uint16 where it suffices", data.Dtypes()...),
		number(&c.HeldOut, "held-out", 0.05, 0, 0.5, "share of the documents to hold out; 0 is none, which train refuses"),
		whole(&c.FileSize, "file-tokens", data.DefaultFileSize, 1000, 1<<40, "tokens in a file at most"),
		c.threads(),
	)
}

// learning lists the options of `data train-bpe`.
func (c *Config) learning() []option {
	return append(c.documents(),
		needed(&c.Out, "out", data.TokenizerFile, "path", "file of the tokenizer"),
		whole(&c.Vocab, "vocab", 8192, 257, data.MaxVocabulary, "tokens, with the 256 bytes and the end of a text"),
		number(&c.Limit, "limit", 0, 0, 1e9, "MB of text to learn from; 0 is all"),
	)
}

func (t *terminal) prepare(ctx context.Context, c *Config, args []string) error {
	tokenizer, err := c.tokenizer()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	lock, err := swarm.LockFolder(c.Out)
	if err != nil {
		return err
	}
	defer func() {
		_ = lock.Unlock()
		_ = os.Remove(filepath.Join(c.Out, "lock")) // a folder of data holds nothing else
	}()
	p := t.progress(c)
	defer p.close()
	began, resumed := time.Now(), false
	m, err := data.Prepare(ctx, data.PrepareConfig{
		Inputs: args, Out: c.Out, Tokenizer: tokenizer, Format: c.Format, Field: c.Field, Dtype: c.Dtype,
		HeldOut: c.HeldOut, FileSize: int64(c.FileSize), Threads: c.Threads, Parquet: parquet.Open,
		Report: func(r data.PrepareReport) {
			if r.ResumedTokens > 0 && !resumed {
				p.say(fmt.Sprintf("resuming       behind %s tokens in %s", grouped(r.ResumedTokens), c.Out), "resuming", slog.Int64("tokens", r.ResumedTokens))
				resumed = true
			}
			speed := float64(r.Tokens-r.ResumedTokens) / max(time.Since(began).Seconds(), 1e-9)
			share := float64(r.Read) / max(float64(r.Size), 1)
			p.state(fmt.Sprintf("preparing      %s of %s MB %s · %s tokens · %s tokens/s%s", rate(float64(r.Read)/1e6), rate(float64(r.Size)/1e6), bar(share), grouped(r.Tokens), rate(speed), left(share, time.Since(began))),
				[]slog.Attr{slog.Int64("bytes_read", r.Read), slog.Int64("bytes_in_all", r.Size), slog.Int64("tokens", r.Tokens), slog.Float64("tokens_per_second", speed)})
		},
	})
	if err != nil {
		return err
	}
	p.close()
	return t.prepared(c, m)
}

// prepared prints what a folder holds.
func (t *terminal) prepared(c *Config, m *data.Manifest) error {
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"out": c.Out, "vocab": m.Tokenizer.Vocab, "end_of_text": m.Tokenizer.EndOfText, "dtype": m.Dtype,
			"train_tokens": m.Train.Tokens, "train_documents": m.Train.Documents, "train_bytes": m.Train.Bytes,
			"held_out_tokens": m.HeldOut.Tokens, "held_out_documents": m.HeldOut.Documents, "held_out_bytes": m.HeldOut.Bytes,
		})
	}
	tokens := m.Train.Tokens + m.HeldOut.Tokens
	_, err := fmt.Fprintf(t.out, "%s tokens of %s (%.2f bytes a token), %s to train on and %s held out\nprepared in %s: dunlin train --data %s\n",
		grouped(tokens), m.Dtype, float64(m.Train.Bytes+m.HeldOut.Bytes)/float64(tokens), grouped(m.Train.Tokens), grouped(m.HeldOut.Tokens), c.Out, c.Out)
	return err
}

// tokenizer opens the tokenizer that the settings name.
func (c *Config) tokenizer() (data.Tokenizer, error) {
	switch {
	case c.Tokenizer == byteTokenizer && c.EndOfText != "":
		return nil, errors.New("texts of bytes end with byte 0: leave --end-of-text out, or name another --tokenizer")
	case c.Tokenizer == byteTokenizer:
		return data.Bytes{}, nil
	case c.Tokenizer == gpt2Tokenizer:
		return data.GPT2(c.EndOfText)
	}
	return data.OpenTokenizer(c.Tokenizer, c.EndOfText)
}

func (t *terminal) trainBPE(ctx context.Context, c *Config, args []string) error {
	p := t.progress(c)
	defer p.close()
	var last data.TrainBPEReport
	tokenizer, err := data.TrainBPE(ctx, data.TrainBPEConfig{
		Inputs: args, Format: c.Format, Field: c.Field, Vocab: c.Vocab, Limit: int64(c.Limit * 1e6), Parquet: parquet.Open,
		Report: func(r data.TrainBPEReport) {
			last = r
			line := fmt.Sprintf("reading        %s of %s MB %s · %s distinct pieces", rate(float64(r.Read)/1e6), rate(float64(r.Size)/1e6), bar(float64(r.Read)/max(float64(r.Size), 1)), grouped(r.Pieces))
			if r.Tokens > 0 {
				line = fmt.Sprintf("learning       %s of %s tokens %s", grouped(r.Tokens), grouped(c.Vocab), bar(float64(r.Tokens)/float64(c.Vocab)))
			}
			p.state(line, []slog.Attr{slog.Int64("bytes", r.Bytes), slog.Int("pieces", r.Pieces), slog.Int("tokens", r.Tokens)})
		},
	})
	if err != nil {
		return err
	}
	p.close()
	if err := os.MkdirAll(filepath.Dir(c.Out), 0o755); err != nil {
		return fmt.Errorf("write tokenizer: %w", err)
	}
	if err := store.WriteFile(c.Out, tokenizer.File(), 0o644); err != nil {
		return fmt.Errorf("write tokenizer: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{"out": c.Out, "vocab": tokenizer.Vocab(), "bytes": last.Bytes, "end_of_text": tokenizer.EndOfText()})
	}
	fewer := ""
	if tokenizer.Vocab() < c.Vocab {
		fewer = fmt.Sprintf(" (of %s: no pair of tokens occurs twice any more)", grouped(c.Vocab))
	}
	_, err = fmt.Fprintf(t.out, "%s tokens%s from %s MB of text\ntokenizer in %s\n", grouped(tokenizer.Vocab()), fewer, rate(float64(last.Bytes)/1e6), c.Out)
	return err
}
