package bpf

import "context"

// A Lease is a run of captured packets in memory that is the caller's until Release. Usually it is
// one of the buffers lent to the kernel. While a lease is out, the kernel has only the other buffer
// to fill, so keep it short, or copy. The zero Lease is released.
//
// A lease that is out keeps its memory mapped, even if the program drops the Reader. Do not use a
// Lease, nor a [Cursor], [Packet] or slice that came from it, after Release.
type Lease struct {
	r   *Reader
	id  state
	buf []byte

	stamp stamp
}

// Lease waits until there are packets and returns them, oldest first. At most one lease is out at a
// time.
//
// Lease returns these errors at once:
//   - ErrLeaseOut if a lease is out;
//   - os.ErrClosed after Close.
//
// Lease returns these errors after it has delivered the packets that the kernel holds by then:
//   - context.Cause(ctx) when ctx is done;
//   - os.ErrDeadlineExceeded after the time of SetReadDeadline;
//   - ErrInterfaceGone when the interface was destroyed or moved to another vnet.
//
// The kernel holds at most two buffers. After them Lease returns the error, even if more packets
// arrive. The next call goes on with those.
//
// An error of a system call comes as a [zbuf.Error].
func (r *Reader) Lease(ctx context.Context) (Lease, error) {
	streams, err := r.begin()
	if err != nil {
		return Lease{}, err
	}
	if streams {
		if r.at < uint(len(r.current.buf)) && r.gate.valid(&r.current) {
			r.passed.fold(&r.state)
			return r.lend(r.current.buf[r.at:]), nil // what ReadPacket has not got to yet
		}
		r.release()
	}
	if err := r.next(ctx); err != nil {
		r.end()
		return Lease{}, err
	}
	return r.lend(r.current.buf), nil
}

// lend makes buf, a part of current, the lease that is out.
func (r *Reader) lend(buf []byte) Lease {
	r.handOut()
	r.reached.Store(uint64(len(buf)))
	r.leases++
	id := leaseState(r.leases)
	l := Lease{r: r, id: id, buf: buf, stamp: r.stamp}
	r.state.store(id)
	return l
}

// Release gives the memory back. Everything that came from the lease is invalid from then on. The
// second Release returns ErrReleased.
func (l Lease) Release() error {
	if l.r == nil || !l.r.state.move(l.id, stateBusy) {
		return ErrReleased
	}
	l.r.release()
	l.r.end()
	return nil
}

// Len returns the bytes of records in the lease, headers included.
func (l Lease) Len() int { return len(l.buf) }

// Cursor returns a cursor in front of the first packet. Stats does not count the packets that a
// cursor has passed until [Reader.Count] is given the cursor.
func (l Lease) Cursor() Cursor {
	return newCursor(l.buf, l.stamp)
}

// Err returns nil if the last iteration over Packets reached the end, or if the loop left it early.
// It returns an error that is ErrCorrupt if the iteration stopped at a corrupt record.
func (l Lease) Err() error {
	if l.r == nil {
		return nil
	}
	if e := bad(l.buf, uint(l.r.reached.Load())); e != nil {
		return e
	}
	return nil
}

// Count adds the packets that the cursor has passed to Stats.
func (r *Reader) Count(c *Cursor) {
	r.passed.add(c.n, c.bytes)
	c.n, c.bytes = 0, 0
}
