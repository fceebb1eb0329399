package conformance

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

func program(prog ...zbuf.Insn) *zbuf.Program {
	return &zbuf.Program{Len: uint32(len(prog)), Insns: &prog[0]}
}

func retK(k uint32) zbuf.Insn { return zbuf.Insn{Op: 0x06, K: k} }

// oddSeed accepts the frames whose seed's first byte is odd, n bytes of them.
func oddSeed(n uint32) *zbuf.Program {
	return program(
		zbuf.Insn{Op: 0x30, K: 14},              // ldb [14]
		zbuf.Insn{Op: 0x45, Jt: 0, Jf: 1, K: 1}, // jset #1
		retK(n), retK(0))
}

var _ = add(
	rule{name: "filter/the return value is the snapshot length",
		run: func(t *testing.T, w lab.World) {
			for _, k := range []uint32{1, 13, 63, 64, 65, 0xffffffff} {
				s := open(t, w).pair().lend(page)
				s.do(zbuf.BIOCSETF, program(retK(k)))
				s.attach(s.p.A)
				want := s.inject(2)
				s.rotate()
				n := min(64, k)
				for i, r := range parse(t, s.contents(0), hdr64) {
					require.Equal(t, int(n), int(r.caplen))
					require.Equal(t, 64, int(r.datalen))
					require.Equal(t, want[i][:n], r.data)
				}
			}
		}},
	rule{name: "filter/0 refuses: seen, not matched, not stored",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair().lend(page)
			s.do(zbuf.BIOCSETF, program(retK(0)))
			s.attach(s.p.A)
			s.inject(3)
			require.Zero(t, s.nread())
			x := s.listener()
			require.Equal(t, [3]uint64{3, 0, 0}, [3]uint64{x.Rcount, x.Fcount, x.Dcount})
		}},
	rule{name: "filter/none, or an empty one, accepts all", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.inject(1)
		s.do(zbuf.BIOCSETFNR, program(retK(0)))
		s.inject(1)
		s.do(zbuf.BIOCSETFNR, &zbuf.Program{})
		s.inject(1)
		s.rotate()
		s.requireFrames(s.contents(0), lab.Frame(64, 1), lab.Frame(64, 3))
	}},
	rule{name: "filter/looks at the packet", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.do(zbuf.BIOCSETF, oddSeed(0xffff))
		s.inject(6)
		s.rotate()
		s.requireFrames(s.contents(0), lab.Frame(64, 1), lab.Frame(64, 3), lab.Frame(64, 5))
		x := s.listener()
		require.Equal(t, [3]uint64{6, 3, 0}, [3]uint64{x.Rcount, x.Fcount, x.Dcount})
	}},
	rule{name: "filter/BIOCSETF empties what the kernel owns and zeroes the counters",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(3)
			s.do(zbuf.BIOCSETF, acceptAll())
			require.Zero(t, s.nread())
			recv, _ := s.stats()
			require.Zero(t, recv)
			want := s.inject(1)
			s.rotate()
			s.requireFrames(s.contents(0), want...)
		}},
	rule{name: "filter/BIOCSETFNR keeps both", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.inject(3)
		s.do(zbuf.BIOCSETFNR, program(retK(20)))
		require.Equal(t, 2*stride+one, s.nread())
		recv, _ := s.stats()
		require.Equal(t, 3, int(recv))
	}},
	rule{name: "filter/BIOCSETWF keeps both, and does not filter what is read",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(3)
			s.do(zbuf.BIOCSETWF, program(retK(0)))
			s.inject(1)
			require.Equal(t, 3*stride+one, s.nread())
		}},
	rule{name: "filter/net.bpf.maxinsns limits the length", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		long := make([]zbuf.Insn, 601)
		for i := range long {
			long[i] = retK(1)
		}
		s.do(zbuf.BIOCSETF, program(long[:512]...))
		s.refuse(syscall.EINVAL, zbuf.BIOCSETF, program(long[:513]...))
		s.refuse(syscall.EINVAL, zbuf.BIOCSETWF, program(long[:513]...))
		s.refuse(syscall.EINVAL, zbuf.BIOCSETFNR, program(long[:513]...))
		lab.SetSysctl(t, w, "net.bpf.maxinsns", 600)
		s.do(zbuf.BIOCSETF, program(long[:600]...))
		s.refuse(syscall.EINVAL, zbuf.BIOCSETF, program(long...))
		lab.SetSysctl(t, w, "net.bpf.maxinsns", 3)
		s.do(zbuf.BIOCSETF, program(long[:3]...))
		s.refuse(syscall.EINVAL, zbuf.BIOCSETF, program(long[:4]...))
	}},
	rule{name: "filter/a length without instructions is EINVAL",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.refuse(syscall.EINVAL, zbuf.BIOCSETF, &zbuf.Program{Len: 1})
		}},
	rule{name: "filter/a refused one leaves the old in force",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.do(zbuf.BIOCSETF, program(retK(20)))
			s.inject(1)
			s.refuse(syscall.EINVAL, zbuf.BIOCSETF, program(zbuf.Insn{Op: 0xffff}))
			recv, _ := s.stats()
			require.Equal(t, 1, int(recv), "and resets nothing")
			s.inject(1)
			s.rotate()
			for _, r := range parse(t, s.contents(0), hdr64) {
				require.Equal(t, 20, int(r.caplen))
			}
		}},
	rule{name: "validate/every code: the kernel and zbuf.Validate agree",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			taken := 0
			for op := range 0x300 {
				for _, k := range []uint32{0, 1, 15, 16, 0x80000000} {
					for _, prog := range [][]zbuf.Insn{
						{{Op: uint16(op), K: k}},
						{{Op: uint16(op), K: k}, retK(1)},
						{{Op: uint16(op), K: k, Jt: 1}, retK(1)},
					} {
						err := s.Ioctl(zbuf.BIOCSETWF, program(prog...))
						require.Equal(t, zbuf.Validate(prog) == nil, err == nil, "%v: %v", prog, err)
						if err == nil {
							taken++
						} else {
							require.Equal(t, error(syscall.EINVAL), err)
						}
					}
				}
			}
			require.Greater(t, taken, 300)
		}},
	rule{name: "validate/random programs: the kernel and zbuf.Validate agree",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			rng := seeded(t)
			taken := 0
			for range 3000 {
				prog := make([]zbuf.Insn, 1+rng.IntN(12))
				for i := range prog {
					prog[i] = randomInsn(rng, len(prog))
				}
				if rng.IntN(8) != 0 {
					prog[len(prog)-1] = retK(rng.Uint32())
				}
				err := s.Ioctl(zbuf.BIOCSETWF, program(prog...))
				require.Equal(t, zbuf.Validate(prog) == nil, err == nil, "%v", prog)
				if err == nil {
					taken++
				}
			}
			require.Greater(t, taken, 100)
			t.Logf("%d of 3000 were valid", taken)
		}},
)
