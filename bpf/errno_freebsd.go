package bpf

import "syscall"

const (
	enotcapable = syscall.ENOTCAPABLE
	ecapmode    = syscall.ECAPMODE
)
