package bpf

import "unsafe"

// A Packet is one captured packet. It refers to the lent buffer: it and everything got from it
// are valid until the lease is released. It may be copied, and read by several goroutines.
//
// Two words, of no more than four fields, so that it stays in registers on its way from the walk to
// the loop's body. The caller has checked that the record lies within its buffer: minHdrlen
// bytes of header at least, and packet.
type Packet struct {
	rec    unsafe.Pointer // the record header
	caplen uint32         // bytes captured
	hdrlen uint16
	stamp  stamp
}

// lengths loads bh_caplen and bh_hdrlen of the record at buf[at]. at+minHdrlen must be at most
// len(buf): the caller's one check, where slicing would make more, in the chain of loads from
// record to record that the walk's speed hangs on.
func lengths(buf []byte, at uint) (caplen, hdrlen uint) {
	rec := unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), at)
	return uint(*(*uint32)(unsafe.Add(rec, offCaplen))), uint(*(*uint16)(unsafe.Add(rec, offHdrlen)))
}

// hasHdrlen is whether bh_hdrlen of the record at buf[at] is that; at is as for lengths.
func hasHdrlen(buf []byte, at uint, hdrlen uint16) bool {
	return *(*uint16)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), at+offHdrlen)) == hdrlen
}

// packetAt makes a Packet of the record at buf[at], whose lengths have been checked against buf.
func packetAt(buf []byte, at, caplen, hdrlen uint, s stamp) Packet {
	return Packet{unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), at), uint32(caplen),
		uint16(hdrlen), s}
}

// Data returns what was captured, from the link header on.
func (p Packet) Data() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(p.rec, p.hdrlen)), p.caplen)
}

// WireLen returns the bytes the packet had.
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
