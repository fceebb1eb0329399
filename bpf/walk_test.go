package bpf

import (
	"encoding/binary"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// The figures are of the fastest walk, in C as in Go. Other work of the machine only adds time.
func BenchmarkWalk(b *testing.B) {
	yardstick := buildC(b)
	for _, size := range []int{512 << 10, 2 << 20} {
		for _, packet := range []int{64, 512, 1500} {
			buf, n := fullBuffer(size, packet)
			c := runC(b, yardstick, size, packet)
			measure := func(name string, walk func(Lease, *sum)) {
				b.Run(fmt.Sprintf("%s/buffer=%dK/packet=%d", name, size>>10, packet), func(b *testing.B) {
					l := Lease{r: &Reader{}, buf: buf}
					var s sum
					b.ReportAllocs()
					best := time.Hour
					for b.Loop() {
						begin := time.Now()
						walk(l, &s)
						best = min(best, time.Since(begin))
					}
					require.Equal(b, uint64(b.N*n), s.packets)
					ns := float64(best.Nanoseconds()) / float64(n)
					b.ReportMetric(ns, "ns/packet")
					b.ReportMetric(c, "C-ns/packet")
					b.ReportMetric(ns/c, "ratio-to-C")
					b.ReportMetric(0, "ns/op")
				})
			}
			measure("range", walkRange)
			measure("cursor", walkCursor)
		}
	}
}

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

func buildC(b *testing.B) string {
	b.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		b.Skip("no C compiler to build the yardstick with: ", err)
	}
	bin := filepath.Join(b.TempDir(), "walk")
	out, err := exec.Command(cc, "-O2", "-o", bin, "testdata/walk.c").CombinedOutput()
	require.NoError(b, err, "%s", out)
	return bin
}

func runC(b *testing.B, bin string, size, packet int) float64 {
	b.Helper()
	out, err := exec.Command(bin, strconv.Itoa(size), strconv.Itoa(packet), "200").Output()
	require.NoError(b, err)
	ns, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	require.NoError(b, err)
	return ns
}

func TestWalkAllocatesNothing(t *testing.T) {
	buf, _ := fullBuffer(512<<10, 64)
	l := Lease{r: &Reader{}, buf: buf}
	var s sum
	assert.Zero(t, testing.AllocsPerRun(100, func() { walkRange(l, &s) }), "range")
	assert.Zero(t, testing.AllocsPerRun(100, func() { walkCursor(l, &s) }), "cursor")
}
