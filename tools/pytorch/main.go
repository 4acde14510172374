package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"

	"dunlin/data"
)

func main() {
	from := flag.String("data", "", "what dunlin train takes as --data")
	seed := flag.Uint64("seed", 1, "what it takes as --seed")
	length := flag.Int("context", 64, "tokens of a window")
	windows := flag.Int("windows", 0, "windows to train on")
	heldOut := flag.Int("eval-windows", 512, "held-out windows at most")
	out := flag.String("out", "windows.bin", "file to write")
	flag.Parse()
	if err := write(*out, *from, *seed, *length, *windows, *heldOut); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(out, from string, seed uint64, length, windows, heldOut int) error {
	set, err := data.OpenDataset(from, "")
	if err != nil {
		return err
	}
	defer set.Close()
	train, held, err := set.Windows(length)
	if err != nil {
		return err
	}
	order, err := set.Order(seed, train)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	add := func(of data.Windows, index int) {
		window := make([]int32, length+1)
		err = errors.Join(err, of.Batch(window[:length], window[1:], index), binary.Write(w, binary.LittleEndian, window))
	}
	for at := range windows {
		add(train, order.At(uint64(at)))
	}
	for _, index := range held.Spread(heldOut) {
		add(held, index)
	}
	return errors.Join(err, w.Flush(), f.Close())
}
