package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dunlin/allowance"
	"dunlin/machine"
	"dunlin/status"
	"dunlin/store"
)

// limits lists what a volunteer may change while dunlin runs, in the order in which it is shown.
func (c *Config) limits() []option {
	return append([]option{
		c.up(), c.down(),
		memory(&c.UpPerDay, "up-per-day", "most that it sends between two midnights, headers not included; then it pauses until the next one"),
		memory(&c.DownPerDay, "down-per-day", "most that it receives between two midnights, headers not included; then it pauses until the next one"),
		c.threads(), c.duty(), c.memory(), c.disk(),
		{key: "schedule", usage: "when to train, by this machine's clock", kind: "times", allowed: allowance.HoursForm, set: func(text string) (err error) {
			c.Hours, err = allowance.ParseHours(text)
			return err
		}},
		yes(&c.PauseWhenBusy, "pause-when-busy", "pause while other programs use a quarter of the processor"),
		on(&c.PauseOnBattery, "pause-on-battery", "pause while this machine runs on battery"),
	}, c.cardLimits()...)
}

// rules are the limits that decide whether to train now; the others say how.
func (c *Config) rules() allowance.Rules {
	return allowance.Rules{Hours: c.Hours, Busy: c.PauseWhenBusy, Battery: c.PauseOnBattery, UpPerDay: uint64(c.UpPerDay), DownPerDay: uint64(c.DownPerDay), Cores: machine.Cores()}
}

// limitsFile is where a data folder keeps limits that were changed on the page. A flag, the environment and a
// configuration file come before it.
const limitsFile = "limits.json"

// limitValues are limits as texts, by key.
type limitValues map[string]string

// loadLimits takes the limits that an earlier process was told on its page, but for those that this one's command
// line, environment or configuration file sets. values gets what holds now.
func (c *Config) loadLimits(dir string, s *settings) (limitValues, error) {
	kept, err := keptLimits(dir)
	if err != nil {
		return nil, err
	}
	values := limitValues{}
	for _, o := range c.limits() {
		values[o.key] = s.values[o.key]
		text, changed := kept[o.key]
		if !changed || s.chosen[o.key] {
			continue
		}
		if err := o.set(text); err != nil {
			return nil, fmt.Errorf("%s %q (from %s): %w; allowed: %s", o.key, shorten(text), filepath.Join(dir, limitsFile), err, o.allowed)
		}
		values[o.key] = text
	}
	return values, nil
}

// keptLimits reads what was changed on the page.
func keptLimits(dir string) (limitValues, error) {
	kept := limitValues{}
	path := filepath.Join(dir, limitsFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil {
		return nil, fmt.Errorf("limits that were set on the page, in %s: %w; delete it to begin with the flags", path, err)
	}
	return kept, nil
}

// changeLimits returns a Config and values with changes, all of them or none, keeps the changes in dir, and tells whether a stay in the run has to begin anew for them to hold.
func (c *Config) changeLimits(dir string, values limitValues, changes map[string]string) (next *Config, now limitValues, anew bool, err error) {
	kept, err := keptLimits(dir)
	if err != nil {
		return nil, nil, false, err
	}
	copied := *c
	next, now = &copied, maps.Clone(values)
	options := next.limits()
	var faults []error
	for key, text := range changes {
		i := slices.IndexFunc(options, func(o option) bool { return o.key == key })
		if i < 0 {
			faults = append(faults, fmt.Errorf("%q is no limit; allowed: %s", shorten(key), strings.Join(keys(options), ", ")))
			continue
		}
		text = strings.TrimSpace(text)
		if err := options[i].set(text); err != nil {
			faults = append(faults, fmt.Errorf("%s %q: %w; allowed: %s", key, shorten(text), err, options[i].allowed))
		}
		anew = anew || text != values[key] && !slices.Contains(gateKeys, key)
		now[key], kept[key] = text, text
	}
	if err := errors.Join(faults...); err != nil {
		return nil, nil, false, err
	}
	b, err := json.MarshalIndent(kept, "", "  ")
	if err == nil {
		err = store.WriteFile(filepath.Join(dir, limitsFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("keep the limits: %w", err)
	}
	return next, now, anew, nil
}

// gateKeys are the limits that hold at once.
var gateKeys = []string{"up-per-day", "down-per-day", "schedule", "pause-when-busy", "pause-on-battery"}

func keys(options []option) []string {
	out := make([]string, len(options))
	for i, o := range options {
		out[i] = o.key
	}
	return out
}

// shown are the limits for the page.
func (c *Config) shown(values limitValues) []status.Limit {
	var out []status.Limit
	for _, o := range c.limits() {
		out = append(out, status.Limit{Key: o.key, Value: values[o.key], Kind: o.kind, Usage: o.usage, Allowed: o.allowed})
	}
	return out
}

// promise says in a few words what the limits let dunlin take.
func (c *Config) promise() string {
	var parts []string
	add := func(on bool, format string, args ...any) {
		if on {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(c.Up > 0, "at most %s up (≤ %s a day)", bitRate(float64(c.Up)), status.Bytes(float64(c.Up)/8*86400))
	add(c.Down > 0, "at most %s down", bitRate(float64(c.Down)))
	add(c.UpPerDay > 0, "at most %s up a day", status.Bytes(float64(c.UpPerDay)))
	add(c.DownPerDay > 0, "at most %s down a day", status.Bytes(float64(c.DownPerDay)))
	add(c.Duty < 1, "%.0f %% of the time", 100*c.Duty)
	add(c.Memory > 0, "%s of memory", status.Bytes(float64(c.Memory)))
	add(c.Cards.Temperature > 0, "a GPU at most at %.0f °C", c.Cards.Temperature)
	add(c.Cards.Power > 0, "a GPU at most at %.0f W", c.Cards.Power)
	add(c.Hours.String() != "", "%s", c.Hours)
	add(c.PauseWhenBusy, "pause when you need the machine")
	add(c.PauseOnBattery, "pause on battery")
	return strings.Join(parts, " · ")
}

// bitRate writes bits a second.
func bitRate(bits float64) string {
	switch {
	case bits >= 1e6:
		return rate(bits/1e6) + " Mbit/s"
	case bits > 0:
		return rate(bits/1e3) + " kbit/s"
	}
	return "0 kbit/s"
}
