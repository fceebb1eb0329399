// Package sysctl reads and writes FreeBSD's sysctls by name, and has types for those of bpf(4).
//
// A [Tree] has all sysctls of one kernel. [Host] returns that of the running kernel. Package
// sysctltest has a tree in memory that works on every system.
//
//	t := sysctl.Host()
//	n, err := t.Int64("vm.stats.vm.v_free_count")
//	on, err := t.BPF().ZeroCopyEnabled()
//	listeners, err := t.BPF().Stats()
//
// # Sizes and types
//
// The kernel tells the type of each sysctl (sysctl.oidfmt, see [Format]). Every get and set asks
// for the type first. So you cannot read a string as an integer, and an answer of the wrong length
// is an error, not a number. A get or set converts integers between widths if the value fits.
//
// # Errors
//
// Every error is an [*Error]. It has the name of the sysctl. If the kernel refused the call, the
// error wraps the kernel's errno. errors.Is finds these errors:
//
//	fs.ErrNotExist        there is no such sysctl
//	fs.ErrPermission      this process may not do it
//	ErrReadOnly           nobody may set it (also fs.ErrPermission, as the kernel says EPERM)
//	ErrType               the value has another type than the call asks for
//	ErrRange              the value does not fit, or the kernel refused it
//	errors.ErrUnsupported the system is not FreeBSD
//
// # Concurrency
//
// A Tree has no state. Any goroutine may call any method at any time. A get and a set after it are
// two calls to the kernel, and another process can set the sysctl between them.
package sysctl
