package bpf_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// awake notes when the readers on it wake up.
type awake struct {
	zbuf.System
	mu    sync.Mutex
	times map[time.Time]int // readers
}

func (a *awake) Open() (zbuf.Backend, error) {
	b, err := a.System.Open()
	return awakeBackend{b, a}, err
}

type awakeBackend struct {
	zbuf.Backend
	a *awake
}

func (b awakeBackend) Wait(rearm bool, timeout time.Duration) (zbuf.Event, error) {
	ev, err := b.Backend.Wait(rearm, timeout)
	b.a.mu.Lock()
	defer b.a.mu.Unlock()
	b.a.times[time.Now()]++
	return ev, err
}

// Readers that have nothing to do wake up at the same moments. Otherwise each of them would wake up
// a processor that sleeps.
func TestIdleReadersWakeUpTogether(t *testing.T) {
	const readers = 30
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := bpftest.New(zerocopyOn(true))
				k.AddInterface("em0", zbuf.DLT_EN10MB)
				a := &awake{System: k, times: map[time.Time]int{}}
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for range readers {
					time.Sleep(13 * time.Millisecond) // in the time of the bubble
					r, err := bpf.Open("em0", bpf.Config{Mode: mode, BufferSize: 4096, System: a})
					require.NoError(t, err)
					defer r.Close()
					all.Go(func() {
						_, err := r.Lease(ctx)
						assert.ErrorIs(t, err, context.Canceled)
					})
				}
				time.Sleep(2 * time.Second) // in the time of the bubble
				a.mu.Lock()
				clear(a.times)
				a.mu.Unlock()
				const seconds = 7
				time.Sleep(seconds * time.Second) // in the time of the bubble
				a.mu.Lock()
				assert.InDelta(t, seconds*1000/700, len(a.times), 1, "moments")
				sum := 0
				for _, n := range a.times {
					sum += n
				}
				assert.InDelta(t, readers*seconds*1000/700, sum, readers, "wake-ups of all readers")
				a.mu.Unlock()
				cancel()
				all.Wait()
			})
		})
	}
}
