//go:build unix && !linux && !freebsd

package qemu

import "syscall"

func lockThread() {}

// dieWithParent has nothing to offer here: the watcher's pipe does the work.
func dieWithParent() *syscall.SysProcAttr { return nil }
