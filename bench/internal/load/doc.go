// Package load makes packets. It has a storm inside the kernel that takes no system call, filters
// that pass a part of it, and a writer that replaces the storm on a machine with one processor.
package load
