package localswarm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is a child that runs this same binary. It stands in a process group of its own, so that Ctrl-C reaches the
// parent alone, which lets its children drain by closing their standard input.
type process struct {
	Name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	log   string // file of its standard error
	first *firstLine
	ended chan struct{}
	Err   error // how it ended, once ended is closed
}

// startProcess runs the binary with these arguments; its standard error is appended to a log file, and env to an
// environment without this program's own settings.
func startProcess(name, binary, log string, env []string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	p := &process{Name: name, log: log, first: &firstLine{line: make(chan string, 1)}, ended: make(chan struct{})}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = p.first, out, childAttributes()
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DUNLIN_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.Err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Running reports whether the process has not ended.
func (p *process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process as a power cut would and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.ended
}

// release asks the process to drain and leave.
func (p *process) release() { _ = p.stdin.Close() } // it may be gone already

// order sends a line to the process.
func (p *process) order(line string) error {
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		return fmt.Errorf("order %q to %s: %w", line, p.Name, err)
	}
	return nil
}

// await waits until the process has ended by itself, or kills it when time is up.
func (p *process) await(limit <-chan time.Time) error {
	select {
	case <-p.ended:
	case <-limit:
		p.kill()
		return fmt.Errorf("%s did not end in time and was killed", p.Name)
	}
	if p.Err != nil {
		return p.failed()
	}
	return nil
}

// failed says how the process ended, with the end of its log.
func (p *process) failed() error {
	how := "exit code 0"
	if p.Err != nil {
		how = p.Err.Error()
	}
	text := fmt.Sprintf("%s ended by itself: %s", p.Name, how)
	if tail := lastLines(p.log, 5); tail != "" {
		text += "\nthe end of " + p.log + ":\n" + tail
	}
	return errors.New(text)
}

// lastLines returns the last lines of a file, indented, as far as they can be read.
func lastLines(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var out strings.Builder
	for _, l := range lines[max(0, len(lines)-n):] {
		if l != "" {
			fmt.Fprintf(&out, "  %.300s\n", l)
		}
	}
	return strings.TrimRight(out.String(), "\n")
}

// firstLine is a writer that hands on the first line and drops the rest.
type firstLine struct {
	mu   sync.Mutex
	buf  []byte
	done bool
	line chan string // takes one
}

func (f *firstLine) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return len(b), nil
	}
	f.buf = append(f.buf, b...)
	if end := bytes.IndexByte(f.buf, '\n'); end >= 0 {
		f.line <- string(f.buf[:end])
		f.done, f.buf = true, nil
	}
	return len(b), nil
}
