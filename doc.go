// Package zbuf is the raw binding of FreeBSD's bpf(4): every ioctl typed, every struct pinned for amd64, arm64,
// riscv64, 386 and arm, and the memory that a process lends to the kernel. Most programs want package
// bpf below it, which captures.
//
// A [Device] is one open descriptor, on any [Backend]: the running kernel's, or a model of one (package
// bpftest), where everything above runs unchanged. The order of the calls for zero-copy capture is
// SetBufferMode, SetBuffers, SetFilter, SetInterface; a Device refuses what would make the kernel panic on
// the way (ErrResetUnsafe). The header of each lent [Buffer] says whose it is: [ZbufHeader].
//
// Source: bpf(4), and sys/net/bpf.h, bpf.c and bpf_zerocopy.c of FreeBSD.
package zbuf
