package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"dunlin/compute"
	"dunlin/compute/cpu"
	"dunlin/model"
	"dunlin/training"
)

func main() {
	if err := probe(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func probe(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: interop logits|tokens FOLDER")
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	device, err := cpu.New(cpu.Options{})
	if err != nil {
		return err
	}
	defer device.Close()
	if args[0] == "tokens" {
		return tokens(device, args[1], input)
	}
	return logits(device, args[1], input)
}

func tokens(device compute.Device, folder string, text []byte) error {
	saved, err := training.OpenSaved(device, folder, training.Newest, 1)
	if err != nil {
		return err
	}
	defer saved.Close()
	return json.NewEncoder(os.Stdout).Encode(saved.Tokenizer.Encoder()(nil, text))
}

// logits needs no tokenizer.
func logits(device compute.Device, folder string, input []byte) error {
	saved, err := training.OpenWeights(folder, training.Newest)
	if err != nil {
		return err
	}
	var shape model.Config
	var windows [][]int32
	if err := errors.Join(json.Unmarshal(saved.Config, &shape), json.Unmarshal(input, &windows)); err != nil {
		return err
	}
	m, err := model.New(shape, device, 1)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.Load(saved.Model); err != nil {
		return err
	}
	for _, w := range windows {
		scores := make([]float32, len(w)*shape.Vocab)
		if err := m.Logits(scores, w, 1); err != nil {
			return err
		}
		if err := binary.Write(os.Stdout, binary.LittleEndian, scores); err != nil {
			return err
		}
	}
	return nil
}
