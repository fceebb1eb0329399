package bpftest_test

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func TestBuffered(t *testing.T) {
	lp64(t)
	const ms = time.Millisecond
	for name, rule := range map[string]func(t *testing.T, k *bpftest.Kernel){
		"read takes what there is, and only into a whole buffer": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			_, err := s.Read(make([]byte, page))
			require.Equal(t, syscall.EAGAIN, err)
			frames := s.receive(2)
			_, err = s.Read(make([]byte, page-1))
			require.Equal(t, syscall.EINVAL, err)
			n, err := s.Read(nil)
			require.NoError(t, err)
			require.Zero(t, n)
			s.requireFrames(s.read(), frames...)
			_, err = s.Read(make([]byte, page))
			require.Equal(t, syscall.EAGAIN, err)
		},
		"two buffers, then drops; reading makes room": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			frames := s.receive(100)
			require.Equal(t, zbuf.Stat{Recv: 100, Drop: 100 - 2*full}, s.stat())
			require.Equal(t, 2*most, s.nread())
			s.requireFrames(s.read(), frames[:full]...)
			require.Equal(t, most, s.nread())
			frames = append(frames[:2*full], s.receive(1)...)
			s.requireFrames(s.read(), frames[full:2*full]...)
			s.requireFrames(s.read(), frames[2*full:]...)
		},
		"SBLEN is clamped, and EINVAL once attached": func(t *testing.T, k *bpftest.Kernel) {
			s := open(t, k)
			require.EqualValues(t, 4096, s.get(zbuf.BIOCGBLEN))
			for _, c := range []struct{ set, want uint32 }{
				{0, 32}, {31, 32}, {33, 33}, {1 << 30, 512 << 10}, {4099, 4099},
			} {
				v := c.set
				s.do(zbuf.BIOCSBLEN, &v)
				require.Equal(t, c.want, v)
				require.Equal(t, c.want, s.get(zbuf.BIOCGBLEN))
			}
			mode := uint32(zbuf.BPF_BUFMODE_BUFFER)
			s.refuse(syscall.EBUSY, zbuf.BIOCSETBUFMODE, &mode)
			s.attach("em0")
			v := uint32(5)
			s.refuse(syscall.EINVAL, zbuf.BIOCSBLEN, &v)
			require.EqualValues(t, 5, v, "an error copies nothing out")
		},
		"SBLEN empties a detached descriptor": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			s.receive(full + 1)
			k.RemoveInterface("em0")
			require.Equal(t, most+one, s.nread())
			s.set(zbuf.BIOCSBLEN, page)
			require.Zero(t, s.nread())
		},
		"SETIF allocates the sysctl's size, also if there is no such interface": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			s := open(t, k)
			s.refuse(syscall.ENXIO, zbuf.BIOCSETIF, ifreq("em9"))
			mode := uint32(zbuf.BPF_BUFMODE_ZBUF)
			s.refuse(syscall.EBUSY, zbuf.BIOCSETBUFMODE, &mode)
			require.NoError(t, k.SetSysctl("net.bpf.bufsize", 16384))
			s = open(t, k)
			require.NoError(t, k.SetSysctl("net.bpf.maxbufsize", 8192))
			require.EqualValues(t, 16384, s.get(zbuf.BIOCGBLEN))
			s.attach("em0")
			require.EqualValues(t, 8192, s.get(zbuf.BIOCGBLEN))
		},
		"a size that is no multiple of the alignment takes the last record whole": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			s := buffered(t, k, 27)
			size := s.get(zbuf.BIOCGBLEN)
			require.EqualValues(t, 32, size)
			s = buffered(t, k, 32+27)
			s.em0.Receive(frame(1))
			s.em0.Receive(frame(1))
			recs := parse(t, s.read())
			require.Len(t, recs, 2)
			require.Equal(t, frame(1), recs[1].data)
			s.em0.Receive(frame(64))
			require.Equal(t, 59-hdrlen, parse(t, s.read())[0].caplen)
		},
		"FLUSH empties both buffers": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			s.receive(full + 1)
			s.do(zbuf.BIOCFLUSH, nil)
			require.Zero(t, s.nread())
			require.Equal(t, zbuf.Stat{}, s.stat())
			s.requireFrames(func() []byte { f := s.receive(1); _ = f; return s.read() }(), func() []byte {
				f := frame(64)
				f[63] = s.n
				return f
			}())
		},
		"no zero-copy requests": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCROTZBUF, new(zbuf.Zbuf))
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCSETZBUF, new(zbuf.Zbuf))
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCGETZMAX, new(uintptr))
			mode := uint32(zbuf.BPF_BUFMODE_BUFFER)
			s.refuse(syscall.EBUSY, zbuf.BIOCSETBUFMODE, &mode)
			mode = 3
			s.refuse(syscall.EINVAL, zbuf.BIOCSETBUFMODE, &mode)
		},
		"detached: the rest, then ENXIO": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			frames := s.receive(full + 2)
			k.RemoveInterface("em0")
			s.requireFrames(s.read(), frames[:full]...)
			s.requireFrames(s.read(), frames[full:]...)
			_, err := s.Read(make([]byte, page))
			require.Equal(t, syscall.ENXIO, err)
		},
		"not attached yet: ENXIO": func(t *testing.T, k *bpftest.Kernel) {
			_, err := open(t, k).Read(make([]byte, 4096))
			require.Equal(t, syscall.ENXIO, err)
		},
		"readiness: a full buffer, or with immediate anything": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			s.receive(full)
			ev, _ := s.wait(true, 0)
			require.Equal(t, zbuf.Event{}, ev)
			s.receive(1)
			ev, _ = s.wait(false, 0)
			require.Equal(t, readable(most+one), ev)
			s.read()
			ev, _ = s.wait(true, 0)
			require.Equal(t, zbuf.Event{}, ev)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			ev, _ = s.wait(true, 0)
			require.Equal(t, readable(one), ev)
		},
		"a read stops the timeout": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			s.wait(true, 0)
			_, err := s.Read(make([]byte, page))
			require.Equal(t, syscall.EAGAIN, err)
			s.receive(1)
			ev, _ := s.wait(false, time.Second)
			require.Equal(t, zbuf.Event{}, ev)
		},
		"blocking read: ends with the timeout, with 0 bytes if there is nothing": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			s := blocking(t, k)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			from := time.Now()
			require.Empty(t, s.read())
			require.Equal(t, 100*ms, time.Since(from))
			time.AfterFunc(30*ms, func() { s.receive(1) })
			require.Len(t, s.read(), one)
			require.Equal(t, 200*ms, time.Since(from), "a packet does not end it")
		},
		"blocking read: ends with a full buffer, in immediate mode with a packet": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			s := blocking(t, k)
			from := time.Now()
			time.AfterFunc(30*ms, func() { s.receive(full + 1) })
			require.Len(t, s.read(), most)
			require.Equal(t, 30*ms, time.Since(from))
			s.set(zbuf.BIOCIMMEDIATE, 1)
			require.Len(t, s.read(), one)
			time.AfterFunc(30*ms, func() { s.receive(1) })
			require.Len(t, s.read(), one)
			require.Equal(t, 60*ms, time.Since(from))
		},
		"blocking read: takes what is there after a poll timed out": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			s := blocking(t, k)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			s.receive(1)
			size := make([]byte, page)
			s.poll(in, time.Minute)
			n, err := s.Read(size)
			require.NoError(t, err)
			require.Equal(t, one, n)
		},
		"blocking read: ENXIO when the interface goes, though a packet is left": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			s := blocking(t, k)
			s.receive(1)
			time.AfterFunc(30*ms, func() { k.RemoveInterface("em0") })
			_, err := s.Read(make([]byte, page))
			require.Equal(t, syscall.ENXIO, err)
			one := int32(1)
			s.do(zbuf.FIONBIO, &one)
			require.Len(t, s.read(), 90)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rule(t, newKernel()) })
		})
	}
}

// blocking is a descriptor in buffered mode whose Read blocks.
func blocking(t *testing.T, k *bpftest.Kernel) *session {
	t.Helper()
	s := open(t, k)
	d, err := k.OpenMode(syscall.O_RDWR)
	require.NoError(t, err)
	s.Descriptor = d
	size := uint32(page)
	s.do(zbuf.BIOCSBLEN, &size)
	return s.attach("em0")
}
