package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestServices writes the file of each system with words that need quoting, and reads it as the system would.
func TestServices(t *testing.T) {
	facts := serviceFacts{Args: []string{"/opt/my tools/dunlin", "join", "dunlin1:abc", "--name=Ana & 50% of $HOME", "--schedule=22:00-07:00, sat 00:00-24:00"}, Logs: "/Users/ana/Library/Logs/dunlin.log"}
	for system, wants := range map[string][]string{
		"linux": {
			`ExecStart="/opt/my tools/dunlin" join dunlin1:abc "--name=Ana & 50%% of $$HOME" "--schedule=22:00-07:00, sat 00:00-24:00"`,
			"KillSignal=SIGTERM\n", "Restart=on-failure\n", "WantedBy=default.target\n",
		},
		"darwin":  {"<string>/opt/my tools/dunlin</string>", "<string>--name=Ana &amp; 50% of $HOME</string>", "<key>RunAtLoad</key><true/>", "<key>SuccessfulExit</key><false/>"},
		"windows": {"<Command>/opt/my tools/dunlin</Command>", `<Arguments>join dunlin1:abc &#34;--name=Ana &amp; 50% of $HOME&#34; `, "<StopIfGoingOnBatteries>false<"},
	} {
		s, err := serviceOf(system, "/home/ana", "1000")
		if err != nil {
			t.Fatal(err)
		}
		text, err := s.write(facts)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %q in\n%s", system, want, text)
			}
		}
		if system != "linux" {
			for in := xml.NewDecoder(strings.NewReader(string(text))); ; {
				if _, err := in.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s: %v in\n%s", system, err, text)
				}
			}
			continue
		}
		if verify, err := exec.LookPath("systemd-analyze"); err == nil {
			program := filepath.Join(t.TempDir(), "my dunlin")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil { //nolint:gosec // it must be executable
				t.Fatal(err)
			}
			facts := facts
			facts.Args = append([]string{program}, facts.Args[1:]...)
			unit := filepath.Join(t.TempDir(), "dunlin.service")
			if text, err = s.write(facts); err == nil {
				err = os.WriteFile(unit, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			out, _ := exec.CommandContext(t.Context(), verify, "--user", "--man=no", "verify", unit).CombinedOutput() // fails where no systemd runs
			if strings.Contains(string(out), unit+":") {
				t.Errorf("systemd says of the unit: %s", out)
			}
		}
	}
	if _, err := serviceOf("plan9", "/usr/ana", "1"); err == nil || !strings.Contains(err.Error(), "dunlin join at a start") {
		t.Errorf("an unknown system: %v", err)
	}
}
