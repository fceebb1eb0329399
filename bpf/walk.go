package bpf

import (
	"encoding/binary"

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
