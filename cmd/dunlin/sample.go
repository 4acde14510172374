package main

import (
	"context"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"dunlin/model"
)

func newSample(t *terminal) *cobra.Command {
	c := &t.settings.config
	options := append(c.sampling(), c.seed(), c.average())
	return t.command("sample CHECKPOINT", "let a model continue a text",
		"  dunlin sample out/first --prompt \"func \" --bytes 300 --temperature 0.7", exactly("CHECKPOINT"), t.sample,
		append(options, c.compute()...)...)
}

func (t *terminal) sample(ctx context.Context, c *Config, args []string) error {
	device, err := c.device(t.progress(c))
	if err != nil {
		return err
	}
	defer device.Close()
	saved, err := c.saved(device.on, args[0], 1)
	if err != nil {
		return err
	}
	defer saved.Close()
	how := model.Sampling{Temperature: c.Temperature, TopK: c.TopK, TopP: c.TopP, Seed: c.Seed}
	if c.JSON {
		var text []byte
		err := saved.Sample(ctx, []byte(c.Prompt), c.Bytes, how, func(b byte) bool {
			text = append(text, b)
			return true
		})
		if err != nil {
			return err
		}
		return json.NewEncoder(t.out).Encode(map[string]string{"prompt": c.Prompt, "text": string(text)})
	}
	if _, err := io.WriteString(t.out, c.Prompt); err != nil {
		return err
	}
	var failed error
	err = saved.Sample(ctx, []byte(c.Prompt), c.Bytes, how, func(b byte) bool {
		_, failed = t.out.Write([]byte{b})
		return failed == nil
	})
	if err != nil {
		return err
	}
	if failed == nil {
		_, failed = io.WriteString(t.out, "\n")
	}
	return failed
}
