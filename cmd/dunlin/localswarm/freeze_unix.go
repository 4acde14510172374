//go:build unix

package localswarm

import "syscall"

// freeze stops the process where it stands, as a machine that hangs; thaw lets it go on. False when that cannot be done.
func (p *process) freeze() bool { return p.cmd.Process.Signal(syscall.SIGSTOP) == nil }

func (p *process) thaw() { _ = p.cmd.Process.Signal(syscall.SIGCONT) } // it may be gone already
