package conformance

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

const (
	model  = "model"
	kernel = "kernel"
)

// The rules of a 32-bit process on a 64-bit kernel (COMPAT_FREEBSD32).
var _ = add(
	rule{on386: true, name: "386/zero-copy mode can be set, but no buffers",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
			require.Equal(t, uint32(zbuf.BPF_BUFMODE_ZBUF), s.get(zbuf.BIOCGETBUFMODE))
			s.refuse(syscall.EINVAL, zbuf.BIOCGETZMAX, new(uintptr))
			s.alloc(page)
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, s.zbuf(page))
			s.refuse(syscall.EINVAL, zbuf.BIOCROTZBUF, new(zbuf.Zbuf))
			s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_BUFFER)
			s.attach(s.p.A)
			want := s.inject(1)
			s.requireRead(hdr64, 26, want)
		}},
	rule{on386: true, name: "386/records have the 64-bit form before a compat ioctl",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.attach(s.p.A)
			s.requireRead(hdr64, 26, s.inject(3))
		}},
	rule{on386: true, name: "386/records have the 32-bit form after BIOCSETF",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.do(zbuf.BIOCSETF, acceptAll())
			s.attach(s.p.A)
			var want [][]byte
			for n := 60; n < 67; n++ {
				s.n++
				want = append(want, lab.Frame(n, s.n))
			}
			s.p.Inject(t, want...)
			recs := s.requireRead(hdr32, 18, want)
			for i, r := range recs[1:] {
				require.Zero(t, r.off%4)
				require.Equal(t, recs[i].off+roundUp(18+len(want[i]), 4), r.off)
			}
		}},
	rule{on386: true, name: "386/nanosecond records after BIOCSETF: bpf_xhdr, aligned to 4",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.do(zbuf.BIOCSETF, acceptAll())
			s.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NANOTIME)
			s.attach(s.p.A)
			var want [][]byte
			for n := 60; n < 67; n++ {
				s.n++
				want = append(want, lab.Frame(n, s.n))
			}
			s.p.Inject(t, want...)
			recs := s.requireRead(xhdr32, 26, want)
			for i, r := range recs[1:] {
				require.Equal(t, recs[i].off+roundUp(26+len(want[i]), 4), r.off)
			}
		}},
	rule{on386: true, name: "386/which ioctls bring the 32-bit form",
		run: func(t *testing.T, w lab.World) {
			var types [4]uint32
			for _, c := range []struct {
				req    zbuf.Request
				arg    any
				after  bool // legal only when attached
				compat bool
			}{
				{zbuf.BIOCSETF, acceptAll(), false, true},
				{zbuf.BIOCSETFNR, acceptAll(), false, true},
				{zbuf.BIOCSETWF, acceptAll(), false, true},
				{zbuf.BIOCSRTIMEOUT, timeval(0), false, true},
				{zbuf.BIOCGRTIMEOUT, timeval(0), false, true},
				{zbuf.BIOCGDLTLIST, &zbuf.DLTList{Len: 4, List: &types[0]}, true, true},
				{zbuf.BIOCFLUSH, nil, false, false},
				{zbuf.BIOCGSTATS, new(zbuf.Stat), false, false},
			} {
				s := open(t, w).pair()
				if c.after {
					s.attach(s.p.A)
				}
				s.do(c.req, c.arg)
				s.attach(s.p.A)
				want := s.inject(2)
				if c.compat {
					s.requireRead(hdr32, 18, want)
				} else {
					s.requireRead(hdr64, 26, want)
				}
				t.Logf("%v: 32-bit records %v", c.req, c.compat)
			}
		}},
	rule{on386: true, name: "386/the read timeout survives the border",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(1250e6))
			got := timeval(0)
			s.do(zbuf.BIOCGRTIMEOUT, got)
			require.Equal(t, timeval(1250e6), got)
		}},
)

func acceptAll() *zbuf.Program {
	prog := []zbuf.Insn{{Op: 0x06, K: 0xffffffff}}
	return &zbuf.Program{Len: 1, Insns: &prog[0]}
}

// read reads one buffer in buffered mode.
func (s *sess) read() []byte {
	s.t.Helper()
	buf := make([]byte, s.get(zbuf.BIOCGBLEN))
	n, err := s.Read(buf)
	require.NoError(s.t, err)
	return buf[:n]
}

// requireRead reads one buffer and compares its packets.
func (s *sess) requireRead(l layout, hlen int, want [][]byte) []record {
	s.t.Helper()
	recs := parse(s.t, s.read(), l)
	require.Len(s.t, recs, len(want))
	for i, r := range recs {
		require.Equal(s.t, hlen, r.hdrlen)
		require.Equal(s.t, want[i], r.data)
		require.Equal(s.t, len(want[i]), int(r.datalen))
	}
	return recs
}
