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

// Slack is the delay that tests always allow: two clock ticks of an emulated machine at 100 Hz, and
// its scheduling.
const Slack = 80 * time.Millisecond

// A Lag measures how late sleeps end. That tells how starved the machine is. Nothing on the machine
// can be more punctual than a sleep.
type Lag struct {
	epoch time.Time
	worst atomic.Int64
	until []atomic.Int64 // the time up to which each watcher knows its stalls

	mu     sync.Mutex
	stalls []Span // sleeps that ended late, by more than they were long
}

// A Span is a span of time. From and To count from the beginning of a Lag.
type Span struct{ From, To time.Duration }

// Took returns the length of s.
func (s Span) Took() time.Duration { return s.To - s.From }

// WatchLag watches until the test is over. A storm can't begin meanwhile, so make it before. Every
// stall counts once WatchLag has returned.
func WatchLag(t testing.TB) *Lag {
	l := &Lag{epoch: time.Now()}
	stop := make(chan struct{})
	var watchers sync.WaitGroup
	cpus, err := Processors()
	require.NoError(t, err)
	l.until = make([]atomic.Int64, len(cpus))
	var begun sync.WaitGroup
	begun.Add(len(cpus))
	for i, cpu := range cpus {
		watchers.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			// An emulated machine's processors do not stand still together, so each has a watcher.
			assert.NoError(t, Pin(cpu))
			// Go keeps a process' first thread, and a storm can have no processor that a thread is
			// bound to.
			defer func() { assert.NoError(t, Pin(cpus...)) }()
			const nap = 5 * time.Millisecond
			l.until[i].Store(int64(l.Now()))
			begun.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				due := time.Duration(l.until[i].Load()) + nap
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
				l.until[i].Store(int64(now))
			}
		})
	}
	t.Cleanup(func() { close(stop); watchers.Wait() })
	begun.Wait()
	return l
}

// Now returns the time since the watch began.
func (l *Lag) Now() time.Duration { return time.Since(l.epoch) }

// Worst returns the longest time by which a sleep has ended late.
func (l *Lag) Worst() time.Duration { return time.Duration(l.worst.Load()) }

// Allow returns the time that something with a timeout may take. The scheduler must run two parties
// for it, sender and reader. Each may be as late as sleeps have been.
func (l *Lag) Allow(timeout time.Duration) time.Duration {
	return timeout + Slack + 2*l.Worst()
}

// Late returns the spans that are longer than limit plus the time by which the machine was late
// during the span. The scheduler must run several parties, one after the other.
//
// A processor may go on for the test before it goes on for its watcher. So Late waits until every
// watcher knows the stalls up to now.
func (l *Lag) Late(spans []Span, limit time.Duration) (late []Span) {
	now := int64(l.Now())
	for i := range l.until {
		Until(func() (bool, error) { return l.until[i].Load() >= now, nil })
	}
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

// Since returns the span from a time that Now returned until now.
func (l *Lag) Since(from time.Duration) Span { return Span{from, l.Now()} }

// RequireMost fails the test unless more than half of spans are within limit plus the time by which
// the machine was late. It logs the median and the longest, and returns the longest.
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
