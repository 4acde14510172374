//go:build !unix

package localswarm

// freeze would stop the process where it stands; this system has no way to.
func (p *process) freeze() bool { return false }

func (p *process) thaw() {}
