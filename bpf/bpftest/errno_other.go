//go:build !freebsd

package bpftest

import "syscall"

// ENOTCAPABLE is what a descriptor gives for an operation that Limit has taken away. The errno is
// FreeBSD's own; elsewhere this is a number that is no errno of the system, so that
// it can be mistaken for none.
const ENOTCAPABLE = syscall.Errno(1<<16 + 93)
