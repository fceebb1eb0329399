package bpf

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
)

// appendRecord appends a record as the kernel would: padded up to it, not behind it.
func appendRecord(buf, packet []byte, wirelen int, sec, frac uint64, hdrlen int) []byte {
	for uint(len(buf)) != align(uint(len(buf))) {
		buf = append(buf, 0xaa)
	}
	h := make([]byte, hdrlen)
	binary.NativeEndian.PutUint64(h[offSec:], sec)
	binary.NativeEndian.PutUint64(h[offFrac:], frac)
	binary.NativeEndian.PutUint32(h[offCaplen:], uint32(len(packet)))
	binary.NativeEndian.PutUint32(h[offDatalen:], uint32(wirelen))
	binary.NativeEndian.PutUint16(h[offHdrlen:], uint16(hdrlen))
	return append(append(buf, h...), packet...)
}

// fullBuffer returns as many packets of the given size as a lent buffer of size bytes holds.
func fullBuffer(size, packet int) (buf []byte, n int) {
	data := make([]byte, packet)
	for i := range data {
		data[i] = 1
	}
	for {
		next := appendRecord(buf, data, packet, 1, 1, 26)
		if len(next) > size-32 {
			return buf, n
		}
		buf, n = next, n+1
	}
}

type sum struct{ packets, bytes, first uint64 }

func walkRange(l Lease, s *sum) {
	for p := range l.Packets() {
		s.packets++
		s.bytes += uint64(p.WireLen())
		s.first += uint64(p.Data()[0])
	}
}

func walkCursor(l Lease, s *sum) {
	c := l.Cursor()
	for c.Next() {
		p := c.Packet()
		s.packets++
		s.bytes += uint64(p.WireLen())
		s.first += uint64(p.Data()[0])
	}
}

func TestWalkAllocatesNothing(t *testing.T) {
	buf, _ := fullBuffer(512<<10, 64)
	l := Lease{r: &Reader{}, buf: buf}
	var s sum
	assert.Zero(t, testing.AllocsPerRun(100, func() { walkRange(l, &s) }), "range")
	assert.Zero(t, testing.AllocsPerRun(100, func() { walkCursor(l, &s) }), "cursor")
}
