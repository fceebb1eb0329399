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

// wait is Wait, and how long it took.
func (s *session) wait(rearm bool, timeout time.Duration) (zbuf.Event, time.Duration) {
	s.t.Helper()
	from := time.Now()
	ev, err := s.Wait(rearm, timeout)
	require.NoError(s.t, err)
	return ev, time.Since(from)
}

func (s *session) poll(events int16, timeout time.Duration) (int16, time.Duration) {
	s.t.Helper()
	from := time.Now()
	ev, err := s.Poll(events, timeout)
	require.NoError(s.t, err)
	return ev, time.Since(from)
}

const (
	in  = bpftest.POLLIN
	hup = bpftest.POLLHUP
)

func readable(n int) zbuf.Event { return zbuf.Event{Readable: true, Data: n} }

// Each rule runs in a bubble of its own, where time is exact and costs nothing.
func TestWaiting(t *testing.T) {
	lp64(t)
	const ms = time.Millisecond
	for name, rule := range map[string]func(t *testing.T, s *session){
		"[12] poll without data takes its own timeout": func(t *testing.T, s *session) {
			ev, took := s.poll(in, 100*ms)
			require.Zero(t, ev)
			require.Equal(t, 100*ms, took)
		},
		"[13] the read timeout counts from poll, and assigns nothing": func(t *testing.T, s *session) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			time.AfterFunc(50*ms, func() { s.receive(1) })
			ev, took := s.poll(in, 1000*ms)
			require.EqualValues(t, in, ev)
			require.Equal(t, 100*ms, took)
			require.Equal(t, "{0,0,0}", s.header(0))
			which, n := s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, one, n)
		},
		"the read timeout counts from EV_ADD": func(t *testing.T, s *session) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			s.receive(1)
			ev, took := s.wait(false, 500*ms)
			require.Equal(t, zbuf.Event{}, ev, "nobody started it")
			require.Equal(t, 500*ms, took)
			ev, took = s.wait(true, 500*ms)
			require.Equal(t, readable(one), ev)
			require.Equal(t, 100*ms, took)
		},
		"a timeout that runs out empty wakes nobody, but the next packet does, for ever": func(
			t *testing.T, s *session,
		) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			time.AfterFunc(300*ms, func() { s.receive(1) })
			ev, took := s.wait(true, time.Minute)
			require.Equal(t, readable(one), ev)
			require.Equal(t, 300*ms, took)
			s.receive(1)
			ev, took = s.wait(false, time.Minute)
			require.Equal(t, readable(stride+one), ev)
			require.Zero(t, took)
			s.get(zbuf.BIOCGDLT)
			s.receive(1)
			ev, _ = s.wait(false, time.Minute)
			require.Equal(t, zbuf.Event{}, ev, "an ioctl ended it")
		},
		"[27] every ioctl stops the timeout of a wait under way": func(t *testing.T, s *session) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			time.AfterFunc(50*ms, func() {
				s.stat()
				s.receive(1)
			})
			ev, took := s.wait(true, 1500*ms)
			require.Equal(t, zbuf.Event{}, ev)
			require.Equal(t, 1500*ms, took)
			ev, took = s.wait(true, 1500*ms)
			require.Equal(t, readable(one), ev)
			require.Equal(t, 100*ms, took)
			s.rotate()
			s.ack(0)
			s.receive(1)
			ev, took = s.poll2(in, 1500*ms, 50*ms)
			require.Equal(t, zbuf.Event{}, ev)
			require.Equal(t, 1500*ms, took, "poll likewise")
		},
		"an ioctl that fails stops it, too": func(t *testing.T, s *session) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			s.receive(1)
			s.wait(true, 0)
			s.refuse(syscall.EINVAL, zbuf.Request(0x2000427f), nil)
			ev, _ := s.wait(false, time.Minute)
			require.Equal(t, zbuf.Event{}, ev)
		},
		"a timeout set to 0 is none": func(t *testing.T, s *session) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			s.do(zbuf.BIOCSRTIMEOUT, timeval(0))
			s.receive(1)
			ev, _ := s.wait(true, time.Minute)
			require.Equal(t, zbuf.Event{}, ev)
		},
		"immediate: an edge for each packet, and no level": func(t *testing.T, s *session) {
			s.set(zbuf.BIOCIMMEDIATE, 1)
			for i := range 5 {
				time.AfterFunc(10*ms, func() { s.receive(1) })
				ev, took := s.wait(false, time.Minute)
				require.Equal(t, readable(i*stride+one), ev)
				require.Equal(t, 10*ms, took)
				ev, took = s.wait(false, time.Second)
				require.Equal(t, zbuf.Event{}, ev)
				require.Equal(t, time.Second, took)
			}
			s.receive(3)
			ev, _ := s.wait(false, time.Minute)
			require.Equal(t, readable(7*stride+one), ev, "three packets, one edge")
			ev, _ = s.wait(false, 0)
			require.Equal(t, zbuf.Event{}, ev)
			ev, _ = s.wait(true, 0)
			require.Equal(t, readable(7*stride+one), ev, "EV_ADD sees the level")
			revents, _ := s.poll(in, 0)
			require.EqualValues(t, in, revents, "so does poll")
		},
		"immediate is a byte: 256 is off": func(t *testing.T, s *session) {
			s.set(zbuf.BIOCIMMEDIATE, 256)
			s.receive(1)
			ev, _ := s.wait(true, 0)
			require.Equal(t, zbuf.Event{}, ev)
		},
		"not immediate: an edge when a buffer is assigned": func(t *testing.T, s *session) {
			s.receive(full)
			ev, _ := s.wait(false, time.Second)
			require.Equal(t, zbuf.Event{}, ev)
			s.receive(1)
			ev, _ = s.wait(false, time.Second)
			require.Equal(t, readable(most+one), ev)
			require.Equal(t, "{1,4026,0}", s.header(0))
		},
		"rotation and acknowledgement are no edge": func(t *testing.T, s *session) {
			s.receive(1)
			s.rotate()
			ev, _ := s.wait(false, time.Second)
			require.Equal(t, zbuf.Event{}, ev)
			ev, _ = s.wait(true, 0)
			require.Equal(t, readable(one), ev, "an owned buffer is a level for EV_ADD")
			s.ack(0)
			ev, _ = s.wait(true, time.Second)
			require.Equal(t, zbuf.Event{}, ev)
		},
		"an edge that is stale when taken is forgotten, and the wait goes on": func(
			t *testing.T, s *session,
		) {
			s.receive(full + 1)
			s.ack(0)
			ev, took := s.wait(false, time.Second)
			require.Equal(t, zbuf.Event{}, ev)
			require.Equal(t, time.Second, took)
		},
		"buffull is no edge": func(t *testing.T, s *session) {
			s.receive(full + 1)
			s.wait(false, 0)
			s.receive(full)
			require.Equal(t, "{1,4026,0}", s.header(1))
			ev, _ := s.wait(false, time.Second)
			require.Equal(t, zbuf.Event{}, ev)
		},
		"[16] Wake ends a wait, or the next one, once": func(t *testing.T, s *session) {
			time.AfterFunc(50*ms, func() { s.Wake() })
			ev, took := s.wait(false, time.Minute)
			require.Equal(t, zbuf.Event{Woken: true}, ev)
			require.Equal(t, 50*ms, took)
			s.Wake()
			s.Wake()
			ev, took = s.wait(false, -1)
			require.Equal(t, zbuf.Event{Woken: true}, ev)
			require.Zero(t, took)
			ev, _ = s.wait(false, time.Second)
			require.Equal(t, zbuf.Event{}, ev)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.receive(1)
			s.Wake()
			ev, _ = s.wait(false, 0)
			require.Equal(t, zbuf.Event{Readable: true, Woken: true, Data: one}, ev, "both at once")
		},
		"[17] kqueue does not tell that the interface has gone": func(t *testing.T, s *session) {
			time.AfterFunc(50*ms, func() { s.k.RemoveInterface("em0") })
			ev, took := s.wait(true, 2*time.Second)
			require.Equal(t, zbuf.Event{}, ev)
			require.Equal(t, 2*time.Second, took)
			require.True(t, s.Detached())
		},
		"[28] poll does, at once": func(t *testing.T, s *session) {
			time.AfterFunc(50*ms, func() { s.k.RemoveInterface("em0") })
			ev, took := s.poll(in|bpftest.POLLRDNORM, time.Minute)
			require.EqualValues(t, in|bpftest.POLLRDNORM, ev)
			require.Equal(t, 50*ms, took)
			ev, _ = s.poll(in|hup|bpftest.POLLOUT, 0)
			require.EqualValues(t, in|hup, ev, "POLLOUT never comes with POLLHUP")
			ev, _ = s.poll(in|bpftest.POLLOUT, 0)
			require.EqualValues(t, in|bpftest.POLLOUT, ev)
		},
		"what is left after the interface has gone comes with the read timeout": func(
			t *testing.T, s *session,
		) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			s.receive(1)
			time.AfterFunc(50*ms, func() { s.k.RemoveInterface("em0") })
			ev, took := s.wait(true, time.Minute)
			require.Equal(t, readable(one), ev)
			require.Equal(t, 150*ms, took, "the wakeup of the detach starts it anew")
		},
		"POLLHUP alone neither starts nor stops the read timeout": func(t *testing.T, s *session) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			s.receive(1)
			ev, took := s.poll(hup, 200*ms)
			require.Zero(t, ev)
			require.Equal(t, 200*ms, took)
			require.False(t, s.Detached())
			ev, _ = s.poll(in, 0)
			require.Zero(t, ev, "it did not run")
			require.False(t, s.Detached())
			ev, took = s.poll(in, time.Minute)
			require.EqualValues(t, in, ev)
			require.Equal(t, 100*ms, took, "it ran on")
		},
		"poll is always ready for writing": func(t *testing.T, s *session) {
			ev, _ := s.poll(bpftest.POLLOUT|in, time.Minute)
			require.EqualValues(t, bpftest.POLLOUT, ev)
		},
		"poll stays ready while a buffer is owned": func(t *testing.T, s *session) {
			s.receive(1)
			s.rotate()
			for range 3 {
				ev, took := s.poll(in, time.Minute)
				require.EqualValues(t, in, ev)
				require.Zero(t, took)
			}
		},
		"a timeout is a whole number of ticks": func(t *testing.T, s *session) {
			for _, c := range []struct{ set, want time.Duration }{
				{1 * time.Microsecond, ms}, {999 * time.Microsecond, ms}, {ms, ms},
				{1001 * time.Microsecond, 2 * ms},
				{3*time.Second + 5*ms, 3*time.Second + 5*ms},
			} {
				s.do(zbuf.BIOCSRTIMEOUT, timeval(c.set))
				var tv zbuf.Timeval
				s.do(zbuf.BIOCGRTIMEOUT, &tv)
				require.Equal(t, *timeval(c.want), tv, "%v", c.set)
			}
			bad := timeval(0)
			bad.Usec = 1000000
			s.refuse(syscall.EINVAL, zbuf.BIOCSRTIMEOUT, bad)
			bad.Usec = -1
			s.refuse(syscall.EINVAL, zbuf.BIOCSRTIMEOUT, bad)
			bad.Sec, bad.Usec = -1, 0
			s.refuse(syscall.EINVAL, zbuf.BIOCSRTIMEOUT, bad)
			bad.Sec = 1<<31 - 1
			s.do(zbuf.BIOCSRTIMEOUT, bad)
			var tv zbuf.Timeval
			s.do(zbuf.BIOCGRTIMEOUT, &tv)
			require.EqualValues(t, 2147483, tv.Sec, "no more than an int of ticks")
		},
		"[15] EVFILT_WRITE is EPERM, [14] EVFILT_READ works": func(t *testing.T, s *session) {
			require.NoError(t, s.AddFilter(bpftest.EVFILT_READ))
			require.Equal(t, syscall.EPERM, s.AddFilter(bpftest.EVFILT_WRITE))
			later := open(t, newKernel(bpftest.WithFeatures(bpftest.Features{WriteFilter: true})))
			require.NoError(t, later.AddFilter(bpftest.EVFILT_WRITE))
		},
		"a timeout that has been stopped while it fired does nothing": func(t *testing.T, s *session) {
			s.do(zbuf.BIOCSRTIMEOUT, timeval(100*ms))
			for range 50 {
				s.receive(1)
				s.wait(true, 0)
				time.Sleep(100 * ms) // in the time of the bubble
				s.rotate()
				s.ack(0)
				s.ack(1)
				s.receive(1)
				s.do(zbuf.BIOCFLUSH, nil)
				ev, _ := s.wait(false, 0)
				require.Equal(t, zbuf.Event{}, ev)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rule(t, zerocopy(t, newKernel())) })
		})
	}
}

// poll2 polls while a request is made after a delay, and reports what a Wait would.
func (s *session) poll2(events int16, timeout, delay time.Duration) (zbuf.Event, time.Duration) {
	time.AfterFunc(delay, func() { s.stat() })
	ev, took := s.poll(events, timeout)
	return zbuf.Event{Readable: ev != 0}, took
}

func TestTicks(t *testing.T) {
	lp64(t)
	for name, c := range map[string]struct {
		hz        int
		set, want time.Duration
	}{
		"[34] kern.hz 100: multiples of 10 ms": {100, 101 * time.Millisecond, 110 * time.Millisecond},
		"kern.hz 1000":                         {1000, 101 * time.Millisecond, 101 * time.Millisecond},
		"kern.hz 1000000 is exact":             {1000000, 123457 * time.Microsecond, 123457 * time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := zerocopy(t, newKernel(bpftest.WithHZ(c.hz)))
				s.do(zbuf.BIOCSRTIMEOUT, timeval(c.set))
				s.receive(1)
				_, took := s.wait(true, time.Minute)
				require.Equal(t, c.want, took)
			})
		})
	}
}
