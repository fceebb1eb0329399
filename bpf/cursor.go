package bpf

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

// Next advances to the next packet. It returns false at the end and when the buffer is corrupt: see
// Err.
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

// Err returns, when Next has returned false, nil at the end of the lease, or an ErrCorrupt that
// says where the buffer stopped making sense.
func (c *Cursor) Err() error {
	if e := bad(c.buf, c.next); e != nil {
		return e
	}
	return nil
}
