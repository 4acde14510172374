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
	facts := serviceFacts{Args: []string{"/opt/my tools/dunlin", "join", "dunlin1:abc", "--name=Ana & 50% of $HOME", "--schedule=22:00-07:00, sat 00:00-24:00"}, Logs: "/Users/ana/Library/Logs/dunlin.log", User: "S-1-5-21-7"}
	for system, wants := range map[string][]string{
		"linux": {
			`ExecStart="/opt/my tools/dunlin" join dunlin1:abc "--name=Ana & 50%% of $$HOME" "--schedule=22:00-07:00, sat 00:00-24:00"`,
			"KillSignal=SIGTERM\n", "Restart=on-failure\n", "WantedBy=default.target\n",
		},
		"darwin":  {"<string>/opt/my tools/dunlin</string>", "<string>--name=Ana &amp; 50% of $HOME</string>", "<key>RunAtLoad</key><true/>", "<key>SuccessfulExit</key><false/>"},
		"windows": {"<Command>/opt/my tools/dunlin</Command>", `<Arguments>join dunlin1:abc &#34;--name=Ana &amp; 50% of $HOME&#34; `, "<StopIfGoingOnBatteries>false<", "<Enabled>true</Enabled><UserId>S-1-5-21-7</UserId></LogonTrigger>"},
	} {
		s, err := serviceOf(system, "/home/ana", "1000")
		if err != nil {
			t.Fatal(err)
		}
		text, err := s.text(facts)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %q in\n%s", system, want, text)
			}
		}
		if system != "linux" {
			in := xml.NewDecoder(strings.NewReader(string(text)))
			in.CharsetReader = func(_ string, text io.Reader) (io.Reader, error) { return text, nil }
			for {
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
			if text, err = s.text(facts); err == nil {
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

// TestWindowsTakesItsTask: schtasks wants UTF-16, and its task the words as they were.
func TestWindowsTakesItsTask(t *testing.T) {
	for system, want := range map[string]string{"windows": "\xff\xfea\x00\xe4\x00=\xd8\x26\xdc", "linux": "aä🐦"} {
		s, err := serviceOf(system, "/home/ana", "1000")
		if err != nil {
			t.Fatal(err)
		}
		if got := s.encode([]byte("aä🐦")); string(got) != want {
			t.Errorf("%s: the file is %q, not %q", system, got, want)
		}
	}
	for word, want := range map[string]string{
		`join`: `join`, `C:\runs\`: `C:\runs\`, ``: `""`, `D:\my runs\`: `"D:\my runs\\"`, `--name=the "big" one`: `"--name=the \"big\" one"`, `a\"b`: `"a\\\"b"`,
	} {
		if got := windowsQuote(word); got != want {
			t.Errorf("%s is quoted as %s, not %s", word, got, want)
		}
	}
}
