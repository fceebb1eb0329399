package bpf

import (
	"context"
	"errors"
	"syscall"
	"time"
	"weak"
)

// backstop is how long the reader sleeps at the most: then it looks whether the interface is still
// there, which kqueue does not tell. Less than a second, and fewer than three wake-ups in one.
const backstop = 700 * time.Millisecond

// early is how long before its time a look may be done by who is awake anyhow. A wake-up costs more than the look.
const early = 200 * time.Millisecond

// waiter is the sleeping half of the reader. docs/design.md, "Waiting".
type waiter struct {
	r         *Reader
	timeout   time.Duration // the kernel's read timeout; 0 is none
	immediate bool
	begin     time.Time     // what the next two count from: time.Since reads one clock where time.Now reads two
	harvested time.Duration // when the kernel was last asked for everything it has
	looked    time.Duration // when the interface was last known to be there
	several   bool          // packets come faster than one in a read timeout, as far as the last ones tell
	leaving   bool          // the interface has gone, but perhaps not all that it left is delivered
	gone      bool

	done <-chan struct{} // of the context watched
	stop func() bool
}

func (w *waiter) init(r *Reader, timeout time.Duration, immediate bool) {
	w.r, w.timeout, w.immediate, w.begin = r, timeout, immediate, time.Now()
}

// next sleeps until there is something, and returns it.
func (w *waiter) next(ctx context.Context) (held, error) {
	r := w.r
	if w.gone {
		return held{}, ErrInterfaceGone
	}
	w.watch(ctx)
	// What is in the store buffer may have waited as long as the reader was busy. The read timeout
	// begins only now, so that counts against it.
	now := w.now()
	if w.leaving || r.src.behind() || w.timeout > 0 && now-w.harvested > w.timeout/8 {
		if h, ok, err := w.harvest(now, false); ok || err != nil {
			return h, err
		}
	}
	for !w.leaving {
		if r.closed.Load() {
			w.unwatch()
			return held{}, errClosed
		}
		sleep, over := w.sleep(ctx, now)
		if over != nil {
			if h, ok, err := w.harvest(now, false); ok || err != nil {
				return h, err
			}
			return held{}, over
		}
		rearm := r.src.rearm()
		paced := rearm && w.several && w.timeout > 0
		if paced {
			rearm, sleep = false, min(sleep, w.timeout)
		}
		r.stats.waits.Add(1)
		r.stats.syscalls.Add(1)
		ev, err := r.dev.Wait(rearm, sleep)
		if err != nil {
			return held{}, w.failed(err)
		}
		now = w.now()
		if h, ok := r.src.take(); ok {
			// It filled up while the reader slept: what is in the store buffer is as young as this wake-up.
			r.src.awaited()
			w.harvested, w.several = now, true
			return h, nil
		}
		look := now-w.looked >= backstop-early
		if look {
			w.looked = now
			w.leaving = w.detached()
		}
		// The look has stopped the read timeout, too, which may have been running for a packet.
		if ev.Readable || ev.Woken || paced || w.leaving || look && !r.src.empty() {
			if h, ok, err := w.harvest(now, ev.Readable); ok || err != nil {
				return h, err
			}
		}
	}
	w.gone = true
	return held{}, ErrInterfaceGone
}

// sleep returns how long to sleep, or why not to: at most until the next look at the interface, which
// neither wake-ups in between nor a sleep that ends early may put off.
func (w *waiter) sleep(ctx context.Context, now time.Duration) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	look := max(backstop-(now-w.looked), 0)
	if d := w.r.deadline.Load(); d != nil {
		left := time.Until(*d)
		if left <= 0 {
			return 0, errDeadline
		}
		return min(left, look), nil
	}
	return look, nil
}

func (w *waiter) now() time.Duration { return time.Since(w.begin) }

func (w *waiter) harvest(now time.Duration, readable bool) (held, bool, error) {
	h, ok, err := w.r.src.harvest(readable)
	w.harvested, w.several = now, ok && several(h.buf)
	if err != nil {
		err = w.failed(err)
	}
	return h, ok, err
}

// several says that recs has more than one record.
func several(recs []byte) bool {
	if len(recs) < minHdrlen {
		return false // corrupt
	}
	caplen, hdrlen, ok := record(recs, 0)
	return ok && hdrlen+caplen+minHdrlen < uint(len(recs))
}

// failed turns the error of a system call into what the reader returns.
func (w *waiter) failed(err error) error {
	switch {
	case w.r.closed.Load():
		return errClosed
	case errors.Is(err, ErrInterfaceGone):
		w.gone = true
		return ErrInterfaceGone
	}
	return err
}

// detached looks whether the interface has gone. One that was moved to another vnet may stay
// attached: then it is not where the process is any more.
func (w *waiter) detached() bool {
	w.r.stats.syscalls.Add(2)
	i, err := w.r.dev.InterfaceIndex()
	return errors.Is(err, syscall.ENXIO) || err == nil && i != w.r.ifindex
}

// watch has ctx wake the reader. One context is watched over many waits, so that waiting
// does not allocate; the weak pointer lets a forgotten Reader be cleaned up nevertheless.
func (w *waiter) watch(ctx context.Context) {
	if ctx.Done() == w.done {
		return
	}
	w.unwatch()
	w.done = ctx.Done()
	if w.done == nil {
		return
	}
	dev := weak.Make(w.r.dev)
	w.stop = context.AfterFunc(ctx, func() {
		if d := dev.Value(); d != nil {
			d.Wake()
		}
	})
}

func (w *waiter) unwatch() {
	if w.stop != nil {
		w.stop()
	}
	w.done, w.stop = nil, nil
}
