// Package bpf captures packets with FreeBSD's bpf(4), out of memory shared with the kernel where it
// allows that, and with read(2) where not.
package bpf
