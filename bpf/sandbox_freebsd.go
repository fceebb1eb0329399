package bpf

import (
	"os"

	"golang.org/x/sys/unix"
)

func capEnter() error { return os.NewSyscallError("cap_enter", unix.CapEnter()) }
