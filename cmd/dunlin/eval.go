package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"dunlin/data"
)

// evalBatch is the number of windows evaluated at a time.
const evalBatch = 8

func newEval(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("eval CHECKPOINT FILE", "measure a model's loss on a text file that it was not trained on",
		"  dunlin eval out/first held-out.txt --json", exactly("CHECKPOINT", "FILE"), t.eval, append(c.compute(), c.average())...)
}

func (t *terminal) eval(ctx context.Context, c *Config, args []string) error {
	text, err := data.ReadFile(args[1])
	if err != nil {
		return err
	}
	device, err := c.device(t.progress(c))
	if err != nil {
		return err
	}
	defer device.Close()
	saved, err := c.saved(device.on, args[0], evalBatch)
	if err != nil {
		return err
	}
	defer saved.Close()
	e, err := saved.Evaluate(ctx, text)
	if err != nil {
		return fmt.Errorf("evaluate %s: %w", args[1], err)
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{"loss": e.Loss, "bits_per_byte": e.BitsPerByte, "tokens": e.Tokens})
	}
	unit := unitOf(saved.Tokenizer)
	_, err = fmt.Fprintf(t.out, "loss %.4f nats a %s, %.4f bits a byte, over %s %ss\n", e.Loss, unit, e.BitsPerByte, grouped(e.Tokens), unit)
	return err
}
