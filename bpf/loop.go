package bpf

import (
	"context"
	"iter"
)

// Packets returns a loop over the packets as they come. The loop reads lease by lease, so no packet
// takes a lock or a system call of its own. It costs a call for each packet. [Lease.Packets] does
// not, because the compiler inlines the body of its loop.
//
//	for p, err := range r.Packets(ctx) {
//		if errors.Is(err, bpf.ErrCorrupt) {
//			log.Print(err) // the loop goes on with the next buffer
//			continue
//		}
//		if err != nil {
//			return err // the loop has ended
//		}
//		use(p.Data(), p.WireLen())
//	}
//
// A Packet is valid until the loop's body ends. Copy what must live longer.
//
// The loop never ends in silence. Its last turn has an error, unless the body left it:
//   - the errors of [Reader.Lease], such as context.Cause(ctx), os.ErrClosed, ErrInterfaceGone,
//     os.ErrDeadlineExceeded and ErrLeaseOut. The loop ends after the body.
//   - ErrCorrupt, as a [CorruptError]. This loop is not over: it goes on with the next buffer.
//
// With an error the Packet is the zero Packet, which has no data.
//
// If the body leaves the loop, the next call of a reading method goes on with the next packet. Each
// turn keeps the promises of a reading method that is called then: after Close, Flush, or SetFilter
// with flush, no turn begins with a packet from before. While the loop runs, the other reading
// methods return ErrLeaseOut. Stats counts the packets when the loop goes on to the next buffer, or
// ends.
func (r *Reader) Packets(ctx context.Context) iter.Seq2[Packet, error] {
	return func(yield func(Packet, error) bool) {
		for {
			l, err := r.Lease(ctx)
			if err != nil {
				yield(Packet{}, err)
				return
			}
			more, err := r.turns(l, yield)
			if more && err != nil {
				more = yield(Packet{}, err)
			}
			if !more {
				return
			}
		}
	}
}

// turns has a turn of the loop for each packet of l, and ends l. It returns false if the body has
// left the loop.
func (r *Reader) turns(l Lease, yield func(Packet, error) bool) (more bool, err error) {
	c := l.Cursor()
	drop := false  // what is left of l
	defer func() { // also if the body panics
		r.Count(&c)
		r.keep(l, c.next, drop)
	}()
	epoch := r.current.epoch
	for {
		if r.sig.closed.Load() || r.gate.epoch.Load() != epoch && !r.gate.valid(&r.current) {
			drop = true
			return true, nil // Lease says which it was
		}
		if !c.Next() {
			drop = true
			return true, c.Err()
		}
		if !yield(c.Packet(), nil) {
			return false, nil
		}
	}
}

// keep ends a lease at whose memory nobody looks. What begins at next becomes the stream's batch,
// unless it is to be dropped.
func (r *Reader) keep(l Lease, next uint, drop bool) {
	if drop || next >= uint(len(l.buf)) {
		l.Release()
		return
	}
	r.state.move(l.id, stateBusy)
	r.at = uint(len(r.current.buf)-len(l.buf)) + next
	r.takeBack()
	r.state.store(stateCopied)
	r.copied()
}
