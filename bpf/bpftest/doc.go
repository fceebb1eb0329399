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
// Memory from Map is ordinary Go heap. The model writes packets and their headers with plain
// stores and publishes them with an atomic add to the buffer's kernel generation, as the kernel
// does, and takes no lock that a reader of that memory takes: the race detector sees
// the protocol between kernel and reader, and nothing else keeps them apart. One store
// is stronger than the kernel's: the aligned 32-bit word that holds bh_hdrlen of the first record
// in a buffer is stored atomically, after the rest of that record, because a reader
// may look at it in a buffer that it does not own, to see whether there is a record.
//
// # Time
//
// Waiting is built on channels and timers alone, so inside a testing/synctest bubble timeouts
// are exact and cost no real time. A read timeout is a whole number of ticks ([WithHZ]).
// Make the Kernel inside the bubble that uses it.
//
// # What is left out
//
// Signals (FIOASYNC, BIOCSRSIG) are remembered and never sent. The MAC framework, the filter
// compiler (BPF_JITTER) and blocking read(2) are not there. What an interface does with a
// written packet is exact for Ethernet, loopback and tun (DLT_NULL that is not loopback, without
// TUNSIFHEAD); other link types send it as it is.
// fork(2) does not exist here, nor does memory that cannot be written to, except memory that Map
// did not return: BIOCSETZBUF gives EFAULT for that.
package bpftest
