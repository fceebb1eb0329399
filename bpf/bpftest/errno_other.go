//go:build !freebsd

package bpftest

import "syscall"

// ENOTCAPABLE is the errno of an operation that [Descriptor.Limit] has taken away. Only FreeBSD has
// that errno. Elsewhere ENOTCAPABLE is a number that is no errno of the system, so that nobody
// mistakes it for one.
const ENOTCAPABLE = syscall.Errno(1<<16 + 93)
