package data

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// maxGoFile leaves out tables and other oddities of the Go tree, in bytes.
const maxGoFile = 100_000

// GoSource reads the default corpus: the Go files below GOROOT/src without
// tests, testdata, vendored and generated files and files over 100 kB, about
// 40 MB. It needs an installed Go: $GOROOT, or the go command on the path.
func GoSource() (*Corpus, error) {
	root, err := goRoot(os.Getenv, goEnv)
	if err != nil {
		return nil, err
	}
	return goSourceAt(root)
}

func goSourceAt(root string) (*Corpus, error) {
	src := filepath.Join(root, "src")
	files, err := listFolder(src, "", wantGoFile)
	if err != nil {
		return nil, fmt.Errorf("read the Go source tree: %w", err)
	}
	small := files[:0]
	for _, f := range files {
		if f.size <= maxGoFile {
			small = append(small, f)
		}
	}
	name := "Go source"
	if v, err := os.ReadFile(filepath.Join(root, "VERSION")); err == nil {
		line, _, _ := strings.Cut(string(v), "\n")
		name = "source of " + strings.TrimSpace(line)
	}
	return join(name, small, skipBinary, func(text []byte) bool { return !isGenerated(text) })
}

// wantGoFile takes a path relative to GOROOT/src; a folder's ends in a slash.
func wantGoFile(rel string) bool {
	if folder, ok := strings.CutSuffix(rel, "/"); ok {
		base := folder[strings.LastIndexByte(folder, '/')+1:]
		return base != "testdata" && base != "vendor"
	}
	return strings.HasSuffix(rel, ".go") && !strings.HasSuffix(rel, "_test.go")
}

// generatedLine is what Go's convention asks of generators
// (go.dev/s/generatedcode).
var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.\r?$`)

// isGenerated looks for that line before the package clause.
func isGenerated(text []byte) bool {
	if bytes.HasPrefix(text, []byte("package ")) {
		return false
	}
	head, _, _ := bytes.Cut(text, []byte("\npackage "))
	return generatedLine.Match(head)
}

// goRoot finds the Go installation. A binary built with -trimpath does not
// remember it, so the environment and the go command are asked.
func goRoot(getenv func(string) string, ask func() (string, error)) (string, error) {
	root := getenv("GOROOT")
	if root == "" {
		var err error
		if root, err = ask(); err != nil {
			return "", fmt.Errorf("find the Go source tree: %w: install Go, set GOROOT, or name text of your own with --data", err)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "src")); err != nil || !info.IsDir() {
		return "", fmt.Errorf("find the Go source tree: GOROOT is %q and has no src folder: set GOROOT to an installed Go, or name text of your own with --data", root)
	}
	return root, nil
}

// goEnv asks the go command. It runs outside any module and with the local
// toolchain, so that a go.mod nearby cannot make it download another.
func goEnv() (string, error) {
	cmd := exec.Command("go", "env", "GOROOT")
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	root := strings.TrimSpace(string(out))
	if root == "" {
		return "", errors.New("go env GOROOT is empty")
	}
	return root, nil
}
