package localswarm

import "syscall"

// childAttributes puts a child into a process group of its own. When this process dies, the child sees its standard
// input end.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
