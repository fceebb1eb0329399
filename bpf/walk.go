package bpf

import (
	"iter"

	"github.com/zbuf-go/zbuf"
)

// Packets iterates over the packets of the lease, oldest first. If a record is corrupt, the
// iteration ends there, and [Lease.Err] says so. [Stats] counts the packets that the iteration has
// passed.
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
			// The kernel gives all records of a descriptor the same header length. The inner loop keeps it
			// constant. That takes a load and an addition out of the chain from record to record, and the
			// walk is as fast as that chain. The sum has 32 bits, or the compiler would put the addition
			// back.
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

// passed has the counts of an iteration. It is in memory, because in registers a call in the loop's
// body would have to save it.
type passed struct {
	n, bytes uint64
	left     bool // the loop's body ended the iteration
}

// passed notes how far an iteration went. The loop's body may leave before a good record, which is
// then no sign of a corrupt buffer.
//
//go:noinline
func (l Lease) passed(w *passed, at uint) {
	if l.r == nil {
		return
	}
	l.r.passed.add(w.n, w.bytes)
	if w.left {
		at = uint(len(l.buf))
	}
	l.r.reached.Store(uint64(at))
}
