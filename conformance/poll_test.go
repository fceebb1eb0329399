package conformance

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// poll calls poll(2). It returns the events and the time that it took.
func (s *sess) poll(events int16, timeout time.Duration) (int16, time.Duration) {
	s.t.Helper()
	from := time.Now()
	ev, err := s.Poll(events, timeout)
	require.NoError(s.t, err)
	return ev, time.Since(from)
}

// requireLasts runs f, which waits for a timeout of the kernel, until it takes least or longer, ten
// times at most. The kernel counts a timeout from the last clock tick that it has handled. On a
// machine that is late with ticks a timeout can therefore end early, and a machine with too much to
// do is late again and again.
func requireLasts(t *testing.T, least time.Duration, f func() time.Duration) {
	t.Helper()
	for range 9 {
		took := f()
		if took >= least {
			return
		}
		t.Logf("it took %v instead of %v: once more", took, least)
	}
	require.GreaterOrEqual(t, f(), least)
}

// requireInTime runs f until it returns true, or returns false although no two of its steps were
// further apart than most. A machine that stands still between two steps lets the kernel's timeout
// run out there, and then the attempt says nothing.
func requireInTime(t *testing.T, most time.Duration, f func(step func()) bool) {
	t.Helper()
	for range 10 {
		last, worst := time.Now(), time.Duration(0)
		if f(func() {
			now := time.Now()
			last, worst = now, max(worst, now.Sub(last))
		}) {
			return
		}
		require.Greater(t, worst, most, "nothing was late")
		t.Logf("two steps were %v apart, and may be %v: once more", worst, most)
	}
	require.Fail(t, "the machine was late each time")
}

