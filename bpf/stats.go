package bpf

// Stats are the counters of a Reader since it was opened. All of them only grow.
type Stats struct {
	Packets uint64 // packets that iteration or reading has passed
	Bytes   uint64 // bytes captured of them

	Lent        uint64 // batches that were delivered in a buffer lent to the kernel
	CopiedOut   uint64 // batches that were copied first; in buffered mode all of them
	ReadInPlace uint64 // times that packets were read in the store buffer before it was assigned
	Flushed     uint64 // full buffers that Flush or a filter change discarded
	Rotations   uint64 // rotations that the reader asked for and the kernel made
	Waits       uint64 // sleeps
	Syscalls    uint64 // system calls of the reading goroutine, sleeps included

	// Received and Dropped come from the kernel. Received counts the packets that the interface has
	// shown to the descriptor, before the filter. Dropped counts the packets that passed the filter
	// and found no room.
	//
	// They are lower bounds. The kernel zeroes its counters at every reset: Flush, SetFilter with
	// flush, and a reset by another process that holds the descriptor. The Reader reads them just
	// before its own resets. It misses what arrives between the two system calls, a few
	// microseconds, and what another process's reset took away. The kernel counts in 32 bits, so
	// call Stats at least once in 2^31 packets.
	Received uint64
	Dropped  uint64
}

// Stats returns the counters. After Close it returns Received and Dropped as of the last call or
// reset before Close.
//
// Errors:
//   - os.ErrClosed after Close. The counters are returned as far as they are known.
func (r *Reader) Stats() (Stats, error) {
	r.gate.mu.Lock()
	err := r.kernel.sample(r.dev)
	recv, drop := r.kernel.recv, r.kernel.drop
	r.gate.mu.Unlock()
	r.touched()
	e := r.eng.counts()
	packets, bytes := r.passed.values(&r.state)
	return Stats{
		Packets: packets, Bytes: bytes,
		Lent: e.lent, CopiedOut: e.copiedOut, ReadInPlace: e.readInPlace,
		Flushed: e.flushed, Rotations: e.rotations,
		Waits: r.wait.waits.Load(), Syscalls: e.syscalls + r.wait.syscalls.Load(),
		Received: recv, Dropped: drop,
	}, err
}
