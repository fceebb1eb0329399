// Package qemu starts QEMU with a boot payload, keeps its console, and sees to
// it that it dies with whoever started it.
package qemu
