package lab

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Slack is how late things may be anyway: two clock ticks of an emulated machine at 100 Hz, and its
// scheduling.
const Slack = 80 * time.Millisecond

// A Lag watches how late sleeps end, which tells how starved the machine is: nothing in it can be
// more punctual than that.
type Lag struct {
	epoch time.Time
	worst atomic.Int64

	mu     sync.Mutex
	stalls []Span // sleeps that ended late, by more than they were long
}

// A Span of time, From and To counted from when a Lag began.
type Span struct{ From, To time.Duration }

// Took is how long s lasted.
func (s Span) Took() time.Duration { return s.To - s.From }

// WatchLag watches until the test is over. A storm can't begin meanwhile: make it before.
func WatchLag(t testing.TB) *Lag {
	l := &Lag{epoch: time.Now()}
	stop := make(chan struct{})
	var watchers sync.WaitGroup
	cpus, err := Processors()
	require.NoError(t, err)
	for _, cpu := range cpus {
		watchers.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			// An emulated machine's processors do not stand still together: each has its watcher.
			assert.NoError(t, Pin(cpu))
			// Go keeps a process' first thread, and a storm can have no processor that a thread is
			// bound to.
			defer func() { assert.NoError(t, Pin(cpus...)) }()
			const nap = 5 * time.Millisecond
			for {
				select {
				case <-stop:
					return
				default:
				}
				due := l.Now() + nap
				time.Sleep(nap)
				now := l.Now()
				late := now - due
				if late > nap {
					l.mu.Lock()
					l.stalls = append(l.stalls, Span{due, now})
					l.mu.Unlock()
				}
				for old := l.worst.Load(); int64(late) > old &&
					!l.worst.CompareAndSwap(old, int64(late)); old = l.worst.Load() {
				}
			}
		})
	}
	t.Cleanup(func() { close(stop); watchers.Wait() })
	return l
}

// Now is the time since the watch began.
func (l *Lag) Now() time.Duration { return time.Since(l.epoch) }

// Worst is how late a sleep has ended.
func (l *Lag) Worst() time.Duration { return time.Duration(l.worst.Load()) }

// Allow is how late something may be that has a timeout: for each of the two parties that have to
// be scheduled for it, sender and reader, as late as sleeps have been.
func (l *Lag) Allow(timeout time.Duration) time.Duration {
	return timeout + Slack + 2*l.Worst()
}

// Late returns those spans that are longer than limit, beyond what the machine itself was late by
// at that very time: several parties have to be scheduled, one after the other.
func (l *Lag) Late(spans []Span, limit time.Duration) (late []Span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range spans {
		allowed := limit
		for _, stall := range l.stalls {
			if stall.From < s.To && stall.To > s.From {
				allowed += stall.To - stall.From
			}
		}
		if s.Took() > allowed {
			late = append(late, s)
		}
	}
	return late
}

// Since is the span from a time that Now returned until now.
func (l *Lag) Since(from time.Duration) Span { return Span{from, l.Now()} }

// RequireMost fails the test unless more than half of spans are within limit, beyond what the
// machine was late by. It logs the median and the longest, and returns the longest.
func (l *Lag) RequireMost(t testing.TB, spans []Span, limit time.Duration) time.Duration {
	t.Helper()
	require.NotEmpty(t, spans)
	late := l.Late(spans, limit)
	sorted := slices.SortedFunc(slices.Values(spans),
		func(a, b Span) int { return cmp.Compare(a.Took(), b.Took()) })
	median, worst := sorted[len(sorted)/2].Took(), sorted[len(sorted)-1].Took()
	t.Logf("median %v, worst %v, %d of %d later than %v and than the machine, whose worst lag is %v",
		median, worst, len(late), len(spans), limit, l.Worst())
	require.Less(t, 2*len(late), len(spans), "most are within %v", limit)
	return worst
}
