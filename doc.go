// Package zbuf is the raw binding of FreeBSD's bpf(4): every ioctl typed, every
// struct pinned. Most programs want package bpf below it, which captures.
package zbuf
