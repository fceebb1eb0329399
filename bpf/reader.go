package bpf

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/zbuf-go/zbuf"
)

// A Reader captures packets from one interface.
//
// One goroutine at a time reads: Packets, Lease, ReadPacket, ReadInto, ReadSlice,
// ZeroCopyReadPacketData, and the methods of a [PacketReader]. Any goroutine may call the other
// methods, and [Lease.Release], at any time.
type Reader struct {
	dev     *zbuf.Device
	eng     engine
	gate    gate
	sig     signals
	wait    waiter
	iface   string
	ifindex int
	mode    Mode
	reason  error // why not zero-copy
	size    int
	snap    Config // only what later filter changes need
	stamp   stamp
	dlt     uint32
	guard   bool

	// state makes one goroutine the reader. The call that moves it to stateBusy owns the fields down
	// to out.
	state   atomicState
	leases  uint64 // numbers given out
	current batch  // of the lease that is out, or the stream's
	at      uint   // where the stream's next record begins
	chunk   chunk  // for what ReadPacket returns
	ending  ending // that ended a read last
	after   int    // buffers that were read to their ends since then
	out     bool   // somebody may look at current's memory, so a collection must not unmap it

	reached atomic.Uint64 // how far the last iteration over the lease went
	passed  tally

	sandbox atomic.Bool
	kernel  kernelCounters // the gate's lock guards it
}

// origin returns what the Info of each packet has as its origin.
func (r *Reader) origin() uint64 { return uint64(r.stamp) | uint64(r.ifindex)<<32 }

// Mode returns ZeroCopy or Buffered and, if it is Buffered, why: ErrZeroCopyRefused and what the
// kernel said, or that it was asked for.
func (r *Reader) Mode() (Mode, error) { return r.mode, r.reason }

// BufferSize returns the bytes of each buffer in force.
func (r *Reader) BufferSize() int { return r.size }

// LinkType returns the DLT_ number of the packets.
func (r *Reader) LinkType() uint32 { return r.dlt }

// Interface returns the name the Reader was opened with.
func (r *Reader) Interface() string { return r.iface }

// begin makes the caller the reader and keeps the lent memory mapped. It returns true if the stream
// has a batch.
func (r *Reader) begin() (streams bool, err error) {
	for {
		s := r.state.load()
		switch {
		case s.streams():
			if !r.state.move(s, s.in(stateBusy)) {
				continue
			}
			if r.sig.closed.Load() {
				r.release()
				r.end()
				return false, errClosed
			}
			return true, nil
		case s == stateIdle:
			if !r.state.move(s, stateBusy) {
				continue
			}
			if r.sig.closed.Load() || !r.dev.Pin() {
				r.idle()
				return false, errClosed
			}
			return false, nil
		case r.sig.closed.Load():
			return false, errClosed
		case s.phase() == stateReset:
			r.gate.mu.Lock() // until the reset is through
			r.gate.mu.Unlock()
		default:
			return false, ErrLeaseOut
		}
	}
}

// end undoes begin.
func (r *Reader) end() {
	r.dev.Unpin()
	r.idle()
}

// idle makes nobody the reader. After Close nobody will be.
func (r *Reader) idle() {
	r.state.store(stateIdle)
	if r.sig.closed.Load() {
		r.gate.mu.Lock()
		r.forget()
		r.gate.mu.Unlock()
	}
}

// forget drops what refers to lent memory, once nobody reads. The gate is locked, because a reset
// may be under way, and the engine notes in lent memory's terms what it has discarded.
func (r *Reader) forget() {
	if r.state.move(stateIdle, stateGone) {
		r.eng.forget()
	}
}

// mostKept is in how many buffers the kernel keeps packets: the hold and the store buffer.
const mostKept = 2

// next makes the next batch current. It waits for one if need be. Once the read is over it delivers
// at most what the kernel kept then: under overload there is always more.
func (r *Reader) next(ctx context.Context) error {
	e, over := r.sig.ending(ctx)
	if over != nil {
		if !e.is(r.ending) {
			r.ending, r.after = e, 0
		}
		if r.after == mostKept {
			r.after = 0
			return over
		}
	}
	b, ok := r.eng.take()
	if !ok {
		var err error
		if b, err = r.wait.next(ctx); err != nil {
			r.after = 0
			return err
		}
	}
	if over != nil && !b.part {
		r.after++
	}
	r.current = b
	if r.guard {
		if err := r.eng.expose(&r.current); err != nil {
			r.release()
			return err
		}
	}
	return nil
}

// release gives current back.
func (r *Reader) release() {
	r.passed.fold(&r.state)
	b := r.current
	r.current, r.at = batch{}, 0
	r.eng.release(b)
	r.takeBack()
}

// handOut notes that the caller gets memory of current. The garbage collector can't see who uses
// it.
func (r *Reader) handOut() {
	if !r.out {
		r.out = true
		r.dev.KeepMapped(true)
	}
}

// takeBack notes that nobody uses memory of current any more.
func (r *Reader) takeBack() {
	if r.out {
		r.out = false
		r.dev.KeepMapped(false)
	}
}

// releaseCopied releases current for good if nobody looks at it.
func (r *Reader) releaseCopied() {
	if s := r.state.load(); s.phase() == stateCopied && r.state.move(s, s.in(stateBusy)) {
		r.release()
		r.end()
	}
}

// SetReadDeadline makes reading fail with os.ErrDeadlineExceeded from t on. A read first delivers
// the packets that the kernel holds by then, which are at most two buffers. The zero Time is no
// deadline. A read under way notices the change.
//
// Errors:
//   - os.ErrClosed after Close.
func (r *Reader) SetReadDeadline(t time.Time) error { return r.sig.setDeadline(t) }

// Close closes the descriptor. A read under way wakes and returns os.ErrClosed. If a lease is out,
// its memory stays mapped until the lease is released. The second Close returns nil.
func (r *Reader) Close() error {
	if !r.sig.close() {
		return nil
	}
	r.releaseCopied()
	err := r.dev.Close()
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	r.forget()
	return err
}