// outlast returns once every read timeout has run out that began before and was not longer. The
// kernel handles all of them on one processor, in order, and that processor may stand still while
// the one of the test goes on.
func outlast(w lab.World, timeout time.Duration) (err error) {
	p, err := w.NewPair()
	if err != nil {
		return err
	}
	defer func() { p.Close(); err = errors.Join(err, w.Destroy(p.A)) }()
	d, err := w.OpenMode(syscall.O_RDWR | syscall.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for _, c := range []struct {
		req zbuf.Request
		arg any
	}{
		{zbuf.BIOCSRTIMEOUT, timeval(timeout)},
		{zbuf.BIOCSETIF, ifreq(p.A)},
		// With net.bpf.optimize_writers it would get nothing without such a filter.
		{zbuf.BIOCSETFNR, program(zbuf.Insn{Op: 0x00, K: 1}, retK(100))},
	} {
		if err := d.Ioctl(c.req, c.arg); err != nil {
			return err
		}
	}
	if err := p.Deliver(p.A, lab.Frame(64, 1)); err != nil {
		return err
	}
	return lab.Until(func() (bool, error) {
		ev, err := d.Wait(true, tick)
		return ev.Readable, err
	})
}

// Readiness: rows 12 to 18, 27 and 28.
var _ = add(
	rule{name: "poll/no data, no timeout set: 0 when its own time is over",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			requireLasts(t, 100*time.Millisecond-tick, func() time.Duration {
				ev, took := s.poll(lab.PollIn, 100*time.Millisecond)
				require.Zero(t, ev)
				return took
			})
		}},
	rule{name: "poll/the read timeout does not end it without data",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(30*time.Millisecond))
			requireLasts(t, 200*time.Millisecond-tick, func() time.Duration {
				ev, took := s.poll(lab.PollIn, 200*time.Millisecond)
				require.Zero(t, ev)
				return took
			})
		}},
	rule{name: "poll/the read timeout wakes, BIOCROTZBUF assigns",
		run: func(t *testing.T, w lab.World) {
			requireLasts(t, 150*time.Millisecond-2*tick, func() time.Duration {
				s := zerocopy(t, w, page)
				s.do(zbuf.BIOCSRTIMEOUT, timeval(150*time.Millisecond))
				s.inject(1)
				ev, took := s.poll(lab.PollIn, lab.Patience)
				require.Equal(t, int16(lab.PollIn), ev)
				require.False(t, s.h[0].Owned())
				which, n := s.rotate()
				require.Equal(t, 0, which)
				require.Equal(t, one, n)
				require.True(t, s.h[0].Owned())
				return took
			})
		}},
	rule{name: "poll/the timeout counts from the poll, a packet meanwhile comes with it",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*time.Millisecond))
			ev, _ := s.poll(lab.PollIn, 0) // starts it
			require.Zero(t, ev)
			s.inject(1)
			ev, _ = s.poll(lab.PollIn, lab.Patience)
			require.Equal(t, int16(lab.PollIn), ev)
		}},
	rule{name: "poll/a timeout that ran out stays: the next packet is ready at once",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(20*time.Millisecond))
			// One long wait could end together with the timeout when the machine stalls.
			for range quiet / tick {
				ev, _ := s.poll(lab.PollIn, tick)
				require.Zero(t, ev)
			}
			require.NoError(t, outlast(w, 20*time.Millisecond))
			require.False(t, s.ready())
			s.inject(1)
			require.True(t, s.ready())
			s.get(zbuf.BIOCGBLEN)
			ev, _ := s.poll(lab.PollIn, 0)
			require.Zero(t, ev, "an ioctl ended it")
		}},
	rule{name: "poll/every ioctl stops the timeout, even a refused one",
		run: func(t *testing.T, w lab.World) {
			for name, do := range map[string]func(s *sess){
				"BIOCGSTATS":                      func(s *sess) { s.stats() },
				"FIONREAD":                        func(s *sess) { s.nread() },
				"BIOCROTZBUF with nothing stored": func(s *sess) { s.rotate() },
				"an unknown one": func(s *sess) {
					s.refuse(syscall.EINVAL, zbuf.Request(0x20004200|200), nil)
				},
			} {
				s := zerocopy(t, w, page)
				s.do(zbuf.BIOCSRTIMEOUT, timeval(50*time.Millisecond))
				s.poll(lab.PollIn, 0)
				do(s)
				s.inject(1)
				ev, err := s.Wait(false, quiet)
				require.NoError(t, err)
				require.Equal(t, zbuf.Event{}, ev, "%s stopped it", name)
				ev2, _ := s.poll(lab.PollIn, lab.Patience)
				require.Equal(t, int16(lab.PollIn), ev2, "poll starts it again")
			}
		}},
	rule{name: "poll/blocked while another thread makes an ioctl: no wakeup by the timeout",
		run: func(t *testing.T, w lab.World) {
			const timeout = 300 * time.Millisecond
			requireInTime(t, timeout/2, func(step func()) bool {
				s := zerocopy(t, w, page)
				s.do(zbuf.BIOCSRTIMEOUT, timeval(timeout))
				res := make(chan int16, 1)
				go func() {
					ev, _ := s.Poll(lab.PollIn, 2*timeout)
					res <- ev
				}()
				// The poll begins at some time, so ioctls go on until it ends.
				const before = 2 // ioctls before the packet
				for i := 0; ; i++ {
					s.stats()
					step()
					if i == before {
						s.inject(1)
					}
					select {
					case ev := <-res:
						step()
						return ev == 0 && i >= before && s.nread() == one
					case <-time.After(tick): // the pace of the ioctls
					}
				}
			})
		}},
	rule{name: "poll/ready while the hold buffer is owned, not after",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			require.False(t, s.ready())
			s.rotate()
			require.True(t, s.ready())
			require.True(t, s.ready(), "a level")
			s.h[0].Ack()
			require.False(t, s.ready())
		}},
	rule{name: "poll/immediate: ready while anything is stored",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(1)
			require.True(t, s.ready())
			s.rotate()
			s.inject(1)
			s.h[0].Ack()
			require.True(t, s.ready(), "the stuck tail, for ever")
			which, _ := s.rotate()
			require.Equal(t, -1, which)
			require.True(t, s.ready())
		}},
	rule{name: "poll/a full store buffer wakes nobody when it is assigned",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(full + 1)
			require.True(t, s.wait(false).Readable)
			s.inject(full - 1)
			s.requireQuiet(false, "B is full")
			s.inject(1)
			require.True(t, s.h[1].Owned())
			s.requireQuiet(false, "B is assigned, no edge says so")
		}},
	rule{name: "poll/writing never blocks", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		ev, _ := s.poll(lab.PollOut|lab.PollIn, lab.Patience)
		require.Equal(t, int16(lab.PollOut), ev)
		require.NoError(t, w.SetUp(s.p.A, false))
		ev, _ = s.poll(lab.PollOut, 0)
		require.Equal(t, int16(lab.PollOut), ev)
	}},
	rule{name: "poll/POLLRDNORM is as POLLIN", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.inject(1)
		s.rotate()
		for _, e := range []int16{lab.PollIn, lab.PollRdNorm, lab.PollIn | lab.PollRdNorm} {
			ev, _ := s.poll(e, 0)
			require.Equal(t, e, ev)
		}
		ev, _ := s.poll(lab.PollPri, 0)
		require.Zero(t, ev)
	}},
	rule{name: "poll/not attached: ready for everything asked for",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			all := int16(lab.PollIn | lab.PollRdNorm | lab.PollOut | lab.PollHup)
			ev, _ := s.poll(all, 0)
			require.Equal(t, all&^lab.PollOut, ev, "poll(2) itself never gives POLLOUT with POLLHUP")
			for _, e := range []int16{lab.PollIn | lab.PollOut | lab.PollRdNorm, lab.PollIn, lab.PollOut,
				lab.PollHup, lab.PollRdNorm} {
				ev, _ := s.poll(e, 0)
				require.Equal(t, e, ev)
			}
			ev, _ = s.poll(lab.PollPri, 0)
			require.Zero(t, ev)
		}},
	rule{name: "kqueue/an edge that is no longer ready is not delivered",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(1)
			s.do(zbuf.BIOCFLUSH, nil)
			s.requireQuiet(false, "flushed before it was taken")
		}},
	rule{name: "kqueue/an acknowledged buffer's edge is not delivered",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(full + 1)
			require.True(t, s.h[0].Owned())
			s.h[0].Ack()
			s.requireQuiet(false, "acknowledged before it was taken")
		}},
	rule{name: "detach/blocked in kevent: never woken", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.inject(1)
		done := make(chan error, 1)
		go func() {
			time.Sleep(50 * time.Millisecond) // most likely it blocks by then; the result is the same if not
			done <- w.Destroy(s.p.A)
		}()
		require.Equal(t, zbuf.Event{}, s.await(true, 500*time.Millisecond))
		require.NoError(t, <-done)
		s.requireQuiet(true, "EV_ADD does not tell either")
	}},
	rule{name: "detach/blocked in kevent, immediate, bytes stored: woken",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(1)
			s.wait(false)
			s.requireQuiet(false, "taken")
			require.NoError(t, w.Destroy(s.p.A))
			require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(false))
		}},
	rule{name: "detach/blocked in poll: woken at once", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		done := make(chan error, 1)
		go func() {
			time.Sleep(50 * time.Millisecond) // most likely it blocks by then; the result is the same if not
			done <- w.Destroy(s.p.A)
		}()
		ev, took := s.poll(lab.PollIn, lab.Patience)
		require.Equal(t, int16(lab.PollIn), ev)
		require.Less(t, took, lab.Patience)
		require.NoError(t, <-done)
		s.refuse(syscall.EINVAL, zbuf.BIOCGDLT, new(uint32))
	}},
	rule{name: "detach/what is refused afterwards, and what is not",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(2)
			require.NoError(t, w.Destroy(s.p.A))
			require.True(t, s.ready())
			s.refuse(syscall.EINVAL, zbuf.BIOCGDLT, new(uint32))
			s.refuse(syscall.EINVAL, zbuf.BIOCGETIF, new(zbuf.Ifreq))
			s.refuse(syscall.EINVAL, zbuf.BIOCGDLTLIST, new(zbuf.DLTList))
			s.refuse(syscall.EINVAL, zbuf.BIOCPROMISC, nil)
			s.refuseSet(syscall.EINVAL, zbuf.BIOCSDLT, 1)
			_, err := s.Write(lab.Frame(64, 1))
			require.Equal(t, error(syscall.ENXIO), err)
			recv, _ := s.stats()
			require.Equal(t, 2, int(recv))
			which, n := s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, stride+one, n)
			s.requireFrames(s.contents(0), lab.Frame(64, 1), lab.Frame(64, 2))
			s.h[0].Ack()
			which, _ = s.rotate()
			require.Equal(t, -1, which, "0 and nothing, for ever")
			require.Empty(t, listeners(t, w, s.p.A))
		}},
	rule{name: "detach/both owned: both are read", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		want := s.inject(2*full + 1)
		require.NoError(t, w.Destroy(s.p.A))
		s.requireFrames(s.contents(0), want[:full]...)
		s.requireFrames(s.contents(1), want[full:2*full]...)
		s.h[0].Ack()
		s.h[1].Ack()
		require.Equal(t, 2*fullLen, s.nread(), "nothing reclaims them any more")
		s.do(zbuf.BIOCFLUSH, nil)
		require.Equal(t, fullLen, s.nread(), "but a reset does")
	}},
	rule{name: "detach/attached again: the same buffers go on",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			s.rotate()
			require.NoError(t, w.Destroy(s.p.A))
			s.pair()
			s.attach(s.p.A)
			require.False(t, s.Detached())
			s.requireHeader(0, 1, one, 0)
			s.h[0].Ack()
			want := s.inject(1)
			which, _ := s.rotate()
			require.Equal(t, 1, which)
			s.requireFrames(s.contents(1), want...)
		}},
	rule{name: "detach/the other end of the wire goes too", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		require.NoError(t, w.Destroy(s.p.B))
		require.True(t, s.Detached())
	}},
	rule{name: "rename/stays attached, under the new name", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		require.NoError(t, w.Rename(s.p.A, "outside0"))
		require.False(t, s.Detached())
		require.Equal(t, "outside0", s.ifname())
		want := s.inject(1)
		s.rotate()
		s.requireFrames(s.contents(0), want...)
		require.NotEmpty(t, listeners(t, w, "outside0"))
		o := open(t, w)
		o.refuse(syscall.ENXIO, zbuf.BIOCSETIF, ifreq(s.p.A))
		o.attach("outside0")
		require.NoError(t, w.Rename("outside0", s.p.A))
	}},
	rule{name: "vnet/an interface that is moved away stays attached, down",
		differs: []string{"VnetDetach"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			if featuresOf(w).VnetDetach {
				back, err := w.Leave(s.p.A)
				require.NoError(t, err)
				require.True(t, s.Detached(), "or it is detached")
				require.NoError(t, back())
				require.True(t, s.Detached())
				return
			}
			want := s.inject(2)
			back, err := w.Leave(s.p.A)
			require.NoError(t, err)
			require.False(t, s.Detached())
			require.False(t, s.ready())
			require.Equal(t, s.p.A, s.ifname())
			require.Equal(t, 1, int(s.get(zbuf.BIOCGDLT)))
			s.refuseWrite(syscall.ENETDOWN, lab.Frame(64, 1))
			o := open(t, w)
			o.refuse(syscall.ENXIO, zbuf.BIOCSETIF, ifreq(s.p.A))
			require.NoError(t, back())
			require.False(t, s.Detached())
			s.refuseWrite(syscall.ENETDOWN, lab.Frame(64, 1))
			require.NoError(t, w.SetUp(s.p.A, true))
			want = append(want, s.inject(1)...)
			s.rotate()
			s.requireFrames(s.contents(0), want...)
		}},
	rule{name: "down/an interface that is down stays attached",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			require.NoError(t, w.SetUp(s.p.A, false))
			require.False(t, s.Detached())
			_, err := s.Write(lab.Frame(64, 1))
			require.Equal(t, error(syscall.ENETDOWN), err)
			require.NoError(t, w.SetUp(s.p.A, true))
			want := s.inject(1)
			s.rotate()
			s.requireFrames(s.contents(0), want...)
		}},
)
