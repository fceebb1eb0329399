package bpf

import (
	"sync"
	"sync/atomic"
)

// An engine takes packets out of the kernel. There are two: lent reads the buffers that the process
// has lent to the kernel, and buffered calls read(2). An engine knows the descriptor, the gate and
// its own state. It knows nothing of the Reader that uses it.
//
// The reading goroutine calls every method but counts, and discard and catchUp as noted.
type engine interface {
	// take returns records that are there already. It makes no system call.
	take() (batch, bool)
	// fetch makes the system calls that bring up whatever the kernel has. readable is true if the
	// kernel has just said that there is something.
	fetch(readable bool) (batch, bool, error)
	// release gives back what take or fetch returned. With Config.Guard it also makes the memory
	// inaccessible.
	release(batch)
	// expose makes the records of b accessible. Only Config.Guard needs it.
	expose(b *batch) error

	// behind reports whether more packets are likely to be there, so that fetch is worth a call
	// before the reader sleeps.
	behind() bool
	// awaited tells the engine that the last take came right after a sleep, so it is not behind.
	awaited()
	// rearm reports whether the kernel must look afresh whether the descriptor is readable.
	rearm() bool
	// empty reports whether the kernel had no packets at the last system call on the descriptor,
	// as far as memory shows it.
	empty() bool

	// discard notes that the kernel has thrown away its packets. The gate is locked. Any goroutine
	// may call it.
	discard()
	// catchUp gives back the buffers that were full before the last discard. The gate is locked.
	// The caller is the reading goroutine, or has made sure that nobody reads.
	catchUp()

	// counts returns the counters so far. Any goroutine may call it.
	counts() engineStats
	// forget drops all references to memory, which goes away. The gate is locked. Only counts and
	// discard may be called afterwards.
	forget()
}

// A batch is a run of records that an engine has handed out.
type batch struct {
	buf   []byte
	epoch uint64 // of the gate, when the engine took it
	gen   uint32 // of the lent buffer: the generation to acknowledge
	idx   int8   // which lent buffer, or copied
	part  bool   // the store buffer had more
}

// copied is the idx of a batch in the process's own memory. There is nothing to acknowledge.
const copied = -1

// A gate keeps resets of the descriptor apart from the engine. BIOCFLUSH, BIOCSETF and BIOCSDLT are
// resets. They throw away what the kernel has captured.
//
// Invariants:
//   - Who holds mu may make requests on the descriptor that must not run beside a reset.
//   - epoch changes only while mu is held. It is odd while a reset is under way.
//   - A batch that was taken under an epoch holds nothing that a reset has discarded, as long as
//     the gate has that same epoch.
type gate struct {
	mu    sync.Mutex
	epoch atomic.Uint64
}

// reset runs op, which resets the descriptor. If op succeeds, reset calls discard before any batch
// can be taken under the new epoch. If op fails, the kernel has discarded nothing, and the epoch
// stays what it was: no packet is lost. The caller holds mu.
func (g *gate) reset(op func() error, discard func()) error {
	before := g.epoch.Add(1) - 1
	if err := op(); err != nil {
		g.epoch.Store(before)
		return err
	}
	discard()
	g.epoch.Add(1)
	return nil
}

// valid reports whether no reset has discarded what b holds. It waits for a reset under way.
func (g *gate) valid(b *batch) bool {
	now := g.epoch.Load()
	if now&1 != 0 {
		g.mu.Lock()
		now = g.epoch.Load()
		g.mu.Unlock()
	}
	return now == b.epoch
}

// engineStats are the counters of an engine. Stats documents them.
type engineStats struct {
	lent, copiedOut, readInPlace, flushed, rotations, syscalls uint64
}

// engineCounters are the same, as the reading goroutine counts them.
type engineCounters struct {
	lent, copiedOut, readInPlace, flushed, rotations, syscalls atomic.Uint64
}

func (c *engineCounters) values() engineStats {
	return engineStats{
		lent: c.lent.Load(), copiedOut: c.copiedOut.Load(), readInPlace: c.readInPlace.Load(),
		flushed: c.flushed.Load(), rotations: c.rotations.Load(), syscalls: c.syscalls.Load(),
	}
}
