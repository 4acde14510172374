package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dunlin/folder"
	"dunlin/store"
	"dunlin/swarm"
)

// order is what an organiser tells a running coordinator. It travels as a file in the coordinator's data folder, which only
// its user may write, so that no address needs guarding; the answer is a file beside it.
type order struct {
	Verb string   `json:"verb"`
	Args []string `json:"args,omitempty"`
}

// answer is a coordinator's.
type answer struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

const (
	ordersFolder  = "orders"
	orderSuffix   = ".order"
	answerSuffix  = ".answer"
	orderEvery    = 200 * time.Millisecond // that a coordinator looks, and an organiser
	orderPatience = 30 * time.Second
	maxOrder      = 64 << 10
)

// giveOrder has the coordinator of a data folder carry out an order and returns its answer.
func giveOrder(ctx context.Context, home folder.Folder, o order) (string, error) {
	lock, err := swarm.LockFolder(home.Dir)
	if err == nil {
		_ = lock.Unlock() // it was taken to see whether anybody has it
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no coordinator runs in %s: start it with dunlin coordinator, or give its --data-dir", home.Dir)
	}
	dir := filepath.Join(home.Dir, ordersFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("leave an order: %w", err)
	}
	body, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	base := filepath.Join(dir, rand.Text())
	if err := store.WriteFile(base+orderSuffix, body, 0o600); err != nil {
		return "", fmt.Errorf("leave an order: %w", err)
	}
	defer func() {
		_ = os.Remove(base + orderSuffix) // the coordinator took it away
		_ = os.Remove(base + answerSuffix)
	}()
	ctx, cancel := context.WithTimeout(ctx, orderPatience)
	defer cancel()
	tick := time.NewTicker(orderEvery)
	defer tick.Stop()
	for {
		if b, err := os.ReadFile(base + answerSuffix); err == nil {
			var a answer
			if err := json.Unmarshal(b, &a); err != nil {
				return "", fmt.Errorf("read the coordinator's answer: %w", err)
			}
			if a.Error != "" {
				return a.Text, errors.New(a.Error)
			}
			return a.Text, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the process that uses %s did not answer within %s: is it a coordinator, and does its log say that it leads?", home.Dir, orderPatience)
		case <-tick.C:
		}
	}
}

// takeOrders carries out the orders that come into a data folder until the context ends.
func takeOrders(ctx context.Context, home folder.Folder, log *slog.Logger, obey func(context.Context, order) answer) {
	dir := filepath.Join(home.Dir, ordersFolder)
	tick := time.NewTicker(orderEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			continue // nobody has left an order yet
		}
		for _, f := range files {
			base, is := strings.CutSuffix(f.Name(), orderSuffix)
			if info, err := f.Info(); err != nil || time.Since(info.ModTime()) > orderPatience {
				_ = os.Remove(filepath.Join(dir, f.Name())) // nobody waits for it any more
			} else if is {
				takeOrder(ctx, filepath.Join(dir, base), log, obey)
			}
		}
	}
}

func takeOrder(ctx context.Context, base string, log *slog.Logger, obey func(context.Context, order) answer) {
	var o order
	b, err := os.ReadFile(base + orderSuffix)
	if err == nil && len(b) > maxOrder {
		err = fmt.Errorf("order of %d bytes, at most %d are taken", len(b), maxOrder)
	}
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	var a answer
	if err != nil {
		a.Error = fmt.Sprintf("read order: %v", err)
	} else {
		ctx, cancel := context.WithTimeout(ctx, orderPatience-time.Second)
		a = obey(ctx, o)
		cancel()
		if a.Error != "" {
			log.Warn("an order was not obeyed", "order", o.Verb, "error", a.Error)
		} else {
			log.Info("an order was obeyed", "order", o.Verb)
		}
	}
	if body, err := json.Marshal(a); err == nil {
		if err := store.WriteFile(base+answerSuffix, body, 0o600); err != nil {
			log.Warn("an order's answer cannot be written", "error", err)
		}
	}
	if err := os.Remove(base + orderSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("an order cannot be taken away", "error", err)
	}
}
