// Package bpftest is a model of FreeBSD's bpf(4), in memory, for tests and for programs that run
// where there is no FreeBSD.
//
// A [Kernel] has interfaces, sysctls, open descriptors and a clock. It shares none of them with
// another Kernel. It implements [zbuf.System], so that everything above the raw binding runs on it
// unchanged: the same request numbers, the same structs, the same errnos, and both buffer modes.
// The model follows FreeBSD 12.1 on amd64, and has the faults of that kernel too. [Features] turns
// on the changes of later releases: [FreeBSD14] is 14.0, and [FreeBSD16] has what the sources of 16
// show.
//
//	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
//	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
//	dev, err := k.Open() // k serves wherever a zbuf.System does
//	...
//	em0.Receive(frame)
//
// # Shared memory
//
// Memory from [Descriptor.Map] is ordinary Go heap. The model writes packets and their headers with
// plain stores. It publishes them with an atomic add to the buffer's kernel generation, as the
// kernel does. It takes no lock that a reader of that memory takes. So the race detector sees the
// protocol between kernel and reader, and nothing else keeps them apart.
//
// One store is stronger than the kernel's. The model stores the aligned 32-bit word that holds
// bh_hdrlen of a buffer's first record atomically, after the rest of that record. A reader may look
// at that word in a buffer that it does not own, to see whether there is a record.
//
// # Time
//
// The model waits on channels and timers alone. So timeouts are exact inside a testing/synctest
// bubble, and cost no real time. A read timeout is a whole number of ticks ([WithHZ]). Make the
// Kernel inside the bubble that uses it.
//
// # Differences from a kernel
//
//   - The model remembers the settings of signals (FIOASYNC, BIOCSRSIG), and sends none.
//   - It has no MAC framework and no just-in-time compiler of filters (BPF_JITTER).
//   - Written packets are exact on Ethernet, loopback and tun (DLT_NULL that is not loopback,
//     without TUNSIFHEAD). Interfaces of other link types send them unchanged.
//   - There is no fork(2). There is no read-only memory. BIOCSETZBUF gives EFAULT for memory that
//     Map did not return.
package bpftest
