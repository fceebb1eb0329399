package bpftest

import "syscall"

// ENOTCAPABLE is what a descriptor gives for an operation that Limit has taken away.
const ENOTCAPABLE = syscall.ENOTCAPABLE
