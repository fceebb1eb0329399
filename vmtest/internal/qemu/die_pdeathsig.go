//go:build linux || freebsd

package qemu

import (
	"runtime"
	"syscall"
)

// lockThread keeps the caller on one thread. The kernel sends the signal of dieWithParent when the
// thread that started the child ends.
func lockThread() { runtime.LockOSThread() }

func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
