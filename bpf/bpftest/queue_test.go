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

func TestQueue(t *testing.T) {
	lp64(t)
	const r, w = bpftest.EVFILT_READ, bpftest.EVFILT_WRITE
	read := func(n int) bpftest.Edge { return bpftest.Edge{Filter: r, Data: n} }
	write := bpftest.Edge{Filter: w, Data: 1500}
	for name, rule := range map[string]func(t *testing.T, s *session, next func(want ...bpftest.Edge)){
		"not attached: no edge; attaching brings it": func(
			t *testing.T, s *session, next func(...bpftest.Edge),
		) {
			next()
			s.attach("em0")
			next(write)
			next()
		},
		"a wakeup of the readers is an edge of both": func(
			t *testing.T, s *session, next func(...bpftest.Edge),
		) {
			s.attach("em0")
			next(write)
			s.receive(full)
			next()
			s.receive(1)
			next(read(one+most), write)
			next()
		},
		"detaching brings nothing": func(t *testing.T, s *session, next func(...bpftest.Edge)) {
			s.attach("em0")
			next(write)
			s.em0.Remove()
			next()
		},
		"the read timeout begins when the readers are woken, and an ioctl ends it for good": func(
			t *testing.T, s *session, next func(...bpftest.Edge),
		) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*time.Millisecond))
			s.attach("em0")
			next(write)
			s.receive(1)
			next(read(one), write)
			s.stat()
			s.receive(1)
			next()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, with(bpftest.FreeBSD14())).lend(page)
				defer s.Close()
				q, err := s.Watch(r, w)
				require.NoError(t, err)
				rule(t, s, func(want ...bpftest.Edge) {
					t.Helper()
					got, err := q.Wait(time.Second)
					require.NoError(t, err)
					require.Equal(t, want, got)
				})
				require.NoError(t, q.Close())
				require.Equal(t, syscall.EBADF, q.Close())
			})
		})
	}
	t.Run("closing the descriptor ends a wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := zerocopy(t, newKernel())
			q, err := s.Watch(r)
			require.NoError(t, err)
			done := make(chan error)
			go func() {
				_, err := q.Wait(-1)
				done <- err
			}()
			synctest.Wait()
			require.NoError(t, s.Close())
			require.Equal(t, syscall.EBADF, <-done)
			_, err = s.Watch(r)
			require.Equal(t, syscall.EBADF, err)
		})
	})
	t.Run("12.1 has no EVFILT_WRITE", func(t *testing.T) {
		s := zerocopy(t, newKernel())
		_, err := s.Watch(r, w)
		require.Equal(t, syscall.EPERM, err)
	})
	t.Run("a bus takes nothing", func(t *testing.T) {
		k := with(bpftest.FreeBSD16())
		k.AddInterface("usbus0", 186, bpftest.NoIndex())
		s := open(t, k).attach("usbus0")
		q, err := s.Watch(w)
		require.NoError(t, err)
		got, err := q.Wait(0)
		require.NoError(t, err)
		require.Equal(t, []bpftest.Edge{{Filter: w}}, got)
	})
}

func TestHZSysctl(t *testing.T) {
	k := newKernel(bpftest.WithHZ(100))
	hz, err := k.Sysctl("kern.hz")
	require.NoError(t, err)
	require.EqualValues(t, 100, hz)
	require.Equal(t, syscall.EPERM, k.SetSysctl("kern.hz", 1000))
	require.Equal(t, syscall.ENOENT, k.SetSysctl("kern.osreldate", 1))
}
