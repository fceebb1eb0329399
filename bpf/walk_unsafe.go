package bpf

import "unsafe"

// lengths loads bh_caplen and bh_hdrlen of the record at buf[at]. at+minHdrlen must be at most
// len(buf): the caller's one check, where slicing would make more, in the chain of loads from record to
// record that the walk's speed hangs on.
func lengths(buf []byte, at uint) (caplen, hdrlen uint) {
	rec := unsafe.Add(unsafe.Pointer(unsafe.SliceData(buf)), at)
	return uint(*(*uint32)(unsafe.Add(rec, offCaplen))), uint(*(*uint16)(unsafe.Add(rec, offHdrlen)))
}
