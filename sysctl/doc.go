// Package sysctl reads and writes FreeBSD's sysctls by name, and has types for those of bpf(4).
//
// A [Tree] is where they live: [Host] is the running kernel, and package
// sysctltest has one in memory that runs everywhere.
//
//	t := sysctl.Host()
//	n, err := t.Int64("vm.stats.vm.v_free_count")
//	on, err := t.BPF().ZeroCopyEnabled()
//	listeners, err := t.BPF().Stats()
//
// # Sizes and types
//
// The kernel says of each sysctl what it holds (sysctl.oidfmt, see [Format]). Every get and
// set asks for that first: what is not an integer cannot be read as one, and an answer that
// is not as long as its type says is an error, not a number. Integers are converted between
// widths as long as the value fits.
//
// # Errors
//
// Every error is an [*Error] with the sysctl's name and wraps the kernel's errno, if the kernel
// was the one that refused. errors.Is finds in them:
//
//	fs.ErrNotExist        no such sysctl
//	fs.ErrPermission      not allowed for this process
//	ErrReadOnly           not allowed for anyone (also fs.ErrPermission: the kernel's EPERM)
//	ErrType               not a value of the kind that was asked for
//	ErrRange              a value that does not fit, or that the kernel refused
//	errors.ErrUnsupported no FreeBSD
//
// # Concurrency
//
// A Tree has no state of its own: everything may be called concurrently. A read that is followed by
// a set is two calls to the kernel.
package sysctl
