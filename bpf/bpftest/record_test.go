package bpftest_test

import (
	"encoding/binary"
	"math/bits"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

var ne = binary.NativeEndian

func TestTimestamps(t *testing.T) {
	lp64(t)
	boot := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := boot
	clock := func() time.Time { return now }
	later := 1*time.Hour + 123456789*time.Nanosecond
	explicit := time.Date(1999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	frac := func(nsec uint64) uint64 { // rounded up
		q, _ := bits.Div64(nsec, 0, 1e9)
		return q + 1
	}
	for name, c := range map[string]struct {
		tstamp uint32
		at     time.Time
		sec    int64
		frac   uint64
	}{
		"microseconds":           {zbuf.BPF_T_MICROTIME, time.Time{}, boot.Unix() + 3600, 123456},
		"nanoseconds":            {zbuf.BPF_T_NANOTIME, time.Time{}, boot.Unix() + 3600, 123456789},
		"bintime":                {zbuf.BPF_T_BINTIME, time.Time{}, boot.Unix() + 3600, frac(123456789)},
		"none":                   {zbuf.BPF_T_NONE, time.Time{}, 0, 0},
		"fast: the last tick":    {zbuf.BPF_T_NANOTIME | zbuf.BPF_T_FAST, time.Time{}, boot.Unix() + 3600, 123000000},
		"monotonic: since boot":  {zbuf.BPF_T_NANOTIME | zbuf.BPF_T_MONOTONIC, time.Time{}, 3600, 123456789},
		"monotonic and fast":     {zbuf.BPF_T_MICROTIME | zbuf.BPF_T_MONOTONIC_FAST, time.Time{}, 3600, 123000},
		"explicit":               {zbuf.BPF_T_NANOTIME, explicit, explicit.Unix(), 999999999},
		"explicit, bintime":      {zbuf.BPF_T_BINTIME, explicit, explicit.Unix(), frac(999999999)},
		"explicit, microseconds": {zbuf.BPF_T_MICROTIME, explicit, explicit.Unix(), 999999},
		"explicit beats fast":    {zbuf.BPF_T_NANOTIME | zbuf.BPF_T_FAST, explicit, explicit.Unix(), 999999999},
		"before the epoch":       {zbuf.BPF_T_NANOTIME, time.Unix(-2, 5), -2, 5},
		"before the boot":        {zbuf.BPF_T_NANOTIME | zbuf.BPF_T_MONOTONIC, boot.Add(-time.Nanosecond), -1, 999999999},
	} {
		t.Run(name, func(t *testing.T) {
			now = boot
			k := newKernel(bpftest.WithClock(clock))
			s := buffered(t, k, page)
			now = boot.Add(later)
			s.set(zbuf.BIOCSTSTAMP, c.tstamp)
			s.em0.ReceiveAt(c.at, frame(20), 60)
			r := parse(t, s.read())[0]
			require.Equal(t, c.sec, int64(r.sec))
			require.Equal(t, c.frac, r.frac)
			require.Equal(t, 20, r.caplen)
			require.Equal(t, 60, r.datalen)
		})
	}
	t.Run("one packet has one time, as good as its listeners ask", func(t *testing.T) {
		now = boot
		calls := 0
		k := newKernel(bpftest.WithClock(func() time.Time { calls++; return now }))
		none, fast := buffered(t, k, page), buffered(t, k, page)
		precise, again := buffered(t, k, page), buffered(t, k, page)
		none.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NONE)
		fast.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NANOTIME|zbuf.BPF_T_FAST)
		precise.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NANOTIME)
		again.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NANOTIME)
		calls = 0
		now = boot.Add(1234567)
		none.em0.Receive(frame(64))
		require.Equal(t, 1, calls, "the newest listener asks first, for the precise one")
		require.EqualValues(t, 1234567, parse(t, fast.read())[0].frac)
		require.EqualValues(t, 1234567, parse(t, precise.read())[0].frac)
		require.Zero(t, parse(t, none.read())[0].frac)
	})
}

// A packet's first bytes share a word with bh_hdrlen, which is stored apart in the first record of
// a lent buffer: every length around the header's end must come out whole.
func TestFirstRecord(t *testing.T) {
	lp64(t)
	for _, link := range []int{0, 4, 6, 14, 24} {
		for _, tstamp := range []uint32{zbuf.BPF_T_MICROTIME, zbuf.BPF_T_NANOTIME} {
			k := newKernel()
			k.AddInterface("x0", zbuf.DLT_RAW, bpftest.LinkHeader(link))
			for n := range 40 {
				s := open(t, k).lend(page)
				for i := range s.buf[0][32:] {
					s.buf[0][32+i] = 0xee
				}
				s.set(zbuf.BIOCSTSTAMP, tstamp)
				s.attach("x0")
				first, second := make([]byte, n), make([]byte, n)
				for i := range n {
					first[i], second[i] = byte(i+1), byte(i+101)
				}
				x0 := k.Interface("x0")
				x0.Receive(first)
				x0.Receive(second)
				s.rotate()
				recs := parse(t, s.lent(0))
				require.Len(t, recs, 2)
				want := (26+link+7)&^7 - link
				for i, r := range recs {
					require.Equal(t, want, r.hdrlen)
					require.Equal(t, [][]byte{first, second}[i], r.data)
				}
				// The struct is 32 bytes, of which the packet covers what lies behind hdrlen.
				for i := want + n; i < 32; i++ {
					require.Zero(t, s.buf[0][32+i], "link %d, packet %d, byte %d", link, n, i)
				}
				if end := max(want+n, 32); end < (want+n+7)&^7 {
					require.EqualValues(t, 0xee, s.buf[0][32+end], "padding is left as it was")
				}
				require.NoError(t, s.Close())
			}
		}
	}
}
