// Package load makes packets: a storm inside the kernel that costs no system call, filters that thin it, and a writer in its place
// where there is one processor.
package load
