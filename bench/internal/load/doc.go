// Package load makes packets: a storm inside the kernel that costs no system call, and filters that thin it.
package load
