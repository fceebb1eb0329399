package bpftest

import (
	"encoding/binary"
	"math/bits"
	"reflect"
	"time"

	"github.com/zbuf-go/zbuf"
)

// A layout describes a record's header in memory.
type layout struct {
	align int // records begin at multiples of it
	stamp int // bytes of time stamp; the lengths follow
	size  int // bytes of the whole struct
}

// hdrlen returns bh_hdrlen for a link header of link bytes. It aligns the network header behind the
// link header (bpf_hdrlen).
func (l *layout) hdrlen(link int) int {
	return wordAlign(l.stamp+4+4+2+link, l.align) - link
}

func wordAlign(n, align int) int { return (n + align - 1) &^ (align - 1) }

// layouts are the headers that one kind of stream uses: the old one (bpf_hdr) and the
// extended one (bpf_xhdr).
type layouts struct{ old, extended layout }

var (
	// native are the headers of the architecture this was compiled for.
	native = layouts{
		old: layout{
			align: zbuf.Alignment,
			stamp: int(reflect.TypeFor[zbuf.Timeval]().Size()),
			size:  int(reflect.TypeFor[zbuf.Hdr]().Size()),
		},
		extended: layout{
			align: zbuf.Alignment,
			stamp: int(reflect.TypeFor[zbuf.Ts]().Size()),
			size:  int(reflect.TypeFor[zbuf.Xhdr]().Size()),
		},
	}
	// lp64 are those of any 64-bit kernel.
	lp64 = layouts{old: layout{8, 16, 32}, extended: layout{8, 16, 32}}
	// compat32 are those of a 64-bit kernel for a stream marked as 32-bit.
	compat32 = layouts{old: layout{4, 8, 20}, extended: layout{4, 16, 32}}
)

// isOld reports whether a time stamp setting goes with struct bpf_hdr.
func isOld(tstamp uint32) bool {
	return tstamp == zbuf.BPF_T_NONE || tstamp&zbuf.BPF_T_FORMAT_MASK == zbuf.BPF_T_MICROTIME
}

// validStamp is BPF_T_VALID.
func validStamp(t uint32) bool {
	return t == zbuf.BPF_T_NONE ||
		t&zbuf.BPF_T_FORMAT_MASK != zbuf.BPF_T_NONE &&
			t&^uint32(zbuf.BPF_T_FORMAT_MASK|zbuf.BPF_T_FLAG_MASK) == 0
}

// Qualities of a packet's time, worst first (bpf_ts_quality).
const (
	stampNone = iota
	stampFast
	stampNormal
	stampExtern
)

func stampQuality(tstamp uint32) int {
	switch {
	case tstamp == zbuf.BPF_T_NONE:
		return stampNone
	case tstamp&zbuf.BPF_T_FAST != 0:
		return stampFast
	}
	return stampNormal
}

// putStamp writes the time stamp of format tstamp. real is in ns since the epoch, boot likewise.
func putStamp(dst []byte, l *layout, tstamp uint32, real, boot int64) {
	if tstamp == zbuf.BPF_T_NONE {
		clear(dst[:l.stamp])
		return
	}
	if tstamp&zbuf.BPF_T_MONOTONIC != 0 {
		real -= boot
	}
	sec, nsec := real/int64(time.Second), real%int64(time.Second)
	if nsec < 0 {
		sec, nsec = sec-1, nsec+int64(time.Second)
	}
	frac := uint64(nsec)
	switch tstamp & zbuf.BPF_T_FORMAT_MASK {
	case zbuf.BPF_T_MICROTIME:
		frac = uint64(nsec / 1000)
	case zbuf.BPF_T_BINTIME:
		frac = binaryFraction(uint64(nsec))
	}
	if l.stamp == 8 {
		binary.NativeEndian.PutUint32(dst, uint32(sec))
		binary.NativeEndian.PutUint32(dst[4:], uint32(frac))
		return
	}
	binary.NativeEndian.PutUint64(dst, uint64(sec))
	binary.NativeEndian.PutUint64(dst[8:], frac)
}

// binaryFraction is nsec in units of 2^-64 s, rounded up, so that rounding down on the way back
// gives nsec again.
func binaryFraction(nsec uint64) uint64 {
	if nsec == 0 {
		return 0
	}
	q, r := bits.Div64(nsec, 0, uint64(time.Second))
	if r != 0 {
		q++
	}
	return q
}

// putRecord writes one record at the start of dst, which reaches to the end of the buffer's memory.
// stamp is the time stamp, already in the format of l. With first, the word that holds bh_hdrlen is
// written last and atomically. dst is aligned and shared then.
func putRecord(
	dst []byte, l *layout, header *[headerSlack]byte, hdrlen, wirelen int, pkt []byte, first bool,
) {
	lens := l.stamp
	binary.NativeEndian.PutUint32(header[lens:], uint32(len(pkt)))
	binary.NativeEndian.PutUint32(header[lens+4:], uint32(wirelen))
	binary.NativeEndian.PutUint16(header[lens+8:], uint16(hdrlen))
	if !first {
		copy(dst, header[:l.size])
		copy(dst[hdrlen:], pkt)
		return
	}
	// The word may hold the packet's first two bytes besides.
	word, rest := lens+8, lens+12
	inWord := 0
	if hdrlen < rest {
		inWord = copy(header[hdrlen:rest], pkt)
	}
	copy(dst[:word], header[:word])
	copy(dst[rest:], header[rest:l.size])
	copy(dst[hdrlen+inWord:], pkt[inWord:])
	wordAt(dst, word).Store(binary.NativeEndian.Uint32(header[word:]))
}
