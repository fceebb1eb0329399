package bpf_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// Numbered packets come in bursts with pauses. The reader pauses now and then. Meanwhile there are
// ioctls, and filter changes without flush. Only packets that the kernel counts as dropped are
// lost. No packet comes twice, torn or late.
func TestNumberedPacketsWithPauses(t *testing.T) {
	packets := 200_000
	if testing.Short() {
		packets = 20_000
	}
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		for _, size := range []int{4096, 16 << 10, 256 << 10} {
			t.Run(fmt.Sprintf("%v/%dK", mode, size>>10), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { soak(t, mode, size, packets) })
			})
		}
	}
}

func soak(t *testing.T, mode bpf.Mode, size, packets int) {
	const timeout = 20 * time.Millisecond
	const tick = time.Millisecond // WithHZ's default
	w := newCapture(t, bpf.Config{Mode: mode, BufferSize: size, ReadTimeout: timeout})
	seed := lab.RandomSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	sent := map[uint32]time.Time{} // not delivered yet
	total := uint32(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n := uint32(0)
		for int(n) < packets {
			burst := 1 + rnd.IntN(12)
			if rnd.IntN(50) == 0 {
				burst = 1 + rnd.IntN(3000)
			}
			for range burst {
				mu.Lock()
				sent[n] = time.Now()
				mu.Unlock()
				w.em0.Receive(numbered(n, 60+rnd.IntN(300)))
				n++
				if rnd.IntN(8) == 0 {
					// in the time of the bubble
					time.Sleep(time.Duration(rnd.IntN(100)) * time.Microsecond)
				}
			}
			time.Sleep(time.Duration(rnd.IntN(80)) * time.Millisecond) // in the time of the bubble
			if rnd.IntN(20) == 0 {
				w.r.Stats()
			}
		}
		total = n
		time.Sleep(time.Second) // in the time of the bubble
		w.r.SetReadDeadline(time.Now())
	}()
	reader := rand.New(rand.NewPCG(seed, 1))
	next, delivered, worst := uint32(0), uint64(0), time.Duration(0)
	for {
		called := time.Now()
		l, err := w.r.Lease(t.Context())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		require.NoError(t, err)
		now := time.Now()
		for p := range l.Packets() {
			n := number(t, p.Data())
			require.GreaterOrEqual(t, n, next, "in order and none twice")
			mu.Lock()
			arrived := sent[n]
			if arrived.Before(called) {
				arrived = called // the reader itself was busy till then
			}
			worst = max(worst, now.Sub(arrived))
			for ; next <= n; next++ {
				delete(sent, next)
			}
			mu.Unlock()
			delivered++
		}
		require.NoError(t, l.Err())
		if reader.IntN(10) == 0 {
			// in the time of the bubble
			time.Sleep(time.Duration(reader.IntN(30)) * time.Millisecond)
		}
		require.NoError(t, l.Release())
	}
	<-done
	s, err := w.r.Stats()
	require.NoError(t, err)
	assert.EqualValues(t, total, delivered+s.Dropped, "%+v", s)
	assert.LessOrEqual(t, worst, timeout+tick)
	t.Logf("delivered %d, dropped %d, worst delay %v, %+v", delivered, s.Dropped, worst, s)
	lab.Report(t, lab.Packets, uint64(total))
	lab.Report(t, lab.Lost, uint64(total)-delivered-s.Dropped)
}
