package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// narrow has a pipe hold no more than a page, some dozens of lines: who writes them cannot run far ahead of who reads.
func narrow(pipe *os.File) error {
	connection, err := pipe.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := connection.Control(func(fd uintptr) { _, failed = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, os.Getpagesize()) }); err != nil {
		return err
	}
	return failed
}
