//go:build unix && !linux

package localswarm

import "syscall"

// childAttributes puts a child into a process group of its own. When this process dies, the child sees its standard
// input end.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
