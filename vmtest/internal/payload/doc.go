// Package payload plays boot loader on the host: it lays out a FreeBSD/amd64
// kernel, its metadata, environment and memory disk as one Multiboot 1 image
// that QEMU starts with -kernel.
//
// QEMU loads only 32-bit ELF files through Multiboot, and FreeBSD's kernel is a
// 64-bit one that expects long mode, page tables and loader(8)'s metadata.
// All of that but the memory map is known on the host, so the guest has to run
// no more than the few instructions of [trampoline].
package payload
