package conformance

import (
	"bytes"
	"encoding/binary"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// write writes a packet that must be taken.
func (s *sess) write(p []byte) {
	s.t.Helper()
	n, err := s.Write(p)
	require.NoError(s.t, err)
	require.Equal(s.t, len(p), n)
}

func (s *sess) refuseWrite(want syscall.Errno, p []byte) {
	s.t.Helper()
	_, err := s.Write(p)
	require.Equal(s.t, error(want), err)
}

// captured rotates the store buffer, returns its packets, and acknowledges it.
func (s *sess) captured() (frames [][]byte) {
	s.t.Helper()
	for {
		i, _ := s.rotate()
		if i < 0 {
			return frames
		}
		for _, r := range parse(s.t, s.contents(i), hdr64) {
			frames = append(frames, append([]byte(nil), r.data...))
		}
		s.h[i].Ack()
	}
}

var _ = add(
	rule{name: "write/the packet goes out whole and is seen going out",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			o := open(t, w).lend(page)
			o.attach(s.p.B)
			s.set(zbuf.BIOCSHDRCMPLT, 1)
			f := lab.Frame(100, 5)
			s.write(f)
			s.rotate()
			s.requireFrames(s.contents(0), f)
			require.NoError(t, lab.Until(func() (bool, error) { return o.nread() > 0, nil }))
			o.rotate()
			o.requireFrames(o.contents(0), f)
		}},
	rule{name: "write/the source address is filled in unless BIOCSHDRCMPLT",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			f := lab.Frame(64, 1)
			s.write(f)
			s.rotate()
			got := parse(t, s.contents(0), hdr64)[0].data
			require.NotEqual(t, f[6:12], got[6:12])
			copy(got[6:12], f[6:12])
			require.Equal(t, f, got)
		}},
	rule{name: "write/ENXIO when not attached", run: func(t *testing.T, w lab.World) {
		open(t, w).refuseWrite(syscall.ENXIO, lab.Frame(64, 1))
	}},
	rule{name: "write/ENETDOWN when the interface is down",
		differs: []string{"TapWrite"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			require.NoError(t, w.SetUp(s.p.A, false))
			s.refuseWrite(syscall.ENETDOWN, lab.Frame(64, 1))
			s.refuseWrite(syscall.ENETDOWN, lab.Frame(5, 1))
			s.requireWrites(2, 0, 2)
		}},
	rule{name: "write/shorter than a link header, longer than the MTU: EMSGSIZE",
		differs: []string{"TapWrite"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.refuseWrite(syscall.EMSGSIZE, lab.Frame(1, 1))
			s.refuseWrite(syscall.EMSGSIZE, lab.Frame(13, 1))
			s.write(lab.Frame(14, 1))
			s.write(lab.Frame(1514, 1))
			require.NoError(t, w.SetMTU(s.p.A, 100))
			s.write(lab.Frame(114, 1))
			if featuresOf(w).TapWrite {
				s.write(lab.Frame(115, 1)) // bpf does not look at the MTU
				s.requireWrites(6, 4, 2)
				return
			}
			s.refuseWrite(syscall.EMSGSIZE, lab.Frame(115, 1))
			require.NoError(t, w.SetMTU(s.p.A, 1500))
			s.refuseWrite(syscall.EMSGSIZE, lab.Frame(1515, 1))
			s.requireWrites(7, 3, 4)
		}},
	rule{name: "write/longer than a page, or than 16 KiB, finds no room",
		differs: []string{"LongWrite", "TapWrite"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, 8*page)
			require.NoError(t, w.SetMTU(s.p.A, 20000))
			f := featuresOf(w)
			most := by(f.LongWrite, 16384, 4096)
			s.write(lab.Frame(4096, 1))
			s.write(lab.Frame(most, 1))
			s.refuseWrite(by(f.TapWrite, syscall.ENOMEM, syscall.EIO), lab.Frame(most+1, 1))
		}},
	rule{name: "write/nothing writes nothing",
		differs: []string{"TapWrite"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			n, err := s.Write(nil)
			require.NoError(t, err)
			require.Zero(t, n)
			require.Equal(t, by(featuresOf(w).TapWrite, [3]uint64{}, [3]uint64{1, 0, 1}), s.wcounts(),
				"counted as dropped, or not at all")
			require.Zero(t, s.nread())
			n, err = open(t, w).Write(nil)
			require.Equal(t, by(featuresOf(w).TapWrite, nil, error(syscall.ENXIO)), err, "not attached")
			require.Zero(t, n)
		}},
	rule{name: "write/tun takes IPv4, and nothing with BIOCSHDRCMPLT",
		differs: []string{"TapWrite"},
		run: func(t *testing.T, w lab.World) {
			ifname, remove, err := w.NewTunnel()
			require.NoError(t, err)
			defer func() { require.NoError(t, remove()) }()
			packet := func(family uint32) []byte {
				return append(binary.NativeEndian.AppendUint32(nil, family), "no IP packet at all"...)
			}
			const inet, inet6, isDone = 2, 28, 31
			later := featuresOf(w).TapWrite
			for _, c := range []struct {
				hdrcmplt, family uint32
				want             error
				seen             uint32
			}{
				{0, inet, nil, inet},
				{0, inet6, syscall.EAFNOSUPPORT, inet6},
				{1, inet, by(later, nil, error(syscall.EAFNOSUPPORT)), by[uint32](later, inet, isDone)},
			} {
				s := open(t, w).lend(page)
				s.set(zbuf.BIOCSHDRCMPLT, c.hdrcmplt)
				s.attach(ifname)
				require.Equal(t, 0, int(s.get(zbuf.BIOCGDLT)))
				_, err := s.Write(packet(c.family))
				require.Equal(t, c.want, err, "BIOCSHDRCMPLT %d, family %d", c.hdrcmplt, c.family)
				require.Equal(t, [][]byte{packet(c.seen)}, s.captured(), "listeners see what is then refused")
				s.close()
			}
		}},
	rule{name: "write/loopback takes IP, with BIOCSHDRCMPLT too",
		run: func(t *testing.T, w lab.World) {
			const inet, apple = 2, 16
			for hdrcmplt := range uint32(2) {
				s := open(t, w).lend(page)
				s.set(zbuf.BIOCSHDRCMPLT, hdrcmplt)
				s.do(zbuf.BIOCSETF, program(
					zbuf.Insn{Op: 0x20, K: 4},                            // the word behind the family
					zbuf.Insn{Op: 0x15, Jf: 1, K: 0x6e6f2049}, retK(100), // is ours
					retK(0),
				))
				s.attach("lo0")
				packet := append(binary.NativeEndian.AppendUint32(nil, inet), "no IP packet at all"...)
				s.write(packet)
				require.Equal(t, [][]byte{packet}, s.captured(), "comes in, once")
				binary.NativeEndian.PutUint32(packet, apple)
				s.refuseWrite(syscall.EAFNOSUPPORT, packet)
				require.Empty(t, s.captured())
				s.close()
			}
		}},
	rule{name: "write/EBADF on a descriptor opened to read", run: func(t *testing.T, w lab.World) {
		d, err := w.OpenMode(syscall.O_RDONLY | syscall.O_NONBLOCK)
		require.NoError(t, err)
		s := &sess{Desc: d, t: t, w: w}
		defer s.close()
		s.pair().attach(s.p.A)
		s.refuseWrite(syscall.EBADF, lab.Frame(64, 1))
		s.requireNext(s.inject(1))
	}},
	rule{name: "write/the write filter refuses with EPERM",
		differs: []string{"TapWrite"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCSHDRCMPLT, 1)
			s.do(zbuf.BIOCSETWF, oddSeed(1))
			s.refuseWrite(syscall.EPERM, lab.Frame(64, 2))
			s.write(lab.Frame(64, 3))
			require.Equal(t, [][]byte{lab.Frame(64, 3)}, s.captured(), "its value cuts nothing")
			s.requireWrites(2, 1, 1)
			s.do(zbuf.BIOCSETWF, &zbuf.Program{})
			s.write(lab.Frame(64, 2))
		}},
	rule{name: "direction/in: not what the host sends", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
		s.p.Send(t, lab.Frame(64, 50))
		want := s.inject(1)
		require.Equal(t, want, s.captured())
		require.Equal(t, 1, int(s.listener().Rcount), "not even counted")
	}},
	rule{name: "direction/out: not what the host receives", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_OUT)
		s.inject(1)
		s.p.Send(t, lab.Frame(64, 50))
		require.Equal(t, [][]byte{lab.Frame(64, 50)}, s.captured())
		require.Equal(t, 1, int(s.listener().Rcount))
	}},
	rule{name: "direction/both", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		want := s.inject(1)
		s.p.Send(t, lab.Frame(64, 50))
		require.Equal(t, append(want, lab.Frame(64, 50)), s.captured())
	}},
	rule{name: "direction/changing it keeps what is stored", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		want := s.inject(2)
		s.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_OUT)
		require.Equal(t, want, s.captured())
	}},
	rule{name: "feedback/written packets come in, in both directions once",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCSHDRCMPLT, 1)
			s.set(zbuf.BIOCFEEDBACK, 1)
			f := lab.Frame(64, 1)
			s.write(f)
			require.NoError(t, lab.Until(func() (bool, error) { return s.nread() > 0, nil }))
			require.Equal(t, [][]byte{f}, s.captured())
		}},
	rule{name: "feedback/direction in sees it come in", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.set(zbuf.BIOCSHDRCMPLT, 1)
		s.set(zbuf.BIOCFEEDBACK, 1)
		s.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
		f := lab.Frame(64, 1)
		s.write(f)
		require.NoError(t, lab.Until(func() (bool, error) { return s.nread() > 0, nil }))
		require.Equal(t, [][]byte{f}, s.captured())
	}},
	rule{name: "feedback/what comes in has the source address filled in, or as it was written",
		differs: []string{"TapWrite"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCFEEDBACK, 1)
			f := lab.Frame(64, 1)
			s.write(f)
			require.NoError(t, lab.Until(func() (bool, error) { return s.nread() > 0, nil }))
			got := s.captured()
			require.Len(t, got, 1)
			require.Equal(t, featuresOf(w).TapWrite, bytes.Equal(f[6:12], got[0][6:12]),
				"%x came in as %x", f[:14], got[0][:14])
			copy(got[0][6:12], f[6:12])
			require.Equal(t, f, got[0], "nothing else differs")
		}},
	rule{name: "stats/writes: all, those that passed, those that failed",
		differs: []string{"TapWrite"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.write(lab.Frame(64, 1))
			s.refuseWrite(syscall.EMSGSIZE, lab.Frame(2, 1))
			s.requireWrites(2, 1, 1)
			s.do(zbuf.BIOCFLUSH, nil)
			require.Equal(t, [3]uint64{}, s.wcounts())
		}},
)

// requireWrites compares the counters of writes: all, passed, failed. Later kernels do not count
// all.
func (s *sess) requireWrites(all, passed, failed uint64) {
	s.t.Helper()
	want := [3]uint64{by(featuresOf(s.w).TapWrite, 0, all), passed, failed}
	require.Equal(s.t, want, s.wcounts())
}

// wcounts are the counters of writes: all, passed, failed.
func (s *sess) wcounts() [3]uint64 {
	s.t.Helper()
	x := s.listener()
	return [3]uint64{x.Wcount, x.Wfcount, x.Wdcount}
}
