package bpf

import "unsafe"

// A Packet is one captured packet. It refers to the memory of its lease. It and everything that
// came from it are valid until [Lease.Release]. A program may copy a Packet, and several goroutines
// may read it.
type Packet struct {
	// A Packet has two words and no more than four fields. So it stays in registers on its way from
	// the walk to the loop's body. The record lies within its buffer, with minHdrlen bytes of header
	// at least: packetAt's caller has checked that.

	rec    unsafe.Pointer // the record header
	caplen uint32         // bytes captured
	hdrlen uint16
	stamp  stamp
}

// lengths loads bh_caplen and bh_hdrlen of the record at buf[at]. at+minHdrlen must be at most
// len(buf). The caller checks that once, and slicing would check it more often. The walk is as fast
// as the chain of loads from record to record, of which these are a part.
func lengths(buf []byte, at uint) (caplen, hdrlen uint) {
	rec := unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), at)
	return uint(*(*uint32)(unsafe.Add(rec, offCaplen))), uint(*(*uint16)(unsafe.Add(rec, offHdrlen)))
}

// hasHdrlen reports whether bh_hdrlen of the record at buf[at] is hdrlen. at is as for lengths.
func hasHdrlen(buf []byte, at uint, hdrlen uint16) bool {
	return *(*uint16)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), at+offHdrlen)) == hdrlen
}

// packetAt makes a Packet of the record at buf[at]. The caller has checked the lengths against buf.
func packetAt(buf []byte, at, caplen, hdrlen uint, s stamp) Packet {
	return Packet{unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), at), uint32(caplen),
		uint16(hdrlen), s}
}

// Data returns the captured bytes, from the link header on. The slice refers to the memory of the
// lease. It is valid until [Lease.Release].
func (p Packet) Data() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(p.rec, p.hdrlen)), p.caplen)
}

// WireLen returns the number of bytes that the packet had on the wire.
func (p Packet) WireLen() int {
	if p.rec == nil {
		return 0
	}
	return int(*(*uint32)(unsafe.Add(p.rec, offDatalen)))
}

// time returns the two fields of struct bpf_ts, or of struct timeval, as they are.
func (p Packet) time() (sec int64, frac uint64) {
	if p.rec == nil {
		return 0, 0
	}
	return *(*int64)(unsafe.Add(p.rec, offSec)), *(*uint64)(unsafe.Add(p.rec, offFrac))
}
