//go:build !freebsd

package main

// bpfOwner says who may open /dev/bpf in the models: what a fresh FreeBSD has.
func bpfOwner() string { return "mode 0600, group wheel" }
