//go:build freebsd

package main

import (
	"fmt"
	"syscall"
)

// Commands of procctl(2), sys/procctl.h.
const (
	reapAcquire = 2 // PROC_REAP_ACQUIRE
	reapKill    = 6 // PROC_REAP_KILL
)

// becomeReaper makes this process the reaper of the orphans among its descendants. pid 1 always is
// the reaper of all processes.
func becomeReaper() error {
	if err := reaperControl(reapAcquire, nil); err != nil {
		return fmt.Errorf("become reaper: %w", err)
	}
	return nil
}

// killDescendants sends SIGKILL. In pid 1 it sends the signal to all other processes, and in
// another process to all descendants. ESRCH means that there are none.
func killDescendants() error {
	if isInit() {
		return syscall.Kill(-1, syscall.SIGKILL)
	}
	const sizeofReaperKill = 20 // words of struct procctl_reaper_kill; the first is the signal
	arg := make([]uint32, sizeofReaperKill)
	arg[0] = uint32(syscall.SIGKILL)
	return reaperControl(reapKill, arg)
}
