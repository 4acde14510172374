package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"dunlin/compress"
	"dunlin/swarm"
)

// option is one setting: how it is called, what it may be, and where it goes. Flags, environment and file all give
// text, so each setting has one parser and one error, wherever the text came from.
type option struct {
	key      string
	usage    string
	kind     string // shown in --help: "n", "path", …; "bool" takes no value
	fallback string
	allowed  string
	set      func(text string) error
}

// help is the flag's line in --help.
func (o option) help() string {
	if o.kind == "bool" || o.kind == "path" || o.kind == "text" {
		return o.usage
	}
	return o.usage + " (" + o.allowed + ")"
}

// whole is an integer from low to high.
func whole(to *int, key string, fallback, low, high int, usage string) option {
	return option{key, usage, "n", strconv.Itoa(fallback), fmt.Sprintf("%d to %d", low, high), func(text string) error {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil && !errors.Is(err, strconv.ErrRange):
			return errors.New("not a whole number")
		case err != nil || n < low || n > high:
			return errors.New("out of range")
		}
		*to = n
		return nil
	}}
}

// memory is an amount of memory; 0 is no limit.
func memory(to *int64, key, usage string) option {
	return option{key, usage, "size", "0", "like 800MB, 2.3GB or 2GiB; 0 is no limit", func(text string) error {
		digits := strings.TrimRight(text, "BKMGTkmi")
		unit, known := map[string]float64{"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[text[len(digits):]]
		amount, err := strconv.ParseFloat(digits, 64)
		if err != nil || !known || !(amount*unit >= 0 && amount*unit < 1<<60) {
			return errors.New("not an amount of memory")
		}
		*to = int64(amount * unit)
		return nil
	}}
}

// seed is any 64-bit number.
func seed(to *uint64, key string, fallback uint64, usage string) option {
	return option{key, usage, "n", strconv.FormatUint(fallback, 10), "0 to 18446744073709551615", func(text string) (err error) {
		if *to, err = strconv.ParseUint(text, 10, 64); err != nil {
			return errors.New("not a whole number in range")
		}
		return nil
	}}
}

// number is a real number from low to high.
func number(to *float64, key string, fallback, low, high float64, usage string) option {
	return option{key, usage, "x", strconv.FormatFloat(fallback, 'g', -1, 64), fmt.Sprintf("%v to %v", low, high), func(text string) error {
		x, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(x):
			return errors.New("not a number")
		case x < low || x > high:
			return errors.New("out of range")
		}
		*to = x
		return nil
	}}
}

// bandwidth is a number of bits a second, from swarm.MinRate up; "" is no limit, 0.
func bandwidth(to *int, key, usage string) option {
	return option{key, usage, "rate", "", fmt.Sprintf("like 500kbit, 10mbit or 1gbit a second, at least %dkbit", swarm.MinRate/1000), func(text string) error {
		if *to = 0; text == "" {
			return nil
		}
		x, err := parseRate(text)
		switch {
		case err != nil:
			return err
		case x < swarm.MinRate || x > 1e12:
			return errors.New("out of range")
		}
		*to = int(x)
		return nil
	}}
}

// parseRate reads bits a second.
func parseRate(text string) (float64, error) {
	for unit, factor := range map[string]float64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9} {
		if number, ok := strings.CutSuffix(strings.ToLower(text), unit); ok {
			x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil || math.IsNaN(x) {
				return 0, errors.New("not a number before the unit")
			}
			return x * factor, nil
		}
	}
	return 0, errors.New("no unit")
}

// formatRate is parseRate's inverse for whole bits.
func formatRate(bits int) string { return strconv.FormatFloat(float64(bits)/1e3, 'f', -1, 64) + "kbit" }

// limitText is formatRate where 0, no limit, is no text.
func limitText(bits int) string {
	if bits == 0 {
		return ""
	}
	return formatRate(bits)
}

// choice is one of a few words.
func choice(to *string, key, fallback, usage string, words ...string) option {
	return option{key, usage, "name", fallback, strings.Join(words, ", "), func(text string) error {
		if !slices.Contains(words, text) {
			return errors.New("unknown")
		}
		*to = text
		return nil
	}}
}

// codec is the name of a codec, or nothing.
func codec(to *string, key, usage string) option {
	return option{key, usage, "name", "", strings.Join(compress.Names(), ", "), func(text string) error {
		if text != "" {
			if _, err := compress.ByName(text); err != nil {
				return err
			}
		}
		*to = text
		return nil
	}}
}

// text is any text.
func text(to *string, key, fallback, kind, usage string) option {
	return option{key, usage, kind, fallback, "any text", func(text string) error {
		*to = text
		return nil
	}}
}

// short is a text of at most so many bytes.
func short(to *string, key string, most int, usage string) option {
	return option{key: key, usage: usage, kind: "text", allowed: fmt.Sprintf("at most %d bytes", most), set: func(text string) error {
		if len(text) > most {
			return errors.New("too long")
		}
		*to = text
		return nil
	}}
}

// needed is any text but the empty one.
func needed(to *string, key, fallback, kind, usage string) option {
	return option{key, usage, kind, fallback, "any " + kind + " that is not empty", func(text string) error {
		if text == "" {
			return errors.New("empty")
		}
		*to = text
		return nil
	}}
}

// yes is a switch.
func yes(to *bool, key, usage string) option {
	return option{key, usage, "bool", "false", "true, false", func(text string) (err error) {
		if *to, err = strconv.ParseBool(text); err != nil {
			return errors.New("neither true nor false")
		}
		return nil
	}}
}

// on is a switch that is on unless it is turned off.
func on(to *bool, key, usage string) option {
	o := yes(to, key, usage)
	o.fallback = "true"
	return o
}

// flagText is a flag's value as it was typed; option.set gives it a meaning later, together with all others.
type flagText struct{ text, kind string }

func (f *flagText) String() string { return f.text }
func (f *flagText) Type() string   { return f.kind }

func (f *flagText) Set(text string) error {
	if f.kind == "bool" {
		if _, err := strconv.ParseBool(text); err != nil {
			return errors.New("allowed: true, false")
		}
	}
	f.text = text
	return nil
}
