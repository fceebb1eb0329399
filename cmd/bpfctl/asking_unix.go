//go:build unix && !(darwin || dragonfly || freebsd || netbsd || openbsd)

package main

import (
	"os"
	"syscall"
)

// askingSignals ask a capture for its state.
var askingSignals = []os.Signal{syscall.SIGUSR1}
