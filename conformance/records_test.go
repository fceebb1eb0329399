package conformance

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// behind is how much earlier a fast time stamp may be than the clock that was read before. A kernel
// is asked for the time of its last clock tick, which may be late by any time. A model's ticks are
// never late.
func behind(w lab.World, fast bool) time.Duration {
	if fast && w.Name() == model {
		return tick
	}
	return 0
}

// stamped is one packet's record with a time stamp type, and the wall clock around it.
func stamped(t *testing.T, w lab.World, tstamp uint32) (r record, before, after time.Time) {
	t.Helper()
	s := open(t, w).pair().lend(page)
	s.set(zbuf.BIOCSTSTAMP, tstamp)
	s.attach(s.p.A)
	fast := tstamp&zbuf.BPF_T_FAST != 0
	before = lab.Realtime(fast).Add(-behind(w, fast))
	s.inject(1)
	after = lab.Realtime(false)
	s.rotate()
	recs := parse(t, s.contents(0), hdr64)
	require.Len(t, recs, 1)
	return recs[0], before, after
}

// precision is by how much two readings of a clock may differ that are taken in two ways.
const precision = time.Millisecond

func requireBetween(t *testing.T, before, got, after time.Time) {
	t.Helper()
	require.False(t, got.Before(before.Add(-precision)), "%v before %v", got, before)
	require.False(t, got.After(after.Add(precision)), "%v after %v", got, after)
}

func realtime(format uint32) func(*testing.T, lab.World) {
	return func(t *testing.T, w lab.World) {
		for _, fast := range []bool{false, true} {
			ty := format
			if fast {
				ty |= zbuf.BPF_T_FAST
			}
			r, before, after := stamped(t, w, ty)
			require.Equal(t, hdrlen, r.hdrlen)
			requireBetween(t, before, time.Unix(r.sec, int64(fraction(format, r.frac))), after)
		}
	}
}

// fraction is a time stamp's fraction in nanoseconds.
func fraction(format uint32, f uint64) uint64 {
	switch format {
	case zbuf.BPF_T_MICROTIME:
		return f * 1000
	case zbuf.BPF_T_NANOTIME:
		return f
	}
	return f >> 32 * 1e9 >> 32
}

func monotonic(format uint32) func(*testing.T, lab.World) {
	return func(t *testing.T, w lab.World) {
		for _, flag := range []uint32{zbuf.BPF_T_MONOTONIC, zbuf.BPF_T_MONOTONIC_FAST} {
			s := open(t, w).pair().lend(page)
			s.set(zbuf.BIOCSTSTAMP, format|flag)
			s.attach(s.p.A)
			fast := flag == zbuf.BPF_T_MONOTONIC_FAST
			first := [2]time.Duration{lab.Uptime(fast)}
			s.inject(1)
			first[1] = lab.Uptime(false)
			rest := by(w.Name() == kernel, 0, time.Millisecond) // a kernel at rest skips clock ticks
			for lab.Uptime(fast) < first[1]+100*time.Millisecond {
				time.Sleep(rest)
			}
			second := [2]time.Duration{lab.Uptime(fast)}
			s.inject(1)
			second[1] = lab.Uptime(false)
			s.rotate()
			recs := parse(t, s.contents(0), hdr64)
			require.Len(t, recs, 2)
			at := func(r record) time.Duration {
				return time.Duration(r.sec)*time.Second + time.Duration(fraction(format, r.frac))
			}
			require.Less(t, recs[0].sec, time.Now().Unix()/2, "since boot, not since 1970")
			apart := at(recs[1]) - at(recs[0])
			require.Greater(t, apart, second[0]-first[1]-behind(w, fast)-precision)
			require.Less(t, apart, second[1]-first[0]+behind(w, fast)+precision)
		}
	}
}

