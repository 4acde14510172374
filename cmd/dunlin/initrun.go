package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	initKey  = "init"
	initFile = "run.yaml"
)

// initRun writes a file of settings for `dunlin coordinator`, with what each means. It overwrites nothing.
func (t *terminal) initRun(args []string) error {
	path := initFile
	if len(args) == 1 {
		path = args[0]
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		return fmt.Errorf("%s exists: choose another name, or remove it", path)
	}
	if err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	_, err = f.WriteString(settingsFile(t.runSettings, t.settings.values, path))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write settings to %s: %w", path, err)
	}
	_, err = fmt.Fprintf(t.out, "%s has every setting of a run; change what you like, then: dunlin coordinator %s\n", path, path)
	return err
}

// settingsFile lists options in YAML, each under what it means and may be. Those without a value are commented out.
func settingsFile(options []option, values map[string]string, path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# A run of dunlin. Start it, or resume it, with: dunlin coordinator %s\n", path)
	b.WriteString("# The first start makes the run and fixes its settings: later changes here make no difference to it.\n")
	for _, o := range options {
		fmt.Fprintf(&b, "\n# %s\n", o.help())
		switch value := values[o.key]; {
		case value == "":
			fmt.Fprintf(&b, "# %s: \n", o.key)
		case o.kind == "n" || o.kind == "x" || o.kind == "bool":
			fmt.Fprintf(&b, "%s: %s\n", o.key, value)
		default:
			fmt.Fprintf(&b, "%s: %s\n", o.key, strconv.Quote(value))
		}
	}
	return b.String()
}
