package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/checkpoint"
	"dunlin/folder"
	"dunlin/model"
	"dunlin/training"
	"dunlin/wire"
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
	saved, of, err := c.modelOrStage(args[0])
	if err != nil {
		return err
	}
	if of != nil {
		return t.exportStage(c, saved, of, args[1], number)
	}
	if err := training.Export(saved, args[1], number); err != nil {
		return err
	}
	return t.moved(c, saved, args[1], "in "+c.Number+" to")
}

func (t *terminal) exportUniversal(c *Config, from, to string) error {
	open := training.OpenCheckpoint
	if (folder.Folder{Dir: from}).Exists() {
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

// stageOf is which stage of a run's model a data folder holds.
type stageOf struct {
	spec  *wire.RunSpec
	stage int
}

func (s *stageOf) String() string {
	return fmt.Sprintf("stage %d of %d", s.stage+1, s.spec.StageCount())
}

// exportStage writes one stage of a model beside those of other peers.
func (t *terminal) exportStage(c *Config, saved *checkpoint.Checkpoint, of *stageOf, to string, number checkpoint.Number) error {
	missing, err := folder.ExportStage(saved, of.spec, of.stage, to, number)
	if err != nil {
		return err
	}
	if c.JSON {
		if missing == nil {
			missing = []int{}
		}
		return json.NewEncoder(t.out).Encode(map[string]any{"step": saved.Step, "stage": of.stage, "stages": of.spec.StageCount(), "missing": missing, "folder": to})
	}
	words := "all stages are there: the folder holds the whole model"
	if len(missing) > 0 {
		var names []string
		for _, i := range missing {
			names = append(names, strconv.Itoa(i+1))
		}
		words = fmt.Sprintf("still missing: stage %s; export them, from the folders of peers that have them, into the same folder with --at %d", strings.Join(names, ", "), saved.Step)
	}
	_, err = fmt.Fprintf(t.out, "%v, at height %d, %s to %s\n%s\n", of, saved.Step, "in "+c.Number, to, words)
	return err
}

// model reads the model that a folder holds, a run's at a height of its ledger.
func (c *Config) model(dir string) (*checkpoint.Checkpoint, error) {
	saved, of, err := c.modelOrStage(dir)
	if err == nil && of != nil {
		return nil, fmt.Errorf("%s holds %v only: bring the stages together with dunlin export, or give the coordinator's folder", dir, of)
	}
	return saved, err
}

// modelOrStage is model that also reads the folder of a peer that holds one stage, and says which.
func (c *Config) modelOrStage(dir string) (_ *checkpoint.Checkpoint, of *stageOf, err error) {
	home := folder.Folder{Dir: dir}
	if !home.Exists() {
		if c.At > 0 {
			return nil, nil, fmt.Errorf("%s is no data folder of a run: only those know heights (--at %d)", dir, c.At)
		}
		saved, err := training.OpenWeights(dir, c.weights())
		return saved, nil, err
	}
	if c.Average {
		return nil, nil, fmt.Errorf("%s is the data folder of a run, which keeps no average of the weights", dir)
	}
	log, run, closeIt, err := openLedger(dir)
	if err != nil {
		return nil, nil, err
	}
	defer closing(&err, closeIt)
	_, spec, err := home.Load(run)
	if err != nil {
		return nil, nil, err
	}
	stage, known := home.Stage(run)
	switch {
	case !known || !spec.Staged():
		stage = wire.AllStages
	case stage >= spec.StageCount():
		return nil, nil, fmt.Errorf("%s names stage %d of %d: it is damaged, let a worker begin with an empty folder", filepath.Join(home.Run(run), "stage"), stage+1, spec.StageCount())
	default:
		of = &stageOf{spec, stage}
	}
	state, height, err := folder.Past(home.Run(run), spec, stage, log, uint64(c.At))
	if err != nil {
		return nil, nil, fmt.Errorf("run %s in %s: %w", run.Short(), dir, err)
	}
	vocabulary, err := folder.Vocabulary(home.Run(run), spec)
	if err != nil {
		return nil, nil, fmt.Errorf("run %s in %s: the vocabulary: %w", run.Short(), dir, err)
	}
	saved, err := folder.ModelAt(state, height, vocabulary)
	return saved, of, err
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
