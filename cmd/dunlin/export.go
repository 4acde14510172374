package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"dunlin/checkpoint"
	"dunlin/model"
	"dunlin/peer"
)

func newExport(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("export CHECKPOINT DIR", "write a model as a folder that Hugging Face's tools open",
		"  dunlin export out/first out/first-hf\n  dunlin export out/first out/half --average --dtype bf16", exactly("CHECKPOINT", "DIR"), t.exportModel,
		append(c.exporting(), c.average())...)
}

func newImport(t *terminal) *cobra.Command {
	return t.command("import DIR OUT", "make a checkpoint of a GPT-2 or Llama folder of Hugging Face's",
		"  dunlin import models/gpt2 out/gpt2\n  dunlin eval out/gpt2 held-out.txt", exactly("DIR", "OUT"), t.importModel)
}

func (t *terminal) exportModel(_ context.Context, c *Config, args []string) error {
	number, err := checkpoint.ParseNumber(c.Number)
	if err != nil {
		return err
	}
	saved, err := peer.OpenWeights(args[0], c.weights())
	if err != nil {
		return err
	}
	if err := peer.Export(saved, args[1], number); err != nil {
		return err
	}
	return t.moved(c, saved, args[1], "in "+c.Number+" to")
}

func (t *terminal) importModel(_ context.Context, c *Config, args []string) error {
	saved, err := peer.Import(args[0], args[1])
	if err != nil {
		return err
	}
	return t.moved(c, saved, args[1], "to")
}

// moved tells what now lies in another folder.
func (t *terminal) moved(c *Config, saved *checkpoint.Checkpoint, to, how string) error {
	var shape model.Config
	if err := json.Unmarshal(saved.Config, &shape); err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{
			"step": saved.Step, "family": shape.Family.String(), "model": shape.String(), "parameters": shape.Parameters(), "folder": to,
		})
	}
	_, err := fmt.Fprintf(t.out, "%v, step %s, %s parameters %s %s\n", shape, grouped(saved.Step), grouped(shape.Parameters()), how, to)
	return err
}
