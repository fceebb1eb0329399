package conformance

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// openBlocking opens a descriptor whose read(2) waits.
func openBlocking(t *testing.T, w lab.World) *sess {
	t.Helper()
	d, err := w.OpenMode(syscall.O_RDWR)
	require.NoError(t, err)
	s := &sess{Desc: d, t: t, w: w}
	t.Cleanup(s.close)
	return s
}

// readAsync reads in a goroutine.
func (s *sess) readAsync() <-chan readResult {
	buf := make([]byte, s.get(zbuf.BIOCGBLEN))
	c := make(chan readResult, 1)
	go func() {
		n, err := s.Read(buf)
		c <- readResult{buf[:max(n, 0)], err}
	}()
	return c
}

type readResult struct {
	data []byte
	err  error
}

func (s *sess) requireRes(c <-chan readResult) []byte {
	s.t.Helper()
	select {
	case r := <-c:
		require.NoError(s.t, r.err)
		return r.data
	case <-time.After(lab.Patience):
		require.Fail(s.t, "read never returned")
		return nil
	}
}

var _ = add(
	rule{name: "blen/the default is net.bpf.bufsize, 4096", run: func(t *testing.T, w lab.World) {
		require.Equal(t, 4096, int(open(t, w).get(zbuf.BIOCGBLEN)))
		lab.SetSysctl(t, w, "net.bpf.bufsize", 8000)
		s := open(t, w)
		require.Equal(t, 8000, int(s.get(zbuf.BIOCGBLEN)))
		lab.SetSysctl(t, w, "net.bpf.bufsize", 9000)
		require.Equal(t, 8000, int(s.get(zbuf.BIOCGBLEN)), "as of open")
	}},
	rule{name: "blen/BIOCSBLEN clamps between 32 and net.bpf.maxbufsize",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			for in, out := range map[uint32]uint32{0: 32, 31: 32, 32: 32, 33: 33, 5000: 5000, 524288: 524288,
				524289: 524288, 0xffffffff: 524288} {
				n := in
				s.do(zbuf.BIOCSBLEN, &n)
				require.Equal(t, out, n)
				require.Equal(t, out, s.get(zbuf.BIOCGBLEN))
			}
			lab.SetSysctl(t, w, "net.bpf.maxbufsize", 1<<20)
			n := uint32(1 << 21)
			s.do(zbuf.BIOCSBLEN, &n)
			require.Equal(t, 1<<20, int(n))
		}},
	rule{name: "blen/net.bpf.bufsize beyond the maximum is clamped at attach",
		run: func(t *testing.T, w lab.World) {
			lab.SetSysctl(t, w, "net.bpf.bufsize", 1<<20)
			s := open(t, w).pair()
			require.Equal(t, 1<<20, int(s.get(zbuf.BIOCGBLEN)))
			s.attach(s.p.A)
			require.Equal(t, 524288, int(s.get(zbuf.BIOCGBLEN)))
		}},
	rule{name: "blen/net.bpf.bufsize below the minimum is clamped at attach",
		run: func(t *testing.T, w lab.World) {
			lab.SetSysctl(t, w, "net.bpf.bufsize", 5)
			s := open(t, w).pair()
			require.Equal(t, 5, int(s.get(zbuf.BIOCGBLEN)))
			s.attach(s.p.A)
			require.Equal(t, 32, int(s.get(zbuf.BIOCGBLEN)))
		}},
	rule{name: "blen/EINVAL once attached", run: func(t *testing.T, w lab.World) {
		s := buffered(t, w, 5000)
		s.refuseSet(syscall.EINVAL, zbuf.BIOCSBLEN, 6000)
		require.Equal(t, 5000, int(s.get(zbuf.BIOCGBLEN)))
	}},
	rule{name: "blen/again after detach", run: func(t *testing.T, w lab.World) {
		s := buffered(t, w, 5000)
		require.NoError(t, w.Destroy(s.p.A))
		s.set(zbuf.BIOCSBLEN, 6000)
		require.Equal(t, 6000, int(s.get(zbuf.BIOCGBLEN)))
	}},
	rule{name: "read/the size must be the buffer's", run: func(t *testing.T, w lab.World) {
		s := buffered(t, w, 5000)
		s.inject(1)
		for _, n := range []int{1, 4999, 5001} {
			_, err := s.Read(make([]byte, n))
			require.Equal(t, error(syscall.EINVAL), err)
		}
		s.requireFrames(s.read(), lab.Frame(64, 1))
	}},
	rule{name: "read/non-blocking: what is there, else EAGAIN",
		run: func(t *testing.T, w lab.World) {
			s := buffered(t, w, 5000)
			_, err := s.Read(make([]byte, 5000))
			require.Equal(t, error(syscall.EAGAIN), err)
			want := s.inject(3)
			require.Equal(t, 2*stride+one, s.nread())
			s.requireFrames(s.read(), want...)
			require.Zero(t, s.nread())
			_, err = s.Read(make([]byte, 5000))
			require.Equal(t, error(syscall.EAGAIN), err)
		}},
	rule{name: "read/the hold buffer, then the store buffer", run: func(t *testing.T, w lab.World) {
		const n = (1000-one)/stride + 1
		s := buffered(t, w, 1000)
		want := s.inject(n + 3)
		require.Equal(t, (n-1)*stride+one+2*stride+one, s.nread())
		s.requireFrames(s.read(), want[:n]...)
		s.requireFrames(s.read(), want[n:]...)
	}},
	rule{name: "read/both full: the newest are dropped", run: func(t *testing.T, w lab.World) {
		const n = (1000-one)/stride + 1
		s := buffered(t, w, 1000)
		want := s.inject(2*n + 7)
		recv, drop := s.stats()
		require.Equal(t, 2*n+7, int(recv))
		require.Equal(t, 7, int(drop))
		s.requireFrames(s.read(), want[:n]...)
		s.requireFrames(s.read(), want[n:2*n]...)
		s.requireNext(s.inject(1))
	}},
	rule{name: "read/a smaller packet still fits after a drop",
		run: func(t *testing.T, w lab.World) {
			s := buffered(t, w, 1000)
			big := [][]byte{lab.Frame(800, 1), lab.Frame(800, 2), lab.Frame(800, 3)}
			s.p.Inject(t, big...)
			want := s.inject(1)
			_, drop := s.stats()
			require.Equal(t, 1, int(drop))
			s.requireFrames(s.read(), big[0])
			s.requireFrames(s.read(), big[1], want[0])
		}},
	rule{name: "read/BIOCFLUSH empties both and zeroes the counters",
		run: func(t *testing.T, w lab.World) {
			s := buffered(t, w, 1000)
			s.inject(40)
			s.do(zbuf.BIOCFLUSH, nil)
			require.Zero(t, s.nread())
			require.Equal(t, [2]uint32{}, [2]uint32(two(s.stats())))
			s.requireNext(s.inject(2))
		}},
	rule{name: "read/a packet beyond the buffer is cut to it",
		run: func(t *testing.T, w lab.World) {
			s := buffered(t, w, 100)
			f := lab.Frame(500, 1)
			s.p.Inject(t, f)
			r := parse(t, s.read(), hdr64)
			require.Len(t, r, 1)
			require.Equal(t, 100-hdrlen, int(r[0].caplen))
			require.Equal(t, 500, int(r[0].datalen))
			require.Equal(t, f[:100-hdrlen], r[0].data)
		}},
	rule{name: "read/a buffer as small as the header: nothing captured",
		run: func(t *testing.T, w lab.World) {
			s := buffered(t, w, 32)
			s.p.Inject(t, lab.Frame(60, 1), lab.Frame(61, 2), lab.Frame(62, 3))
			for i := range 2 {
				r := parse(t, s.read(), hdr64)
				require.Len(t, r, 1)
				require.Equal(t, 32-hdrlen, int(r[0].caplen))
				require.Equal(t, 60+i, int(r[0].datalen))
			}
			_, drop := s.stats()
			require.Equal(t, 1, int(drop))
		}},
	rule{name: "read/blocking: the timeout ends it with nothing",
		run: func(t *testing.T, w lab.World) {
			requireLasts(t, 100*time.Millisecond-tick, func() time.Duration {
				s := openBlocking(t, w).pair()
				s.attach(s.p.A)
				s.do(zbuf.BIOCSRTIMEOUT, timeval(100*time.Millisecond))
				from := time.Now()
				require.Empty(t, s.requireRes(s.readAsync()))
				return time.Since(from)
			})
		}},
	rule{name: "read/blocking: the timeout ends it with what is there",
		run: func(t *testing.T, w lab.World) {
			// it starts with the read
			requireLasts(t, 300*time.Millisecond-2*tick, func() time.Duration {
				s := openBlocking(t, w).pair()
				s.attach(s.p.A)
				s.do(zbuf.BIOCSRTIMEOUT, timeval(300*time.Millisecond))
				want := s.inject(1)
				from := time.Now()
				data := s.requireRes(s.readAsync())
				took := time.Since(from)
				s.requireFrames(data, want...)
				return took
			})
		}},
	rule{name: "read/blocking: immediate mode ends it with the first packet",
		run: func(t *testing.T, w lab.World) {
			s := openBlocking(t, w).pair()
			s.attach(s.p.A)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			c := s.readAsync()
			want := s.inject(1)
			s.requireFrames(s.requireRes(c), want...)
		}},
	rule{name: "read/blocking: a full buffer ends it", run: func(t *testing.T, w lab.World) {
		const n = (1000-one)/stride + 1
		s := openBlocking(t, w).pair()
		s.set(zbuf.BIOCSBLEN, 1000)
		s.attach(s.p.A)
		c := s.readAsync()
		want := s.inject(n)
		select {
		case <-c:
			require.Fail(t, "the buffer is full, but nothing came after")
		case <-time.After(quiet):
		}
		s.inject(1)
		s.requireFrames(s.requireRes(c), want...)
	}},
	rule{name: "read/FIONBIO switches between blocking and not",
		run: func(t *testing.T, w lab.World) {
			s := openBlocking(t, w).pair()
			s.attach(s.p.A)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(50*time.Millisecond))
			on, off := int32(1), int32(0)
			s.do(zbuf.FIONBIO, &on)
			_, err := s.Read(make([]byte, 4096))
			require.Equal(t, error(syscall.EAGAIN), err)
			s.do(zbuf.FIONBIO, &off)
			require.Empty(t, s.requireRes(s.readAsync()), "the timeout ended it")
		}},
	rule{name: "read/blocking: the interface goes: ENXIO", run: func(t *testing.T, w lab.World) {
		s := openBlocking(t, w).pair()
		s.attach(s.p.A)
		c := s.readAsync()
		require.NoError(t, w.Destroy(s.p.A))
		select {
		case r := <-c:
			require.Equal(t, error(syscall.ENXIO), r.err)
		case <-time.After(lab.Patience):
			require.Fail(t, "read never returned")
		}
	}},
	rule{name: "read/after detach: what is left, then ENXIO", run: func(t *testing.T, w lab.World) {
		s := buffered(t, w, 1000)
		want := s.inject(12)
		require.NoError(t, w.Destroy(s.p.A))
		s.requireFrames(s.read(), want[:10]...)
		s.requireFrames(s.read(), want[10:]...)
		_, err := s.Read(make([]byte, 1000))
		require.Equal(t, error(syscall.ENXIO), err)
	}},
	rule{name: "read/never attached: ENXIO", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		_, err := s.Read(make([]byte, 4096))
		require.Equal(t, error(syscall.ENXIO), err)
	}},
	rule{name: "read/poll: ready with a full buffer, or in immediate mode",
		run: func(t *testing.T, w lab.World) {
			s := buffered(t, w, 1000)
			require.False(t, s.ready())
			s.inject(10)
			require.False(t, s.ready())
			s.inject(1)
			require.True(t, s.ready())
			s.read()
			require.False(t, s.ready())
			s.set(zbuf.BIOCIMMEDIATE, 1)
			require.True(t, s.ready())
			s.read()
			require.False(t, s.ready())
		}},
	rule{name: "read/poll: the timeout of a read(2) mode descriptor",
		run: func(t *testing.T, w lab.World) {
			requireLasts(t, 100*time.Millisecond-2*tick, func() time.Duration {
				s := buffered(t, w, 1000)
				s.do(zbuf.BIOCSRTIMEOUT, timeval(100*time.Millisecond))
				want := s.inject(1)
				ev, took := s.poll(lab.PollIn, lab.Patience)
				require.Equal(t, int16(lab.PollIn), ev)
				require.True(t, s.ready())
				s.requireFrames(s.read(), want...)
				return took
			})
		}},
	rule{name: "read/kqueue: an edge for each packet in immediate mode",
		run: func(t *testing.T, w lab.World) {
			s := buffered(t, w, 1000)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(1)
			require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(false))
			s.requireQuiet(false, "taken")
			s.inject(1)
			require.Equal(t, zbuf.Event{Readable: true, Data: stride + one}, s.wait(false))
		}},
)

// requireNext reads and compares.
func (s *sess) requireNext(want [][]byte) {
	s.t.Helper()
	s.requireFrames(s.read(), want...)
}
