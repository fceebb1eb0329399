package bpf

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf"
)

// backstop is how long a reader sleeps that has nothing else to do. Then it looks whether the
// interface is still there, because kqueue does not tell. It allows fewer than three wake-ups a
// second. With early it is less than a second, which is the longest time between two looks.
const backstop = 700 * time.Millisecond

// early is the time by which a reader that is awake anyway may look at the interface sooner. Waking
// up costs more than the look.
const early = 200 * time.Millisecond

// watched is how long it sleeps where the backend tells of interfaces. Then the look is for what
// the kernel had no memory to tell.
const watched = 16 * backstop

// untilLook returns how long it is until the next look, at the rate of one look in every. All
// readers look when the clock shows a multiple of every. So many of them wake a processor no more
// often than one does.
func untilLook(clock time.Time, every time.Duration) time.Duration {
	d := every - time.Duration(clock.UnixNano()%int64(every))
	if d <= early { // that look is done
		d += every
	}
	return d
}

// every returns the time between two looks at the interface.
func (w *waiter) every() time.Duration {
	if w.dev.WatchInterfaces() {
		return watched
	}
	return backstop
}

// A waiter sleeps until its engine has packets. docs/design.md, "Waiting", has the reasons. Only
// the reading goroutine uses it.
//
// Invariants:
//   - It never sleeps while a signal says that the read is over.
//   - The kernel's read timeout runs while it sleeps. There are two exceptions: an edge comes for
//     the next packet, or the waiter sleeps no longer than the timeout and asks then.
//   - Before it says that a read is over, it fetches once more, so packets come before the error.
type waiter struct {
	dev      *zbuf.Device
	eng      engine
	sig      *signals
	ifindex  int           // of the interface; 0 if the interface has none
	timeout  time.Duration // the kernel's read timeout; 0 is none
	polled   bool          // it sleeps in the poller of Go's runtime
	made     uint64        // system calls of dev.Wait that are in syscalls, if polled
	begin    time.Time     // the times below count from here, because time.Since reads only one clock
	fetched  time.Duration // when the kernel was last asked for everything it has
	lookAt   time.Duration // when to look whether the interface is still there
	several  bool          // the last batch says that packets come faster than one in a read timeout
	leaving  bool          // the interface has gone, but some of its packets may be undelivered
	gone     bool
	waits    atomic.Uint64
	syscalls atomic.Uint64
}

// next sleeps until there is a batch, and returns it.
func (w *waiter) next(ctx context.Context) (batch, error) {
	if w.gone {
		return batch{}, ErrInterfaceGone
	}
	w.sig.watch(ctx)
	// The packets in the store buffer may have waited as long as the reader was busy. The read timeout
	// begins only now, so that time counts against it.
	now := w.now()
	if w.leaving || w.eng.behind() || w.timeout > 0 && now-w.fetched > w.timeout/8 {
		if b, ok, err := w.fetch(now, false); ok || err != nil {
			return b, err
		}
	}
	for !w.leaving {
		if w.sig.closed.Load() {
			return batch{}, errClosed
		}
		// Neither wake-ups in between nor a sleep that ends early may put off the look.
		sleep, over := w.sig.left(ctx, max(w.lookAt-now, 0))
		if over != nil {
			if b, ok, err := w.fetch(now, false); ok || err != nil {
				return b, err
			}
			return batch{}, over
		}
		rearm := w.eng.rearm()
		paced := rearm && w.several && w.timeout > 0 && !w.polled
		if paced {
			rearm, sleep = false, min(sleep, w.timeout)
		}
		w.waits.Add(1)
		ev, err := w.dev.Wait(rearm, sleep)
		w.count()
		if err != nil {
			return batch{}, w.failed(err)
		}
		now = w.now()
		if b, ok := w.eng.take(); ok {
			// It filled up while the reader slept, so the store buffer is as young as this wake-up.
			w.eng.awaited()
			w.fetched, w.several = now, true
			return b, nil
		}
		look := ev.Changed || now >= w.lookAt-early
		if look {
			w.lookAt = now + untilLook(time.Now(), w.every())
			w.leaving = w.detached()
		}
		// The look has stopped the read timeout, which may have been running for a packet.
		if ev.Readable || ev.Woken || paced || w.leaving || look && !w.eng.empty() {
			if b, ok, err := w.fetch(now, ev.Readable); ok || err != nil {
				return b, err
			}
		}
	}
	w.gone = true
	return batch{}, ErrInterfaceGone
}

// count adds the system calls of a Wait.
func (w *waiter) count() {
	if !w.polled {
		w.syscalls.Add(1)
		return
	}
	made, _ := w.dev.Polled()
	w.syscalls.Add(made - w.made)
	w.made = made
}

func (w *waiter) now() time.Duration { return time.Since(w.begin) }

func (w *waiter) fetch(now time.Duration, readable bool) (batch, bool, error) {
	b, ok, err := w.eng.fetch(readable)
	w.fetched, w.several = now, ok && several(b.buf)
	if err != nil {
		err = w.failed(err)
	}
	return b, ok, err
}

// several reports whether recs has more than one record.
func several(recs []byte) bool {
	if len(recs) < minHdrlen {
		return false // corrupt
	}
	caplen, hdrlen, ok := record(recs, 0)
	return ok && hdrlen+caplen+minHdrlen < uint(len(recs))
}

// failed turns the error of a system call into the one that the reader returns.
func (w *waiter) failed(err error) error {
	switch {
	case w.sig.closed.Load():
		return errClosed
	case errors.Is(err, ErrInterfaceGone):
		w.gone = true
		return ErrInterfaceGone
	}
	return err
}

// detached reports whether the interface has gone. An interface that was moved to another vnet may
// stay attached. Then the process's own network stack does not have it any more.
func (w *waiter) detached() bool {
	w.syscalls.Add(2)
	i, err := w.dev.InterfaceIndex()
	return errors.Is(err, syscall.ENXIO) || err == nil && i != w.ifindex
}
