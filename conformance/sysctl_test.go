package conformance

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// writers opens a descriptor while net.bpf.optimize_writers is 1.
func writers(t *testing.T, w lab.World) *sess {
	t.Helper()
	lab.SetSysctl(t, w, "net.bpf.optimize_writers", 1)
	return open(t, w).lend(page)
}

// requireDeaf and requireHears check whether a descriptor receives.
func (s *sess) requireDeaf(why string) {
	s.t.Helper()
	before := s.nread()
	s.inject(1)
	require.Equal(s.t, before, s.nread(), why)
}

func (s *sess) requireHears(why string) {
	s.t.Helper()
	before := s.nread()
	s.inject(1)
	require.Greater(s.t, s.nread(), before, why)
}

var _ = add(
	rule{name: "sysctl/the values of a machine that has just started",
		run: func(t *testing.T, w lab.World) {
			for name, want := range map[string]int{
				"maxinsns": 512, "bufsize": 4096, "maxbufsize": 524288, "optimize_writers": 0,
			} {
				name = "net.bpf." + name
				v, err := w.Sysctl(name)
				require.NoError(t, err)
				if was, changed := atBoot[name]; changed && w.Name() == kernel {
					v = was
				}
				// 14 takes optimize_writers from the loader, too.
				tunable, err := w.Tunable(name)
				require.NoError(t, err)
				if n, err := strconv.Atoi(tunable); err == nil && featuresOf(w).FilterInFlight {
					want = n
				}
				require.Equal(t, want, v, name)
			}
		}},
	rule{name: "sysctl/none of them is checked when written", run: func(t *testing.T, w lab.World) {
		for _, name := range []string{"zerocopy_enable", "maxinsns", "bufsize", "maxbufsize",
			"optimize_writers"} {
			for _, v := range []int{-1, 0, 1, 1 << 30} {
				lab.SetSysctl(t, w, "net.bpf."+name, v)
				got, err := w.Sysctl("net.bpf." + name)
				require.NoError(t, err)
				require.Equal(t, v, got, name)
			}
		}
	}},
	rule{name: "sysctl/an unknown one is ENOENT", run: func(t *testing.T, w lab.World) {
		_, err := w.Sysctl("net.bpf.nosuch")
		require.ErrorIs(t, err, syscall.ENOENT)
	}},
	rule{name: "optimize_writers/nothing arrives until a filter is set after attach",
		run: func(t *testing.T, w lab.World) {
			s := writers(t, w).pair()
			s.do(zbuf.BIOCSETF, oddSeed(0xffff))
			s.attach(s.p.A)
			s.requireDeaf("the filter was set before")
			recv, _ := s.stats()
			require.Zero(t, recv)
			s.do(zbuf.BIOCSETFNR, acceptAll())
			s.requireHears("BIOCSETFNR repeats it")
		}},
	rule{name: "optimize_writers/BIOCSETF of any program but one return does it",
		run: func(t *testing.T, w lab.World) {
			s := writers(t, w).pair()
			s.attach(s.p.A)
			s.do(zbuf.BIOCSETF, program(zbuf.Insn{Op: 0x00, K: 1}, retK(100)))
			s.requireHears("at once")
		}},
	rule{name: "optimize_writers/BIOCSETF of one return is a snapshot length: the second does it",
		run: func(t *testing.T, w lab.World) {
			s := writers(t, w).pair()
			s.attach(s.p.A)
			s.do(zbuf.BIOCSETF, acceptAll())
			s.requireDeaf("the first")
			s.do(zbuf.BIOCSETF, acceptAll())
			s.requireHears("the second")
		}},
	rule{name: "optimize_writers/an empty program does not do it",
		run: func(t *testing.T, w lab.World) {
			s := writers(t, w).pair()
			s.attach(s.p.A)
			s.do(zbuf.BIOCSETF, &zbuf.Program{})
			s.do(zbuf.BIOCSETFNR, &zbuf.Program{})
			s.requireDeaf("no program")
		}},
	rule{name: "optimize_writers/a write filter does not do it",
		run: func(t *testing.T, w lab.World) {
			s := writers(t, w).pair()
			s.attach(s.p.A)
			s.do(zbuf.BIOCSETWF, acceptAll())
			s.requireDeaf("it upgrades nothing")
		}},
	rule{name: "optimize_writers/is looked at when attaching",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair().lend(page)
			s.attach(s.p.A)
			lab.SetSysctl(t, w, "net.bpf.optimize_writers", 1)
			s.requireHears("attached before")
			s.attach(s.p.A)
			s.requireHears("the same interface again is no attaching")
			s.attach(s.p.B)
			f := lab.Frame(64, 1)
			before := s.nread()
			s.p.Send(t, f)
			require.Equal(t, before, s.nread(), "another interface is")
		}},
	rule{name: "optimize_writers/writers are listed first", run: func(t *testing.T, w lab.World) {
		p := lab.NewPair(t, w)
		lab.SetSysctl(t, w, "net.bpf.optimize_writers", 1)
		s := open(t, w).lend(page)
		s.attach(p.A)
		lab.SetSysctl(t, w, "net.bpf.optimize_writers", 0)
		o := open(t, w).lend(2 * page)
		o.attach(p.A)
		l := listeners(t, w, p.A)
		require.Len(t, l, 4)
		require.Equal(t, page-32, int(l[0].Bufsize), "the writer")
		require.Equal(t, 2*page-32, int(l[1].Bufsize), "the newest reader")
	}},
	rule{name: "write-only/a descriptor opened to write receives nothing until a filter is set",
		run: func(t *testing.T, w lab.World) {
			d, err := w.OpenMode(syscall.O_WRONLY | syscall.O_NONBLOCK)
			require.NoError(t, err)
			s := &sess{Desc: d, t: t, w: w}
			defer s.close()
			s.pair().attach(s.p.A)
			s.requireDeaf("opened without FREAD")
			_, err = s.Read(make([]byte, 4096))
			require.Equal(t, error(syscall.EBADF), err)
			s.do(zbuf.BIOCSETFNR, acceptAll())
			s.requireHears("upgraded")
		}},
	rule{name: "stats/only attached descriptors are listed, the newest first",
		run: func(t *testing.T, w lab.World) {
			p := lab.NewPair(t, w)
			before := len(listeners(t, w, p.A))
			a := open(t, w).lend(page)
			require.Len(t, listeners(t, w, p.A), before)
			a.attach(p.A)
			b := open(t, w).lend(2 * page)
			b.attach(p.A)
			l := listeners(t, w, p.A)
			require.Len(t, l, before+2)
			require.Equal(t, 2*page-32, int(l[0].Bufsize))
			require.Equal(t, page-32, int(l[1].Bufsize))
			a.close()
			require.Len(t, listeners(t, w, p.A), before+1)
		}},
	rule{name: "stats/the size, and ENOMEM for too small a buffer",
		run: func(t *testing.T, w lab.World) {
			p := lab.NewPair(t, w)
			n, err := w.Stats(nil)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, len(listeners(t, w, p.A))*lab.SizeofListener)
			require.Zero(t, n%lab.SizeofListener)
			_, err = w.Stats(make([]byte, n-1))
			require.Equal(t, error(syscall.ENOMEM), err)
			got, err := w.Stats(make([]byte, n+1000))
			require.NoError(t, err)
			require.Equal(t, n, got)
		}},
	rule{name: "stats/writing zeroes resets all readers, but not what failed to be written",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(3)
			s.write(lab.Frame(64, 1))
			s.refuseWrite(syscall.EMSGSIZE, lab.Frame(3, 1))
			require.NoError(t, w.SetStats(make([]byte, lab.SizeofListener)))
			s.p.Forgotten()
			x := s.listener()
			require.Equal(t, [7]uint64{0, 0, 0, 0, 0, 1, 0}, [7]uint64{x.Rcount, x.Dcount, x.Fcount,
				x.Wcount, x.Wfcount, x.Wdcount, x.Zcopy})
			require.Equal(t, 3*stride+one, s.nread(), "the packets stay")
			s.inject(1)
			require.Equal(t, 1, int(s.listener().Rcount))
		}},
	rule{name: "stats/writing anything else is EINVAL", run: func(t *testing.T, w lab.World) {
		for _, n := range []int{1, lab.SizeofListener - 1, lab.SizeofListener + 1,
			2 * lab.SizeofListener} {
			require.Equal(t, error(syscall.EINVAL), w.SetStats(make([]byte, n)), "%d bytes", n)
		}
		p := make([]byte, lab.SizeofListener)
		p[100] = 1
		require.Equal(t, error(syscall.EINVAL), w.SetStats(p))
	}},
	rule{name: "stats/dropped ones matched",
		differs: []string{"PadZero"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.fill()
			x := s.listener()
			appends := by[uint64](featuresOf(w).PadZero, 2*(2*full+full-1), 2*2*full)
			require.Equal(t, [4]uint64{2*full + 1, 2*full + 1, 1, appends},
				[4]uint64{x.Rcount, x.Fcount, x.Dcount, x.Zcopy})
		}},
	rule{name: "stats/a read(2) descriptor copies nothing for user memory",
		run: func(t *testing.T, w lab.World) {
			s := buffered(t, w, 5000)
			s.inject(2)
			x := s.listener()
			require.Equal(t, buffer, int(x.Bufmode))
			require.Zero(t, x.Zcopy)
			require.Equal(t, 5000, int(x.Bufsize))
			require.Equal(t, stride+one, int(x.Slen))
			require.Zero(t, x.Hlen)
		}},
)
