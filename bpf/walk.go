package bpf

import (
	"encoding/binary"
	"iter"

	"github.com/zbuf-go/zbuf"
)

func align(n uint) uint { return (n + zbuf.Alignment - 1) &^ (zbuf.Alignment - 1) }

// fits says that a record at buf[at], of which the lengths were loaded, ends in buf. Where a word has 64 bits the sum can't
// have wrapped.
func fits(buf []byte, at, caplen, hdrlen uint) bool {
	end := at + hdrlen + caplen
	return end <= uint(len(buf)) && (zbuf.WordSize == 8 || end > at && hdrlen+caplen > caplen)
}

// record finds the record that begins at buf[at]; at+minHdrlen must be at most len(buf). ok is false when
// it does not fit into buf: then bad says why.
func record(buf []byte, at uint) (caplen, hdrlen uint, ok bool) {
	caplen, hdrlen = lengths(buf, at)
	return caplen, hdrlen, hdrlen >= minHdrlen && fits(buf, at, caplen, hdrlen)
}

// bad says what is wrong with the record at buf[at], or returns nil at the end.
func bad(buf []byte, at uint) *CorruptError {
	if at >= uint(len(buf)) {
		return nil // the last record need not be padded
	}
	e := &CorruptError{Offset: int(at), Length: len(buf)}
	switch rest := buf[at:]; {
	case len(rest) < minHdrlen:
		e.Why = "no room for a record header"
	case binary.NativeEndian.Uint16(rest[offHdrlen:]) < minHdrlen:
		e.Why = "record header too short"
	default:
		e.Why = "record longer than what is left"
	}
	return e
}

// A Cursor goes over the packets of a lease one by one.
//
//	c := lease.Cursor()
//	for c.Next() {
//		use(c.Packet())
//	}
//
// (Declared in the for statement it would be copied for each packet.)
type Cursor struct {
	buf      []byte
	next     uint // where the next record begins
	packet   Packet
	n, bytes uint64 // passed and not counted yet
	stamp    stamp
}

func newCursor(buf []byte, s stamp) Cursor { return Cursor{buf: buf, stamp: s} }

// Next advances to the next packet. It returns false at the end and when the buffer is corrupt: see Err.
func (c *Cursor) Next() bool {
	at := c.next
	if at+minHdrlen > uint(len(c.buf)) {
		return false
	}
	caplen, hdrlen, ok := record(c.buf, at)
	if !ok {
		return false
	}
	c.next, c.packet = align(at+(hdrlen+caplen)), packetAt(c.buf, at, caplen, hdrlen, c.stamp)
	c.n++
	c.bytes += uint64(caplen)
	return true
}

// Packet returns the packet that Next advanced to.
func (c *Cursor) Packet() Packet { return c.packet }

// rest returns what Next has not passed.
func (c *Cursor) rest() []byte { return c.buf[min(c.next, uint(len(c.buf))):] }

// Err returns, when Next has returned false, nil at the end of the lease, or an ErrCorrupt that says
// where the buffer stopped making sense.
func (c *Cursor) Err() error {
	if e := bad(c.buf, c.next); e != nil {
		return e
	}
	return nil
}

// Packets iterates over the packets. If a record is corrupt, the iteration ends there, and Err says so.
func (l Lease) Packets() iter.Seq[Packet] {
	// The compiler inlines all of this, and the loop's body into it: no call for each packet.
	return func(yield func(Packet) bool) {
		var w passed
		var at uint
		buf, s := l.buf, l.stamp
		// Every record is taken as if it were padded, for which the last one may have no room.
		const padding = zbuf.Alignment - 1
		end := uint(len(buf)) + padding
	walk:
		for at+minHdrlen+padding <= end {
			_, hdrlen := lengths(buf, at)
			if hdrlen < minHdrlen {
				break
			}
			// The kernel gives all records of a descriptor the same header length. That it does not change in
			// the inner loop takes a load and an addition out of the chain from record to record, which is what
			// the speed hangs on; of 32 bits is the sum lest the compiler put the addition back.
			padded := uint(uint32(hdrlen) + padding)
			for at+minHdrlen+padding <= end {
				if !hasHdrlen(buf, at, uint16(hdrlen)) {
					continue walk
				}
				caplen, _ := lengths(buf, at)
				next := at + padded + caplen
				if next > end || zbuf.WordSize == 4 && (padded+caplen < caplen || next < at) {
					break walk
				}
				p := packetAt(buf, at, caplen, hdrlen, s)
				w.n++
				w.bytes += uint64(caplen)
				at = next &^ padding
				if !yield(p) {
					w.left = true
					break walk
				}
			}
		}
		l.passed(&w, at)
	}
}

// passed is what an iteration counts. It is in memory, because in registers a call in the loop's body
// would have to save it.
type passed struct {
	n, bytes uint64
	left     bool // the loop's body ended the iteration
}

// passed notes how far an iteration went. The loop's body may leave before a good record, which is then
// no sign of a corrupt buffer.
//
//go:noinline
func (l Lease) passed(w *passed, at uint) {
	if l.r == nil {
		return
	}
	l.r.packets.Add(w.n)
	l.r.bytes.Add(w.bytes)
	if w.left {
		at = uint(len(l.buf))
	}
	l.r.walked.Store(uint64(at))
}
