// Package bpf captures packets with FreeBSD's bpf(4): out of memory shared with the kernel where it
// allows that ("zero-copy" is its name; one copy, from the network stack's mbuf into the
// buffer, remains), and with read(2) where not. It never loses, repeats or tears a packet, and always
// says what it is doing.
//
//	r, err := bpf.Open("em0", bpf.Config{})
//	if err != nil {
//		return err
//	}
//	defer r.Close()
//	for {
//		l, err := r.Lease(ctx)
//		if err != nil {
//			return err
//		}
//		for p := range l.Packets() {
//			use(p.Data(), p.WireLen())
//		}
//		l.Release()
//	}
//
// # The protocol
//
// Two buffers are lent to the kernel. It fills one (the store buffer) and keeps the other ready (free) or
// waiting for the process (hold). Each begins with a header that both sides see; whoever counts
// its generation up hands the buffer over:
//
//	kernel                        buffer A        buffer B
//	fills A                       store           free
//	A is full: kernel_gen+1       hold, owned     store       ← lease A
//	fills B                       hold, owned     store
//	B is full too: kernel_gen+1   owned           owned       packets are dropped until A is back
//	process: user_gen=kernel_gen  hold, acked     owned       ← lease B
//	the next packet               store           hold, owned
//
// So the four states of a buffer are: store (the kernel writes), owned (the process reads), acknowledged
// (nobody touches it, the kernel takes it at the next packet), free. While traffic is dense, a
// reader finds the next buffer owned when it comes back, and makes no system call. While it is not, it
// sleeps in kevent(2), and asks the kernel to hand over what there is (BIOCROTZBUF). docs/design.md of the
// module has the rest: the tails that stick, resets, waiting, and why each step is right.
//
// # Lifetimes
//
// A [Packet], and the slice its Data returns, refer to the lease, and die when it is
// released: copy what must live longer. One lease is out at a time. While it is, the kernel has only the other
// buffer to fill; packets for which there is no room are counted in [Stats].Dropped. Close may
// be called while a lease is out: the descriptor is closed at once, the memory goes with the lease.
//
// # Concurrency
//
// One goroutine at a time reads. Everything else, also [Lease.Release], may be called from any goroutine.
// A blocked read occupies an operating system thread. Package fanout spreads the packets of each lease over several
// goroutines.
//
// # Without FreeBSD
//
// Everything runs on a model of the kernel as well: see package bpftest, and Config.System. Where there is neither,
// Open returns an error that is errors.ErrUnsupported.
package bpf
