package bpf_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// slack is how late things may be anyway: two clock ticks of an emulated machine at 100 Hz, and its
// scheduling.
const slack = 80 * time.Millisecond

// A lag watches how late sleeps end, which tells how starved the machine is: nothing in it can be more
// punctual than that.
type lag struct {
	epoch time.Time
	worst atomic.Int64

	mu     sync.Mutex
	stalls []span // sleeps that ended late, by more than they were long
}

// A span of time, from and to counted from a lag's epoch.
type span struct{ from, to time.Duration }

func watchLag(t *testing.T) *lag {
	l := &lag{epoch: time.Now()}
	stop := make(chan struct{})
	var watchers sync.WaitGroup
	for cpu := range runtime.NumCPU() {
		watchers.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			// An emulated machine's processors do not stand still together: each has its watcher.
			assert.NoError(t, lab.Pin(cpu))
			const nap = 5 * time.Millisecond
			for {
				select {
				case <-stop:
					return
				default:
				}
				due := l.now() + nap
				time.Sleep(nap)
				now := l.now()
				late := now - due
				if late > nap {
					l.mu.Lock()
					l.stalls = append(l.stalls, span{due, now})
					l.mu.Unlock()
				}
				for old := l.worst.Load(); int64(late) > old && !l.worst.CompareAndSwap(old, int64(late)); old = l.worst.Load() {
				}
			}
		})
	}
	t.Cleanup(func() { close(stop); watchers.Wait() })
	return l
}

func (l *lag) now() time.Duration { return time.Since(l.epoch) }

// allow is how late something may be that has a timeout: for each of the two parties that have to be
// scheduled for it, sender and reader, as late as sleeps have been.
func (l *lag) allow(timeout time.Duration) time.Duration {
	return timeout + slack + 2*time.Duration(l.worst.Load())
}

// late returns those spans that are longer than limit, beyond what the machine itself was late by at that very
// time: several parties have to be scheduled, one after the other.
func (l *lag) late(spans []span, limit time.Duration) (late []span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range spans {
		allowed := limit
		for _, stall := range l.stalls {
			if stall.from < s.to && stall.to > s.from {
				allowed += stall.to - stall.from
			}
		}
		if s.to-s.from > allowed {
			late = append(late, s)
		}
	}
	return late
}
