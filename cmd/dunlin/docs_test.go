package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const repository = "../.."

// pages are what people read: the README, docs and what is deployed.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "deploy/*"} {
		names, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all[strings.TrimPrefix(filepath.ToSlash(name), repository+"/")] = string(b)
		}
	}
	return all
}

// words splits a command line as a shell does, as far as documents need it: quotes, and comments at the end.
func words(line string) (out []string) {
	for _, m := range regexp.MustCompile(`"([^"]*)"|'([^']*)'|(#.*)|(\S+)`).FindAllStringSubmatch(line, -1) {
		switch {
		case m[3] != "":
			return out
		case m[4] != "":
			out = append(out, m[4])
		default:
			out = append(out, m[1]+m[2])
		}
	}
	return out
}

// TestDocumentedCommandsExist parses every command line of the documents: command, flags and arguments are ones that this
// release takes. Their values are tried by the scripts.
func TestDocumentedCommandsExist(t *testing.T) {
	command := regexp.MustCompile("(?m)^(?:sudo -u dunlin )?(?:bin/)?dunlin (.*)$|`dunlin ([^`]*)`")
	seen := 0
	for page, text := range pages(t) {
		for _, m := range command.FindAllStringSubmatch(text, -1) {
			line := strings.TrimSpace(m[1] + m[2])
			args := words(line)
			if len(args) == 0 || strings.ContainsAny(args[0], "…[") {
				continue
			}
			seen++
			root := newRoot(io.Discard, io.Discard)
			cmd, rest, err := root.Find(args)
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil && cmd == root {
				err = errors.New("no such command")
			}
			if err != nil && !errors.Is(err, pflag.ErrHelp) {
				t.Errorf("%s: dunlin %s: %v", page, line, err)
				continue
			}
			// Inline mentions may leave arguments out.
			if inline := m[2] != ""; !inline && cmd.Args != nil {
				if err := cmd.Args(cmd, cmd.Flags().Args()); err != nil {
					t.Errorf("%s: dunlin %s: %v", page, line, err)
				}
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d command lines were found", seen)
	}
}

// TestLinksOfDocuments: what a document links to within the repository is there.
func TestLinksOfDocuments(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)`)
	for page, text := range pages(t) {
		if !strings.HasSuffix(page, ".md") {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(repository, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}

// TestTroubleIsNamedAsTheProgramSaysIt: each message of the troubleshooting page is one of the program's.
func TestTroubleIsNamedAsTheProgramSaysIt(t *testing.T) {
	var source strings.Builder
	err := filepath.WalkDir(repository, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && d.Name() != "." || d.Name() == "out" || d.Name() == "bin") {
			return fs.SkipDir // what programs write, and may remove meanwhile
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(name)
		source.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(pages(t)["docs/troubleshooting.md"], -1)
	for _, row := range rows {
		if !strings.Contains(source.String(), row[1]) {
			t.Errorf("docs/troubleshooting.md has %q, which the program does not say", row[1])
		}
	}
	if len(rows) < 20 {
		t.Errorf("%d messages", len(rows))
	}
}

// TestDocumentedTargetsExist: each make target of the documents is one of the Makefile.
func TestDocumentedTargetsExist(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for page, text := range pages(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ((?:[a-z0-9-]+ ?)+)").FindAllStringSubmatch(text, -1) {
			for target := range strings.FieldsSeq(m[1]) {
				seen++
				if !regexp.MustCompile(`(?m)^` + target + `:`).Match(b) {
					t.Errorf("%s: make %s: the Makefile has no such target", page, target)
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d targets were found", seen)
	}
}
