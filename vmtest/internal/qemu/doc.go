// Package qemu starts QEMU with a boot payload and keeps its console. It ensures that QEMU ends
// when the process that started it ends.
package qemu
