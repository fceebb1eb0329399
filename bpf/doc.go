// Package bpf captures packets with FreeBSD's bpf(4). Where the kernel allows it, the Reader reads
// the packets from two buffers that the process shares with the kernel. The kernel calls that
// "zero-copy", although one copy remains, from the network stack's mbuf into the buffer. Elsewhere
// the Reader calls read(2). It never loses, repeats or tears a packet. [Reader.Mode] and
// [Reader.Stats] say what it is doing.
//
//	r, err := bpf.Open("em0", bpf.Config{})
//	if err != nil {
//		return err
//	}
//	defer r.Close()
//	for p, err := range r.Packets(ctx) {
//		if err != nil {
//			return err
//		}
//		use(p.Data(), p.WireLen())
//	}
//
// # Filters
//
// A filter is in force before the first packet. It comes from one of these:
//   - [Config].Expression, such as "tcp port 80". Open compiles it. [Reader.SetExpression] replaces
//     it while the capture runs.
//   - Package filter of this module, which compiles expressions to programs for [Config].Filter and
//     [Reader.SetFilter].
//   - tcpdump -ddd, which prints a program, a number for each field.
//   - xbpf.Assemble, which makes a program of single instructions.
//
// The type of an instruction is in another package that is named bpf. This module imports the two
// everywhere so:
//
//	import (
//		xbpf "golang.org/x/net/bpf"
//
//		"github.com/zbuf-go/zbuf/bpf"
//	)
//
// # The protocol
//
// The process lends two buffers to the kernel. The kernel fills one, the store buffer. The other
// one is free, or it is the hold buffer and waits for the process. Each buffer begins with a header
// that both sides see. The kernel assigns a buffer to the process when it adds 1 to kernel_gen
// there. The process acknowledges it when it sets user_gen to the same number:
//
//	kernel                        buffer A        buffer B
//	fills A                       store           free
//	A is full: kernel_gen+1       hold, owned     store       ← lease A
//	fills B                       hold, owned     store
//	B is full too: kernel_gen+1   owned           owned       packets are dropped until A is back
//	process: user_gen=kernel_gen  hold, acked     owned       ← lease B
//	the next packet               store           hold, owned
//
// So a buffer has four states:
//   - In the store, the kernel writes it.
//   - When the process owns it, the process reads it.
//   - When it is acknowledged, neither side touches it. The kernel takes it back at the next
//     packet.
//   - When it is free, the kernel fills it next.
//
// While traffic is dense, a reader that comes back already owns the next buffer, and makes no
// system call. Otherwise the reader sleeps in kevent(2). When it wakes, it asks the kernel to
// assign the store buffer (BIOCROTZBUF). docs/glossary.md of the module defines the words.
// docs/design.md explains the rest: tails that stick, resets and waiting.
//
// # Lifetimes
//
// A [Packet], and the slice that its Data returns, refer to the memory of the lease. They are valid
// until the lease is released, so copy what must live longer. One lease is out at a time. While it
// is out, the kernel has only the other buffer to fill. It drops packets that find no room, and
// [Stats] counts them in Dropped. [Reader.Close] may be called while a lease is out. It closes the
// descriptor at once. The memory stays mapped until the lease is released.
//
// # Concurrency
//
// One goroutine at a time reads. A reading method that is called while another one is at work
// returns [ErrLeaseOut]. Any goroutine may call everything else, also [Lease.Release]. Before
// FreeBSD 14 a read that waits occupies a thread of the operating system. The kernel allows a
// process 1,500 of them by default (kern.threads.max_threads_per_proc), and Go ends a process that
// needs more. Package fanout spreads the packets of each lease over several goroutines.
//
// # Without FreeBSD
//
// Everything runs on a model of the kernel as well: see package bpftest, and [Config].System.
// Without a model, [Open] fails on other systems. errors.Is finds [errors.ErrUnsupported] in its
// error.
package bpf
