//go:build !freebsd

package main

// bpfOwner returns the mode and the group that /dev/bpf has on a fresh FreeBSD. The models have no
// others.
func bpfOwner() string { return "mode 0600, group wheel" }
