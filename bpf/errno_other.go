//go:build !freebsd

package bpf

import "syscall"

// The errnos of Capsicum are FreeBSD's. Elsewhere the model has numbers of its own for them, which
// no errno of the system has.
const (
	enotcapable = syscall.Errno(1<<16 + 93)
	ecapmode    = syscall.Errno(1<<16 + 94)
)
