package bpf

import "sync/atomic"

// Stats are the counters of a Reader since it was opened. All of them only grow.
type Stats struct {
	Packets uint64 // packets that iteration or reading has passed
	Bytes   uint64 // bytes captured of them

	Lent        uint64 // buffers leased where the kernel had put the packets
	CopiedOut   uint64 // small fills copied out so that the buffer could go back at once; all, when buffered
	ReadInPlace uint64 // times that packets were read in the store buffer before it was assigned
	Flushed     uint64 // buffers dropped because a filter change or Flush said so
	Rotations   uint64 // rotations asked for that the kernel made
	Waits       uint64 // sleeps
	Syscalls    uint64 // system calls made by the reading goroutine, sleeps included

	// Received and Dropped are the kernel's: packets the interface showed the descriptor, before the
	// filter, and packets that matched and found no room. The kernel has them in 32 bits and zeroes
	// them when anybody resets the descriptor. What a reset by another holder of the descriptor took
	// away is missing, so they are lower bounds; and they must be asked for once in 2^31 packets.
	Received uint64
	Dropped  uint64
}

type counters struct {
	packets, bytes, lent, copiedOut, readInPlace, flushed, rotations, waits, syscalls atomic.Uint64
}

// kernelCounters carry the kernel's 32-bit counters on in 64 bits. Reader.control guards them.
type kernelCounters struct {
	recv, drop         uint64
	lastRecv, lastDrop uint32
}

// advance returns how far a counter has come from last to now. A counter that has gone back was zeroed,
// unless the step is short enough to be the wrap from 2^32-1 to 0.
func advance(last, now uint32) uint64 {
	if step := now - last; now >= last || step < 1<<31 && last >= 1<<31 {
		return uint64(step)
	}
	return uint64(now)
}

// sample reads the kernel's counters; Reader.control is held.
func (r *Reader) sample() error {
	s, err := r.dev.Stats()
	if err != nil {
		return err
	}
	k := &r.lost
	k.recv += advance(k.lastRecv, s.Recv)
	k.drop += advance(k.lastDrop, s.Drop)
	k.lastRecv, k.lastDrop = s.Recv, s.Drop
	return nil
}

// Stats returns the counters. After Close, the kernel's are those of the last call before. Errors:
// os.ErrClosed, with the counters as far as they are known.
func (r *Reader) Stats() (Stats, error) {
	r.control.Lock()
	err := r.sample()
	recv, drop := r.lost.recv, r.lost.drop
	r.control.Unlock()
	r.touched()
	return Stats{
		Packets: r.stats.packets.Load(), Bytes: r.stats.bytes.Load(),
		Lent: r.stats.lent.Load(), CopiedOut: r.stats.copiedOut.Load(), ReadInPlace: r.stats.readInPlace.Load(),
		Flushed: r.stats.flushed.Load(), Rotations: r.stats.rotations.Load(),
		Waits: r.stats.waits.Load(), Syscalls: r.stats.syscalls.Load(),
		Received: recv, Dropped: drop,
	}, err
}
