// Package payload does the work of a boot loader on the host. It lays out a FreeBSD/amd64 kernel,
// its metadata, its environment and its memory disk as one Multiboot 1 image. QEMU starts that
// image with -kernel.
//
// QEMU loads only 32-bit ELF files through Multiboot. FreeBSD's kernel is a 64-bit file that
// expects long mode, page tables and loader(8)'s metadata. The host knows all of that but the
// memory map. So the guest runs only the few instructions of [trampoline].
package payload
