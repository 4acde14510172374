package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"dunlin/invite"
	"dunlin/store"
)

func newService(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use: "service", Short: "have this machine's system start dunlin join by itself", Example: "  dunlin service install dunlin1:… --up 8mbit --schedule \"22:00-07:00\" --pause-when-busy",
		Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	options := t.settings.config.joining()
	cmd.AddCommand(
		t.command("install INVITE", "start dunlin join now and whenever you log in, with these flags; again for a newer dunlin or other flags",
			"  dunlin service install dunlin1:… --pause-when-busy", exactly("the invite"), t.serviceInstall, options...),
		t.command("print INVITE", "print the file that install would write, and what it would run",
			"  dunlin service print dunlin1:… > ~/.config/systemd/user/dunlin.service", exactly("the invite"), t.servicePrint, options...),
		t.command("remove", "stop it and start it no more; state stays", "  dunlin service remove", exactly(), t.serviceRemove),
	)
	return cmd
}

// service is how one kind of system keeps a program running for a user.
type service struct {
	path      string // of its file
	form      string // a template of serviceFacts
	wide      bool   // the file is in UTF-16, little endian with a byte order mark
	start     [][]string
	stop      [][]string // before the file goes; faults are told and passed over, since it may not run
	gone      [][]string // after it went
	afterword string
}

// serviceFacts are what a service's file names.
type serviceFacts struct {
	Args []string // program first
	Logs string   // file, where the system keeps none itself
	User string   // id on this machine
}

// serviceOf returns the service of a system for a user's home folder and id.
func serviceOf(system, home, uid string) (service, error) {
	switch system {
	case "linux":
		return service{
			path: filepath.Join(home, ".config", "systemd", "user", "dunlin.service"),
			form: `[Unit]
Description=dunlin, a peer that trains a language model together with others
Documentation=man:dunlin-join(1)
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={{range $i, $a := .Args}}{{if $i}} {{end}}{{systemd $a}}{{end}}
# It hands over its rounds and says goodbye on SIGTERM, within seconds.
KillSignal=SIGTERM
TimeoutStopSec=30
Restart=on-failure
RestartSec=30
Nice=10
IOSchedulingClass=idle

[Install]
WantedBy=default.target
`,
			start:     [][]string{{"systemctl", "--user", "daemon-reload"}, {"systemctl", "--user", "enable", "dunlin.service"}, {"systemctl", "--user", "restart", "dunlin.service"}},
			stop:      [][]string{{"systemctl", "--user", "disable", "--now", "dunlin.service"}},
			gone:      [][]string{{"systemctl", "--user", "daemon-reload"}},
			afterword: "its log: journalctl --user -u dunlin -f\nto train while nobody is logged in: loginctl enable-linger",
		}, nil
	case "darwin":
		path := filepath.Join(home, "Library", "LaunchAgents", "org.dunlin.worker.plist")
		return service{
			path: path,
			form: `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>org.dunlin.worker</string>
  <key>ProgramArguments</key>
  <array>
{{range .Args}}    <string>{{html .}}</string>
{{end}}  </array>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>
  <key>ExitTimeOut</key><integer>30</integer>
  <key>ProcessType</key><string>Background</string>
  <key>StandardErrorPath</key><string>{{html .Logs}}</string>
</dict>
</plist>
`,
			start:     [][]string{{"launchctl", "bootstrap", "gui/" + uid, path}},
			stop:      [][]string{{"launchctl", "bootout", "gui/" + uid + "/org.dunlin.worker"}},
			afterword: "its log: tail -f " + filepath.Join(home, "Library", "Logs", "dunlin.log"),
		}, nil
	case "windows":
		path := filepath.Join(home, "AppData", "Local", "dunlin", "task.xml")
		return service{
			path: path, wide: true, // schtasks takes no UTF-8
			form: `<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <Triggers><LogonTrigger><Enabled>true</Enabled><UserId>{{html .User}}</UserId></LogonTrigger></Triggers>
  <Principals><Principal id="owner"><UserId>{{html .User}}</UserId><LogonType>InteractiveToken</LogonType><RunLevel>LeastPrivilege</RunLevel></Principal></Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
    <RestartOnFailure><Interval>PT1M</Interval><Count>255</Count></RestartOnFailure>
  </Settings>
  <Actions Context="owner"><Exec>
    <Command>{{html (index .Args 0)}}</Command>
    <Arguments>{{range $i, $a := slice .Args 1}}{{if $i}} {{end}}{{html (windows $a)}}{{end}}</Arguments>
  </Exec></Actions>
</Task>
`,
			start:     [][]string{{"schtasks", "/Create", "/F", "/TN", "dunlin", "/XML", path}, {"schtasks", "/Run", "/TN", "dunlin"}},
			stop:      [][]string{{"schtasks", "/End", "/TN", "dunlin"}, {"schtasks", "/Delete", "/F", "/TN", "dunlin"}},
			afterword: "Windows ends tasks without a goodbye: run dunlin pause first, so that its rounds are handed over",
		}, nil
	}
	return service{}, fmt.Errorf("dunlin knows no services of %s: have your system run dunlin join at a start, and stop it with SIGTERM", system)
}

