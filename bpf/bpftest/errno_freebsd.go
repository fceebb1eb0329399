package bpftest

import "syscall"

// ENOTCAPABLE is the errno of an operation that [Descriptor.Limit] has taken away.
const ENOTCAPABLE = syscall.ENOTCAPABLE
