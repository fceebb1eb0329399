package zbuf_test

import (
	"os"
	"runtime/pprof"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// writable reports whether bpf has EVFILT_WRITE, which Go's poller asks for.
func writable(t *testing.T, w lab.World) bool {
	d, err := w.OpenMode(syscall.O_RDWR)
	require.NoError(t, err)
	defer d.Close()
	q, err := d.Watch(lab.FilterWrite)
	if err != nil {
		require.Equal(t, error(syscall.EPERM), err)
		return false
	}
	require.NoError(t, q.Close())
	return true
}

// await is Wait that goes on after a signal, such as those of Go's scheduler.
func await(d *zbuf.Device, timeout time.Duration) (zbuf.Event, error) {
	for until := time.Now().Add(timeout); ; {
		left := time.Duration(-1)
		if timeout >= 0 {
			left = max(time.Until(until), 0)
		}
		ev, err := d.Wait(true, left)
		if err != nil || ev != (zbuf.Event{}) || left == 0 {
			return ev, err
		}
	}
}

func TestWaitersOccupyThreadsOnlyWithoutThePoller(t *testing.T) {
	w := lab.OnKernel(t)
	p := lab.NewPair(t, w)
	const more = 30
	threads := func() int { return pprof.Lookup("threadcreate").Count() }
	before := threads()
	waiters := before + more // as some of the threads there are may be idle
	var all sync.WaitGroup
	defer all.Wait()
	var devs []*zbuf.Device
	for range waiters {
		d, err := zbuf.Open()
		require.NoError(t, err)
		defer d.Close()
		require.NoError(t, d.SetInterface(p.A))
		_, polled := d.Polled()
		require.Equal(t, writable(t, w), polled)
		devs = append(devs, d)
		all.Go(func() {
			ev, err := await(d, -1)
			assert.NoError(t, err)
			assert.Equal(t, zbuf.Event{Woken: true}, ev)
		})
		// One after the other. A thread is in a system call for as long as it gets no processor there,
		// and Go makes another one for the next waiter.
		if polled {
			require.NoError(t, lab.Until(func() (bool, error) {
				calls, _ := d.Polled()
				return calls == 1, nil
			}), "it did not look before it slept")
		}
	}
	if _, polled := devs[0].Polled(); polled {
		assert.Less(t, threads()-before, more/2)
	} else {
		require.Eventually(t, func() bool { return threads()-before >= more/2 }, lab.Patience,
			time.Millisecond, "a waiter holds a thread")
	}
	for _, d := range devs {
		require.NoError(t, d.Wake())
	}
	all.Wait() // some may not have begun to wait yet, and Close would come first
}

// Go's poller can't watch a kqueue, so it can't watch a bpf descriptor through one either.
func TestKqueueInAKqueueIsForReadingAlone(t *testing.T) {
	inner, err := unix.Kqueue()
	require.NoError(t, err)
	defer unix.Close(inner)
	outer, err := unix.Kqueue()
	require.NoError(t, err)
	defer unix.Close(outer)
	add := func(filter int) error {
		var k unix.Kevent_t
		unix.SetKevent(&k, inner, filter, unix.EV_ADD|unix.EV_CLEAR)
		_, err := unix.Kevent(outer, []unix.Kevent_t{k}, nil, nil)
		return err
	}
	require.NoError(t, add(unix.EVFILT_READ))
	require.Equal(t, error(unix.EINVAL), add(unix.EVFILT_WRITE))
	dup, err := unix.Dup(inner)
	require.NoError(t, err)
	f := os.NewFile(uintptr(dup), "kqueue")
	defer f.Close()
	require.ErrorIs(t, f.SetReadDeadline(time.Now()), os.ErrNoDeadline)
}

// What Wake and the end of a timeout leave behind does not end a later Wait.
func TestWakeEndsOneWait(t *testing.T) {
	w := lab.OnKernel(t)
	p := lab.NewPair(t, w)
	d, err := zbuf.Open()
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.SetInterface(p.A))
	wait := func(timeout time.Duration) (zbuf.Event, time.Duration) {
		begin := time.Now()
		ev, err := await(d, timeout)
		require.NoError(t, err)
		return ev, time.Since(begin)
	}
	const short, long = 20 * time.Millisecond, 200 * time.Millisecond
	for range 5 {
		ev, took := wait(short)
		assert.Zero(t, ev)
		assert.GreaterOrEqual(t, took, short-time.Millisecond)
		require.NoError(t, d.Wake())
		require.NoError(t, d.Wake())
		ev, _ = wait(long)
		assert.Equal(t, zbuf.Event{Woken: true}, ev)
		ev, took = wait(long)
		assert.Zero(t, ev, "both calls ended one Wait")
		assert.GreaterOrEqual(t, took, long-time.Millisecond)
	}
	woken := make(chan zbuf.Event)
	go func() {
		ev, _ := await(d, -1)
		woken <- ev
	}()
	require.NoError(t, d.Wake())
	assert.Equal(t, zbuf.Event{Woken: true}, <-woken)
}
