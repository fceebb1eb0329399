package bpf

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/zbuf-go/zbuf"
)

// signals tells the reading goroutine what others did: Close, the deadline, and a context that is
// done. Setting one wakes the reader.
type signals struct {
	dev      *zbuf.Device
	closed   atomic.Bool
	deadline atomic.Pointer[time.Time]

	done <-chan struct{} // of the context that is watched; only the reading goroutine uses it

	mu   sync.Mutex
	stop func() bool // ends the watch
}

// close marks the reader closed and ends the watch. It reports whether it was open before.
func (s *signals) close() bool {
	if s.closed.Swap(true) {
		return false
	}
	s.unwatch()
	return true
}

func (s *signals) setDeadline(t time.Time) error {
	if s.closed.Load() {
		return errClosed
	}
	if t.IsZero() {
		s.deadline.Store(nil)
	} else {
		s.deadline.Store(&t)
	}
	return s.dev.Wake()
}

// An ending is what ends reads: a context that is done, or a deadline that has passed. The zero
// ending does not.
type ending struct {
	ctx      context.Context
	deadline *time.Time
}

// is reports whether e and f are the same one. Contexts that are done may share a channel.
func (e ending) is(f ending) bool {
	return e.deadline == f.deadline &&
		(e.ctx == nil && f.ctx == nil || reflect.ValueOf(e.ctx).Comparable() && e.ctx == f.ctx)
}

// ending returns what ends reads now, and the error that says so.
func (s *signals) ending(ctx context.Context) (ending, error) {
	if ctx.Err() != nil {
		return ending{ctx: ctx}, context.Cause(ctx)
	}
	if d := s.deadline.Load(); d != nil && time.Until(*d) <= 0 {
		return ending{deadline: d}, errDeadline
	}
	return ending{}, nil
}

// left returns how long the reader may sleep, at most most, or the error that says why it may not.
func (s *signals) left(ctx context.Context, most time.Duration) (time.Duration, error) {
	if _, err := s.ending(ctx); err != nil {
		return 0, err
	}
	if d := s.deadline.Load(); d != nil {
		return min(max(time.Until(*d), 0), most), nil
	}
	return most, nil
}

// watch has ctx wake the reader. It watches one context over many waits, so waiting does not
// allocate. The weak pointer lets the collector clean up a Reader that was forgotten.
func (s *signals) watch(ctx context.Context) {
	done := ctx.Done()
	if done == s.done {
		return
	}
	s.unwatch()
	s.done = done
	if done == nil {
		return
	}
	dev := weak.Make(s.dev)
	stop := context.AfterFunc(ctx, func() {
		if d := dev.Value(); d != nil {
			d.Wake()
		}
	})
	s.mu.Lock()
	s.stop = stop
	s.mu.Unlock()
	if s.closed.Load() { // close may have come before there was anything to stop
		s.unwatch()
	}
}

// unwatch leaves nothing behind in a context that lives on after Close.
func (s *signals) unwatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}