// text fills in the file's words.
func (s service) text(facts serviceFacts) ([]byte, error) {
	form, err := template.New("service").Funcs(template.FuncMap{"systemd": systemdQuote, "windows": windowsQuote}).Parse(s.form)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = form.Execute(&b, facts)
	return b.Bytes(), err
}

// encode returns the file's bytes.
func (s service) encode(text []byte) []byte {
	if !s.wide {
		return text
	}
	var b []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + string(text))) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// systemdQuote quotes one word of ExecStart (systemd.service(5)).
func systemdQuote(word string) string {
	word = strings.NewReplacer("%", "%%", "$", "$$").Replace(word)
	if word != "" && !strings.ContainsAny(word, " \t\"'\\;") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// windowsQuote quotes one word of a command line as programs take it apart: backslashes count before a quote only.
func windowsQuote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\"") {
		return word
	}
	word = regexp.MustCompile(`(\\*)"`).ReplaceAllString(word, `$1$1\"`)
	return `"` + regexp.MustCompile(`\\+$`).ReplaceAllString(word, `$0$0`) + `"`
}

// serviceHere returns the user whose dunlin runs and this system's service.
func serviceHere() (*user.User, service, error) {
	owner, err := user.Current()
	if err != nil {
		return nil, service{}, fmt.Errorf("who runs this: %w", err)
	}
	if home, err := os.UserHomeDir(); err == nil {
		owner.HomeDir = home
	}
	s, err := serviceOf(runtime.GOOS, owner.HomeDir, owner.Uid)
	return owner, s, err
}

// service returns this machine's service for a join with the flags that were chosen.
func (t *terminal) service(token string) (service, []byte, error) {
	if _, err := invite.Parse(token); err != nil {
		return service{}, nil, err
	}
	owner, s, err := serviceHere()
	if err != nil {
		return s, nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return s, nil, err
	}
	args := []string{program, "join", token}
	for key, value := range t.settings.values {
		if t.settings.chosen[key] {
			if key == "data-dir" {
				if value, err = filepath.Abs(value); err != nil {
					return s, nil, err
				}
			}
			args = append(args, "--"+key+"="+value)
		}
	}
	slices.Sort(args[3:])
	text, err := s.text(serviceFacts{Args: args, Logs: filepath.Join(owner.HomeDir, "Library", "Logs", "dunlin.log"), User: owner.Uid})
	return s, text, err
}

func (t *terminal) servicePrint(_ context.Context, _ *Config, args []string) error {
	s, text, err := t.service(args[0])
	if err != nil {
		return err
	}
	as := ""
	if s.wide {
		as = ", in UTF-16,"
	}
	fmt.Fprintf(t.err, "# install writes this%s to %s and runs:\n", as, s.path)
	for _, command := range s.start {
		fmt.Fprintln(t.err, "#   "+strings.Join(command, " "))
	}
	_, err = t.out.Write(text)
	return err
}

func (t *terminal) serviceInstall(ctx context.Context, _ *Config, args []string) error {
	s, text, err := t.service(args[0])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil { //nolint:gosec // the system's own folder
		return err
	}
	ran := false
	if runtime.GOOS != "linux" { // whose restart takes the new file; others refuse to load one twice
		ran = runAll(ctx, s.stop) == nil // it may be the first time
	}
	if err := store.WriteFile(s.path, s.encode(text), 0o600); err != nil { // a private run's invite is a secret
		return err
	}
	err = runAll(ctx, s.start)
	for deadline := time.Now().Add(stopsWithin); ran && err != nil && ctx.Err() == nil && time.Now().Before(deadline); err = runAll(ctx, s.start) {
		time.Sleep(time.Second) // launchd loads none while the one before hands over
	}
	if err != nil {
		return fmt.Errorf("the service's file is in %s, but it was not started: %w", s.path, err)
	}
	_, err = fmt.Fprintf(t.out, "dunlin is started, and will be when you log in: %s\nhow it does: dunlin status\n%s\n", s.path, s.afterword)
	return err
}

func (t *terminal) serviceRemove(ctx context.Context, _ *Config, _ []string) error {
	_, s, err := serviceHere()
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.path); err != nil {
		return fmt.Errorf("no service is installed: %w", err)
	}
	if err := runAll(ctx, s.stop); err != nil {
		fmt.Fprintf(t.err, "going on: %v\n", err)
	}
	if err := os.Remove(s.path); err != nil {
		return err
	}
	if err := runAll(ctx, s.gone); err != nil {
		fmt.Fprintf(t.err, "going on: %v\n", err)
	}
	_, err = fmt.Fprintf(t.out, "removed %s; keys and state stay in %s\n", s.path, filepath.Join(dataHome(), "worker"))
	return err
}

// stopsWithin is how long the services' files let dunlin hand over.
const stopsWithin = 30 * time.Second

// runAll runs commands one after another until one fails.
func runAll(ctx context.Context, commands [][]string) error {
	for _, c := range commands {
		out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput() //nolint:gosec // fixed words and this user's own paths
		if err != nil {
			return fmt.Errorf("%s: %w", strings.Join(c, " "), errors.Join(err, saidFirst(out)))
		}
	}
	return nil
}

// saidFirst is what a command said first, as an error; nil when it said nothing.
func saidFirst(out []byte) error {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return nil
	}
	return errors.New(shorten(line))
}
