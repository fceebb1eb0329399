package bpf

import (
	"encoding/binary"

	"github.com/zbuf-go/zbuf"
)

func align(n uint) uint { return (n + zbuf.Alignment - 1) &^ (zbuf.Alignment - 1) }

// fits reports whether a record at buf[at] of these lengths ends in buf. Where a word has 64 bits
// the sum can't have wrapped.
func fits(buf []byte, at, caplen, hdrlen uint) bool {
	end := at + hdrlen + caplen
	return end <= uint(len(buf)) && (zbuf.WordSize == 8 || end > at && hdrlen+caplen > caplen)
}

// record returns the lengths of the record that begins at buf[at]. at+minHdrlen must be at most
// len(buf). ok is false if the record does not fit into buf, and bad then says why.
func record(buf []byte, at uint) (caplen, hdrlen uint, ok bool) {
	caplen, hdrlen = lengths(buf, at)
	return caplen, hdrlen, hdrlen >= minHdrlen && fits(buf, at, caplen, hdrlen)
}

// good reports whether a record that fits begins at buf[at].
func good(buf []byte, at uint) bool {
	if at+minHdrlen > uint(len(buf)) {
		return false
	}
	_, _, ok := record(buf, at)
	return ok
}

// bad returns the reason why the record at buf[at] does not fit, or nil at the end of buf.
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
