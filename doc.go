// Package zbuf is the raw binding of FreeBSD's bpf(4). It has a typed method for every ioctl, every
// struct in the layout that the kernel has on amd64, arm64, riscv64, 386 and arm, and the memory
// that a process lends to the kernel. Most programs want package bpf, which captures packets. It
// stands on this one.
//
// A [Device] is one open descriptor on a [Backend]. The backend is the running kernel's, or that of
// a model of a kernel (package bpftest). Everything above it runs on both.
//
// To capture with zero-copy, call [Device.SetBufferMode], [Device.SetBuffers], [Device.SetFilter]
// and [Device.SetInterface], in this order. A Device refuses calls that would make the kernel panic
// ([ErrResetUnsafe], [ErrReattachUnsafe]). The header of each lent [Buffer] says whether the
// process or the kernel owns it: see [ZbufHeader].
//
// The sources are bpf(4), and sys/net/bpf.h, bpf.c and bpf_zerocopy.c of FreeBSD.
package zbuf
