package bpf_test

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// rearms is a model kernel that counts how often a reader waits with rearm.
type rearms struct {
	*bpftest.Kernel
	n atomic.Int64
}

type rearmCounter struct {
	zbuf.Backend
	n *atomic.Int64
}

func (k *rearms) Open() (zbuf.Backend, error) {
	b, err := k.Kernel.Open()
	return rearmCounter{b, &k.n}, err
}

func (c rearmCounter) Wait(rearm bool, timeout time.Duration) (zbuf.Event, error) {
	if rearm {
		c.n.Add(1)
	}
	return c.Backend.Wait(rearm, timeout)
}

// Where several packets come in a read timeout the reader times it itself: the kernel is asked to
// do so at the beginning, and when they have stopped. Where fewer come it is left to the kernel,
// which wakes nobody for nothing.
func TestWhoTimesTheReadTimeout(t *testing.T) {
	const timeout = 20 * time.Millisecond
	const packets = 1000
	for name, c := range map[string]struct {
		gap    time.Duration
		waits  int // for all of them, and the second of silence behind
		rearms int
	}{
		"many in a timeout": {time.Millisecond, packets / 20, 4},
		"a few":             {6 * time.Millisecond, packets * 6 / 20, 4},
		// and the reader looks at the interface
		"fewer than one": {50 * time.Millisecond, packets, packets + 100},
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				k := &rearms{Kernel: bpftest.New(zerocopyOn(mode == bpf.ZeroCopy))}
				em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
				r, err := bpf.Open("em0", bpf.Config{Mode: mode, ReadTimeout: timeout, System: k})
				require.NoError(t, err)
				defer r.Close()
				begin := time.Now()
				go func() {
					for i := range uint32(packets) {
						time.Sleep(c.gap) // in the time of the bubble
						em0.Receive(numbered(i, 64))
					}
					time.Sleep(time.Second) // in the time of the bubble
					r.SetReadDeadline(time.Now())
				}()
				n := 0
				for {
					l, err := r.Lease(t.Context())
					if err != nil {
						require.ErrorIs(t, err, os.ErrDeadlineExceeded)
						break
					}
					for p := range l.Packets() {
						came := begin.Add(time.Duration(number(t, p.Data())+1) * c.gap)
						require.LessOrEqual(t, time.Since(came), timeout+time.Millisecond, "packet %d", n)
						n++
					}
					require.NoError(t, l.Release())
				}
				assert.Equal(t, packets, n)
				s, err := r.Stats()
				require.NoError(t, err)
				assert.InDelta(t, c.waits, s.Waits, float64(c.waits)/8+4)
				assert.LessOrEqual(t, k.n.Load(), int64(c.rearms))
			})
		})
	}
}

func TestReadTimeoutCountsFromArrival(t *testing.T) {
	const timeout = 100 * time.Millisecond
	for _, name := range []string{"undisturbed", "ioctls meanwhile", "ioctl storm"} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: timeout})
				ctx, cancel := context.WithCancel(t.Context())
				var others sync.WaitGroup
				defer others.Wait()
				defer cancel()
				switch name {
				case "ioctls meanwhile":
					others.Go(func() {
						time.Sleep(40 * time.Millisecond) // in the time of the bubble
						w.r.Stats()
					})
				case "ioctl storm":
					others.Go(func() {
						for ctx.Err() == nil {
							time.Sleep(5 * time.Millisecond) // in the time of the bubble
							w.r.Stats()
						}
					})
				}
				for i := range uint32(20) {
					var arrived time.Time
					go func() {
						time.Sleep(30 * time.Millisecond) // in the time of the bubble
						arrived = time.Now()
						w.em0.Receive(numbered(i, 64))
					}()
					l, err := w.r.Lease(ctx)
					require.NoError(t, err)
					assert.LessOrEqual(t, time.Since(arrived), timeout)
					require.NoError(t, l.Release())
				}
			})
		})
	}
}
