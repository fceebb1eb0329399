//go:build unix && !linux && !freebsd

package qemu

import "syscall"

func lockThread() {}

// dieWithParent does nothing here: the watcher's pipe does the work.
func dieWithParent() *syscall.SysProcAttr { return nil }
