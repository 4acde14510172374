package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// batch is some units on their way from the reader through an encoder to the
// writer.
type batch struct {
	text   []byte // of all units
	units  []unit
	tokens []int32       // of all units, when encoded
	behind position      // where reading goes on
	input  string        // at work
	read   int64         // bytes on disk so far
	err    error         // why reading ended here, io.EOF at the end
	done   chan struct{} // receives when encoded
}

// unit is a document, or a stretch of one.
type unit struct {
	textEnd, tokenEnd int  // in the batch
	last              bool // of its document
}

// Bounds of a batch.
const (
	batchBytes = 256 << 10
	batchKept  = 1 << 20 // larger buffers, of huge documents, are let go
)

// run reads, encodes on all threads and writes, in order.
func (p *preparation) run(ctx context.Context) error {
	_, noNUL := p.cfg.Tokenizer.(Bytes)
	reader, err := newUnitReader(p.inputs, p.cfg.Field, p.cfg.Parquet, noNUL, p.state.Position)
	if err != nil {
		return fmt.Errorf("prepare %s: %w: remove the folder and begin anew", p.cfg.Out, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	depth := 2*p.cfg.Threads + 1
	free, work, ordered := make(chan *batch, depth), make(chan *batch, depth), make(chan *batch, depth)
	for range depth {
		free <- &batch{done: make(chan struct{}, 1)}
	}
	var group sync.WaitGroup
	group.Go(func() {
		defer close(work)
		defer close(ordered)
		readBatches(ctx, reader, free, func(b *batch) { work <- b; ordered <- b })
	})
	for range p.cfg.Threads {
		encode := p.cfg.Tokenizer.Encoder()
		group.Go(func() {
			for b := range work {
				b.encode(encode)
				b.done <- struct{}{}
			}
		})
	}
	err = p.write(ctx, ordered, free)
	cancel()
	group.Wait()
	return errors.Join(err, reader.close())
}

// readBatches fills free batches until the input or ctx ends. Channels hold all
// batches, so that giving one on never blocks.
func readBatches(ctx context.Context, reader *unitReader, free <-chan *batch, give func(*batch)) {
	for {
		var b *batch
		select {
		case <-ctx.Done():
			return
		case b = <-free:
		}
		b.fill(reader)
		give(b)
		if b.err != nil {
			return
		}
	}
}

func (b *batch) fill(reader *unitReader) {
	if cap(b.text) > batchKept {
		b.text, b.tokens = nil, nil
	}
	b.text, b.units = b.text[:0], b.units[:0]
	for len(b.text) < batchBytes {
		text, last, err := reader.next(b.text)
		if err != nil {
			b.err = err
			break
		}
		b.text = text
		b.units = append(b.units, unit{textEnd: len(text), last: last})
	}
	b.behind, b.read = reader.position(), reader.bytesRead()
	if at := min(reader.index, len(reader.inputs)-1); at >= 0 {
		b.input = reader.inputs[at].path
	}
}

func (b *batch) encode(encode Encoder) {
	b.tokens = b.tokens[:0]
	from := 0
	for i := range b.units {
		u := &b.units[i]
		b.tokens = encode(b.tokens, b.text[from:u.textEnd])
		u.tokenEnd = len(b.tokens)
		from = u.textEnd
	}
}

func (p *preparation) write(ctx context.Context, ordered <-chan *batch, free chan<- *batch) error {
	for b := range ordered {
		<-b.done
		if err := p.accept(b); err != nil {
			return err
		}
		if errors.Is(b.err, io.EOF) {
			return nil
		}
		if b.err != nil {
			return b.err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		free <- b
	}
	return ctx.Err()
}
