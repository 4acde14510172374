package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"dunlin/checkpoint"
	"dunlin/model"
	"dunlin/peer"
	"dunlin/training"
)

func newExport(t *terminal) *cobra.Command {
	c := &t.settings.config
	return t.command("export CHECKPOINT DIR", "write a model as a folder that Hugging Face's tools open",
		"  dunlin export out/first out/first-hf\n  dunlin export out/first out/half --average --dtype bf16\n  dunlin export out/first out/universal --universal\n"+
			"  dunlin export out/demo/coordinator out/halfway --at 60",
		exactly("CHECKPOINT", "DIR"), t.exportModel, append(c.exporting(), c.average())...)
}

func newImport(t *terminal) *cobra.Command {
	return t.command("import DIR OUT", "make a checkpoint of a GPT-2 or Llama folder of Hugging Face's, or of a universal checkpoint",
		"  dunlin import models/gpt2 out/gpt2\n  dunlin eval out/gpt2 held-out.txt", exactly("DIR", "OUT"), t.importModel)
}

func (t *terminal) exportModel(_ context.Context, c *Config, args []string) error {
	if c.Universal {
		return t.exportUniversal(c, args[0], args[1])
	}
	number, err := checkpoint.ParseNumber(c.Number)
	if err != nil {
		return err
	}
	saved, err := c.model(args[0])
	if err != nil {
		return err
	}
	if err := training.Export(saved, args[1], number); err != nil {
		return err
	}
	return t.moved(c, saved, args[1], "in "+c.Number+" to")
}

func (t *terminal) exportUniversal(c *Config, from, to string) error {
	open := training.OpenCheckpoint
	if (peer.Folder{Dir: from}).Exists() {
		open = c.model
	}
	saved, err := open(from)
	if err != nil {
		return err
	}
	if err := checkpoint.SaveUniversal(to, saved); err != nil {
		return err
	}
	return t.moved(c, saved, to, "and all that training goes on from to")
}

func (t *terminal) importModel(_ context.Context, c *Config, args []string) error {
	saved, err := training.Import(args[0], args[1])
	if err != nil {
		return err
	}
	return t.moved(c, saved, args[1], "to")
}

// model reads the model that a folder holds, a run's at a height of its ledger.
func (c *Config) model(dir string) (_ *checkpoint.Checkpoint, err error) {
	folder := peer.Folder{Dir: dir}
	if !folder.Exists() {
		if c.At > 0 {
			return nil, fmt.Errorf("%s is no data folder of a run: only those know heights (--at %d)", dir, c.At)
		}
		return training.OpenWeights(dir, c.weights())
	}
	if c.Average {
		return nil, fmt.Errorf("%s is the data folder of a run, which keeps no average of the weights", dir)
	}
	log, run, closeIt, err := openLedger(dir)
	if err != nil {
		return nil, err
	}
	defer closing(&err, closeIt)
	_, spec, err := folder.Load(run)
	if err != nil {
		return nil, err
	}
	state, height, err := peer.Past(folder.Run(run), spec, log, uint64(c.At))
	if err != nil {
		return nil, fmt.Errorf("run %s in %s: %w", run.Short(), dir, err)
	}
	return peer.ModelAt(state, height)
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