var _ = add(
	rule{name: "timestamp/microseconds", run: realtime(zbuf.BPF_T_MICROTIME)},
	rule{name: "timestamp/nanoseconds", run: realtime(zbuf.BPF_T_NANOTIME)},
	rule{name: "timestamp/bintime", run: realtime(zbuf.BPF_T_BINTIME)},
	rule{name: "timestamp/microseconds, monotonic", run: monotonic(zbuf.BPF_T_MICROTIME)},
	rule{name: "timestamp/nanoseconds, monotonic", run: monotonic(zbuf.BPF_T_NANOTIME)},
	rule{name: "timestamp/bintime, monotonic", run: monotonic(zbuf.BPF_T_BINTIME)},
	rule{name: "timestamp/none is zero, in a bpf_hdr", run: func(t *testing.T, w lab.World) {
		r, _, _ := stamped(t, w, zbuf.BPF_T_NONE)
		require.Zero(t, r.sec)
		require.Zero(t, r.frac)
		require.Equal(t, hdrlen, r.hdrlen)
	}},
	rule{name: "timestamp/changed in mid-stream: records keep their form",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			s.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NONE)
			s.inject(1)
			s.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NANOTIME)
			s.inject(1)
			require.Equal(t, 2*stride+one, s.nread(), "nothing was flushed")
			s.rotate()
			recs := parse(t, s.contents(0), hdr64)
			require.Less(t, recs[0].frac, uint64(1e6))
			require.NotZero(t, recs[0].sec)
			require.Zero(t, recs[1].sec)
			require.NotZero(t, recs[2].sec)
		}},
	rule{name: "timestamp/records are in the order of their times",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair().lend(page)
			s.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NANOTIME|zbuf.BPF_T_MONOTONIC)
			s.attach(s.p.A)
			s.inject(full)
			s.rotate()
			var last time.Duration
			for _, r := range parse(t, s.contents(0), hdr64) {
				at := time.Duration(r.sec)*time.Second + time.Duration(r.frac)
				require.GreaterOrEqual(t, at, last)
				last = at
			}
		}},
	rule{name: "record/every length from 14 on: data, caplen, datalen, alignment",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, 16*page)
			var want [][]byte
			for n := 14; n < 90; n++ {
				want = append(want, lab.Frame(n, uint32(n)))
			}
			s.p.Inject(t, want...)
			s.rotate()
			recs := parse(t, s.contents(0), hdr64)
			require.Len(t, recs, len(want))
			for i, r := range recs {
				require.Equal(t, want[i], r.data)
				require.Zero(t, r.off%8)
				require.Equal(t, hdrlen, r.hdrlen)
			}
		}},
	rule{name: "record/the struct's tail is overwritten by the packet",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			f := s.inject(1)[0]
			s.rotate()
			require.Equal(t, f[:6], s.contents(0)[26:32], "the packet begins inside struct bpf_hdr")
		}},
	rule{name: "record/hdrlen on loopback is 28, with four bytes of address family",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).lend(page)
			s.attach("lo0")
			s.write(loPacket(60))
			require.NoError(t, lab.Until(func() (bool, error) { return s.nread() > 0, nil }))
			s.rotate()
			for _, r := range parse(t, s.contents(0), hdr64) {
				require.Equal(t, 28, r.hdrlen)
				require.Equal(t, 2, int(binary.NativeEndian.Uint32(r.data)), "AF_INET")
				require.Equal(t, 4+60, int(r.datalen))
			}
		}},
	rule{name: "record/xhdr on loopback: hdrlen 28 too", run: func(t *testing.T, w lab.World) {
		s := open(t, w).lend(page)
		s.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_BINTIME)
		s.attach("lo0")
		s.write(loPacket(33))
		require.NoError(t, lab.Until(func() (bool, error) { return s.nread() > 0, nil }))
		s.rotate()
		for _, r := range parse(t, s.contents(0), xhdr64) {
			require.Equal(t, 28, r.hdrlen)
			require.Equal(t, 4+33, int(r.datalen))
		}
	}},
)

// loPacket is what is written to lo0: an address family and an IPv4 packet of n
// bytes from and to nobody's address, for a protocol that nobody has.
func loPacket(n int) []byte {
	p := make([]byte, 4+n)
	binary.NativeEndian.PutUint32(p, 2) // AF_INET
	ip := p[4:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(n))
	ip[8], ip[9] = 1, 253
	copy(ip[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2})
	return p
}
