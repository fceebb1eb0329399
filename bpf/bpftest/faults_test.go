package bpftest_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func TestFaults(t *testing.T) {
	t.Run("the nth call of an operation", func(t *testing.T) {
		k := newKernel()
		k.FailNext("open", 2, syscall.EBUSY)
		s := open(t, k)
		_, err := k.Open()
		require.Equal(t, syscall.EBUSY, err)
		open(t, k)
		k.FailNext("map", 2, syscall.ENOMEM)
		k.FailNext("BIOCSETZBUF", 1, syscall.EFAULT)
		s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
		a, err := s.Map(page)
		require.NoError(t, err)
		_, err = s.Map(page)
		require.Equal(t, syscall.ENOMEM, err)
		b, err := s.Map(page)
		require.NoError(t, err)
		require.Equal(t, 2*page, k.MappedBytes())
		s.buf = [2][]byte{a, b}
		s.refuse(syscall.EFAULT, zbuf.BIOCSETZBUF, s.zbuf())
		s.do(zbuf.BIOCSETZBUF, s.zbuf())
		require.NoError(t, s.Unmap(b))
		require.Equal(t, page, k.MappedBytes())
	})
	t.Run("a hook sees every operation, and can refuse it", func(t *testing.T) {
		var trace []string
		refuse := ""
		k := newKernel(
			bpftest.WithTrace(func(op string) { trace = append(trace, op) }),
			bpftest.WithFault(func(op string) error {
				if op == refuse {
					return syscall.EINTR
				}
				return nil
			}))
		s := open(t, k)
		ops := map[string]func() error{
			"open":      func() error { _, err := k.OpenDescriptor(); return err },
			"read":      func() error { _, err := s.Read(nil); return err },
			"write":     func() error { _, err := s.Write(frame(64)); return err },
			"wait":      func() error { _, err := s.Wait(true, 0); return err },
			"wake":      s.Wake,
			"poll":      func() error { _, err := s.Poll(in, 0); return err },
			"map":       func() error { _, err := s.Map(page); return err },
			"unmap":     func() error { return s.Unmap(nil) },
			"limit":     func() error { return s.Limit(nil, false) },
			"BIOCFLUSH": func() error { return s.Ioctl(zbuf.BIOCFLUSH, nil) },
			"close":     s.Close,
		}
		trace = nil
		var want []string
		for op, call := range ops {
			refuse = op
			require.Equal(t, syscall.EINTR, call(), op)
			want = append(want, op)
		}
		s.Detached()
		require.Equal(t, append(want, "detached"), trace)
	})
	t.Run("memory comes in whole pages", func(t *testing.T) {
		s := open(t, newKernel(bpftest.WithPageSize(16384)))
		require.Equal(t, 16384, s.PageSize())
		require.Equal(t, 16384, s.k.PageSize())
		for _, n := range []int{0, -16384, 4096} {
			_, err := s.Map(n)
			require.Equal(t, syscall.EINVAL, err)
		}
		s.lend(32768)
		require.Equal(t, syscall.EINVAL, s.Unmap(s.buf[0][:16384]))
		require.Equal(t, syscall.EINVAL, s.Unmap(nil))
		var max uintptr
		s.do(zbuf.BIOCGETZMAX, &max)
		require.EqualValues(t, 512*16384, max)
	})
	t.Run("descriptors opened for one thing alone", func(t *testing.T) {
		k := newKernel()
		open(t, k)
		w, err := k.OpenMode(syscall.O_WRONLY | syscall.O_NONBLOCK)
		require.NoError(t, err)
		_, err = w.Read(make([]byte, 4096))
		require.Equal(t, syscall.EBADF, err)
		require.NoError(t, w.Ioctl(zbuf.BIOCSETIF, ifreq("em0")))
		k.Interface("em0").Receive(frame(64))
		require.Zero(t, k.Stats()[0].Rcount, "it is among the writers")
		r, err := k.OpenMode(syscall.O_RDONLY | syscall.O_NONBLOCK)
		require.NoError(t, err)
		_, err = r.Write(frame(64))
		require.Equal(t, syscall.EBADF, err)
	})
}
