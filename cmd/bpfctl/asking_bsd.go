//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"os"
	"syscall"
)

// askingSignals ask a capture for its state. A terminal sends SIGINFO for Ctrl-T.
var askingSignals = []os.Signal{syscall.SIGINFO, syscall.SIGUSR1}
