//go:build !freebsd

package bpf

import "syscall"

// Only FreeBSD has the errnos of Capsicum. Elsewhere the model uses numbers for them that are no
// errno of the system.
const (
	enotcapable = syscall.Errno(1<<16 + 93)
	ecapmode    = syscall.Errno(1<<16 + 94)
)
