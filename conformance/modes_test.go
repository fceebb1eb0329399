package conformance

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

const (
	buffer = zbuf.BPF_BUFMODE_BUFFER
	zmode  = zbuf.BPF_BUFMODE_ZBUF

	zmax = 512 * page
)

// Choosing a mode and lending buffers: rows 1 to 4 and 22 to 23 of the observations.
var _ = add(
	rule{name: "mode/a new descriptor is in buffered mode", run: func(t *testing.T, w lab.World) {
		require.Equal(t, buffer, int(open(t, w).get(zbuf.BIOCGETBUFMODE)))
	}},
	rule{name: "mode/zero-copy is EINVAL while the sysctl is 0",
		run: func(t *testing.T, w lab.World) {
			lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 0)
			s := open(t, w)
			s.refuseSet(syscall.EINVAL, zbuf.BIOCSETBUFMODE, zmode)
			s.set(zbuf.BIOCSETBUFMODE, buffer)
			require.Equal(t, buffer, int(s.get(zbuf.BIOCGETBUFMODE)))
		}},
	rule{name: "mode/any other value of the sysctl enables it",
		run: func(t *testing.T, w lab.World) {
			for _, v := range []int{1, 2, -1} {
				lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", v)
				open(t, w).set(zbuf.BIOCSETBUFMODE, zmode)
			}
		}},
	rule{name: "mode/unknown ones are EINVAL", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		for _, v := range []uint32{0, 3, 0xffffffff} {
			s.refuseSet(syscall.EINVAL, zbuf.BIOCSETBUFMODE, v)
		}
	}},
	rule{name: "mode/there and back again until there are buffers",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			for range 3 {
				s.set(zbuf.BIOCSETBUFMODE, zmode)
				s.set(zbuf.BIOCSETBUFMODE, buffer)
			}
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			s.alloc(page)
			s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
			s.refuseSet(syscall.EBUSY, zbuf.BIOCSETBUFMODE, buffer)
			s.refuseSet(syscall.EBUSY, zbuf.BIOCSETBUFMODE, zmode)
			s.refuseSet(syscall.EINVAL, zbuf.BIOCSETBUFMODE, 3)
		}},
	rule{name: "mode/EBUSY after BIOCSBLEN", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		s.set(zbuf.BIOCSBLEN, 4096)
		s.refuseSet(syscall.EBUSY, zbuf.BIOCSETBUFMODE, zmode)
		s.refuseSet(syscall.EBUSY, zbuf.BIOCSETBUFMODE, buffer)
	}},
	rule{name: "mode/EBUSY after BIOCSETIF", run: func(t *testing.T, w lab.World) {
		s := open(t, w).pair()
		s.attach(s.p.A)
		s.refuseSet(syscall.EBUSY, zbuf.BIOCSETBUFMODE, zmode)
		require.NoError(t, w.Destroy(s.p.A))
		s.refuseSet(syscall.EBUSY, zbuf.BIOCSETBUFMODE, zmode)
	}},
	rule{name: "mode/EINVAL goes before EBUSY", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		s.set(zbuf.BIOCSBLEN, 4096)
		lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 0)
		s.refuseSet(syscall.EINVAL, zbuf.BIOCSETBUFMODE, zmode)
	}},
	rule{name: "mode/the zero-copy requests are EOPNOTSUPP in buffered mode",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.alloc(page)
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCGETZMAX, new(uintptr))
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCSETZBUF, s.zbuf(page))
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCROTZBUF, new(zbuf.Zbuf))
		}},
	rule{name: "mode/BIOCSBLEN is EOPNOTSUPP in zero-copy mode",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			s.refuseSet(syscall.EOPNOTSUPP, zbuf.BIOCSBLEN, 4096)
			s.alloc(page)
			s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
			s.refuseSet(syscall.EOPNOTSUPP, zbuf.BIOCSBLEN, 4096)
		}},
	rule{name: "mode/read is EOPNOTSUPP in zero-copy mode, EINVAL with a wrong size",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			_, err := s.Read(make([]byte, page-32))
			require.Equal(t, error(syscall.EOPNOTSUPP), err)
			_, err = s.Read(make([]byte, page))
			require.Equal(t, error(syscall.EINVAL), err)
		}},
	rule{name: "mode/turning the sysctl off leaves sessions alone",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 0)
			s.alloc(page)
			s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
			s.attach(s.p.A)
			want := s.inject(2)
			s.rotate()
			s.requireFrames(s.contents(0), want...)
		}},

	rule{name: "lend/BIOCGETZMAX is 512 pages", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		s.set(zbuf.BIOCSETBUFMODE, zmode)
		n := ^uintptr(0)
		s.do(zbuf.BIOCGETZMAX, &n)
		require.Equal(t, zmax, int(n))
	}},
	rule{name: "lend/sizes from a page to the maximum", run: func(t *testing.T, w lab.World) {
		for _, size := range []int{page, 3 * page, 64 << 10, 512 << 10, zmax} {
			s := open(t, w).lend(size)
			require.Equal(t, size-32, int(s.get(zbuf.BIOCGBLEN)))
		}
	}},
	rule{name: "lend/more than the maximum is EINVAL whatever maxbufsize says",
		run: func(t *testing.T, w lab.World) {
			lab.SetSysctl(t, w, "net.bpf.maxbufsize", 4<<20)
			for _, size := range []int{zmax + page, 4 << 20} {
				s := open(t, w)
				s.set(zbuf.BIOCSETBUFMODE, zmode)
				s.alloc(size)
				s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, s.zbuf(size))
			}
		}},
	rule{name: "lend/maxbufsize does not limit", run: func(t *testing.T, w lab.World) {
		lab.SetSysctl(t, w, "net.bpf.maxbufsize", page)
		open(t, w).lend(16 * page)
	}},
	rule{name: "lend/no address, no length", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		s.set(zbuf.BIOCSETBUFMODE, zmode)
		s.alloc(page)
		a, b := &s.buf[0][0], &s.buf[1][0]
		for _, z := range []zbuf.Zbuf{{}, {Bufa: a, Buflen: page}, {Bufb: b, Buflen: page},
			{Bufa: a, Bufb: b}} {
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, &z)
		}
		s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
	}},
	rule{name: "lend/not page-aligned", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		s.set(zbuf.BIOCSETBUFMODE, zmode)
		s.alloc(2 * page)
		for _, z := range []zbuf.Zbuf{
			{Bufa: &s.buf[0][8], Bufb: &s.buf[1][0], Buflen: page},
			{Bufa: &s.buf[0][0], Bufb: &s.buf[1][page/2], Buflen: page},
			{Bufa: &s.buf[0][0], Bufb: &s.buf[1][0], Buflen: page + 8},
			{Bufa: &s.buf[0][0], Bufb: &s.buf[1][0], Buflen: page - 1},
		} {
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, &z)
		}
		s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
		require.Equal(t, page-32, int(s.get(zbuf.BIOCGBLEN)))
	}},
	rule{name: "lend/the same buffer twice is accepted", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		s.set(zbuf.BIOCSETBUFMODE, zmode)
		s.alloc(page)
		s.do(zbuf.BIOCSETZBUF, &zbuf.Zbuf{Bufa: &s.buf[0][0], Bufb: &s.buf[0][0], Buflen: page})
	}},
	rule{name: "lend/the kernel zeroes the headers and nothing else",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			s.alloc(page)
			for _, b := range s.buf {
				for i := range b {
					b[i] = 0xa5
				}
			}
			s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
			for _, b := range s.buf {
				require.Equal(t, make([]byte, 32), b[:32])
				for i := 32; i < page; i++ {
					require.Equal(t, byte(0xa5), b[i], "byte %d", i)
				}
			}
		}},
	rule{name: "lend/a second time is EINVAL, and wipes live headers",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			s.rotate()
			s.requireHeader(0, 1, one, 0)
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, s.zbuf(page))
			s.requireHeader(0, 0, 0, 0)
		}},
	rule{name: "lend/BIOCGBLEN before is net.bpf.bufsize", run: func(t *testing.T, w lab.World) {
		lab.SetSysctl(t, w, "net.bpf.bufsize", 12345)
		s := open(t, w)
		s.set(zbuf.BIOCSETBUFMODE, zmode)
		require.Equal(t, 12345, int(s.get(zbuf.BIOCGBLEN)))
	}},
	rule{name: "lend/BIOCSETIF without buffers is EINVAL", run: func(t *testing.T, w lab.World) {
		s := open(t, w).pair()
		s.set(zbuf.BIOCSETBUFMODE, zmode)
		s.refuse(syscall.EINVAL, zbuf.BIOCSETIF, ifreq(s.p.A))
		s.refuse(syscall.ENXIO, zbuf.BIOCSETIF, ifreq("nosuch0"))
	}},
	rule{name: "lend/BIOCROTZBUF before anything is 0 and nothing",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			var z zbuf.Zbuf
			s.do(zbuf.BIOCROTZBUF, &z)
			require.Nil(t, z.Bufa)
			s.alloc(page)
			s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
			which, _ := s.rotate()
			require.Equal(t, -1, which)
		}},
	rule{name: "lend/BIOCSETFNR and BIOCSETWF before the buffers are harmless",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			s.do(zbuf.BIOCSETFNR, program(retK(20)))
			s.do(zbuf.BIOCSETWF, acceptAll())
			s.alloc(page)
			s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
			s.attach(s.p.A)
			s.inject(1)
			s.rotate()
			require.Equal(t, 20, int(parse(t, s.contents(0), hdr64)[0].caplen))
		}},
	rule{name: "lend/mode, buffers, filter, interface: in force from the first packet",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair().lend(page)
			s.do(zbuf.BIOCSETF, program(retK(20)))
			s.attach(s.p.A)
			s.inject(1)
			s.rotate()
			require.Equal(t, 20, int(parse(t, s.contents(0), hdr64)[0].caplen))
		}},
	rule{name: "panic/BIOCFLUSH between mode and buffers", only: model, why: "it panics the kernel; " +
		"TestPanic does it there when asked",
		run: panics(func(s *sess) error { return s.Ioctl(zbuf.BIOCFLUSH, nil) })},
	rule{name: "panic/BIOCSETF between mode and buffers", only: model, why: "it panics the kernel; " +
		"TestPanic does it there when asked",
		run: panics(func(s *sess) error { return s.Ioctl(zbuf.BIOCSETF, acceptAll()) })},
)
