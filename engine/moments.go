package engine

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"dunlin/checkpoint"
	"dunlin/optimizer"
	"dunlin/store"
)

// keepMoments writes what an optimizer has learned of gradients to a file in one durable
// step; no name, no file.
func keepMoments(file string, inner optimizer.Inner) error {
	if file == "" {
		return nil
	}
	state, err := inner.Save()
	if err != nil {
		return err
	}
	err = store.WriteStream(file, 0o600, func(w io.Writer) error {
		return checkpoint.Write(w, state.Tensors, map[string]string{"steps": strconv.Itoa(state.Steps)})
	})
	if err != nil {
		return fmt.Errorf("keep moments: %w", err)
	}
	return nil
}

// recallMoments takes up the moments of an earlier process. They only speed training
// up, so that a file which is missing, damaged or of another shape costs no more
// than starting from zero.
func recallMoments(file string, inner optimizer.Inner) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return
	}
	tensors, meta, err := checkpoint.Read(f, info.Size())
	if err != nil {
		return
	}
	steps, err := strconv.Atoi(meta["steps"])
	if err != nil || steps < 1 {
		return
	}
	_ = inner.Load(optimizer.State{Steps: steps, Tensors: tensors}) // an error leaves them at zero
}
