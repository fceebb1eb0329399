package fanout_test

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/fanout"
)

// After Close in the middle of a lease, the workers finish with memory that is still mapped. Then
// Run ends, and no goroutine is left.
func TestCloseInTheMiddle(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		w := newCapture(t, cfg)
		for i := range uint32(40) {
			w.em0.Receive(frame(uint16(i%4), false, i))
		}
		proceed := make(chan struct{})
		ended := make(chan error)
		var seen atomic.Int64
		go func() {
			ended <- fanout.Run(t.Context(), w.r, fanout.Config{
				Workers: 4, Hash: byFlow,
				Handle: func(worker int, packets []bpf.Packet) error {
					<-proceed
					for _, p := range packets {
						flow, _ := parse(p.Data())
						assert.EqualValues(t, worker, flow)
						seen.Add(1)
					}
					return nil
				}})
		}()
		time.Sleep(time.Second) // the read timeout, and then every worker has its share
		synctest.Wait()
		require.NoError(t, w.r.Close())
		if cfg.Mode == bpf.ZeroCopy {
			assert.NotZero(t, w.k.MappedBytes(), "the memory goes with the lease")
		}
		close(proceed)
		require.ErrorIs(t, <-ended, os.ErrClosed)
		assert.EqualValues(t, 40, seen.Load())
		assert.Zero(t, w.k.MappedBytes())
		assert.Zero(t, w.k.OpenCount())
	})
}

func TestInterfaceGoneComesAfterThePackets(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		w := newCapture(t, cfg)
		for i := range uint32(40) {
			w.em0.Receive(frame(uint16(i%4), false, i))
		}
		w.em0.Remove()
		var seen atomic.Int64
		err := fanout.Run(t.Context(), w.r, fanout.Config{
			Workers: 4,
			Handle: func(_ int, packets []bpf.Packet) error {
				seen.Add(int64(len(packets)))
				return nil
			}})
		require.ErrorIs(t, err, bpf.ErrInterfaceGone)
		assert.EqualValues(t, 40, seen.Load())
	})
}

// After ctx is done, the workers handle what was captured. Then Run ends, even if more packets
// arrive.
func TestDoneContextEndsRunUnderOverload(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		cfg.BufferSize = 8192
		w := newCapture(t, cfg)
		ctx, cancel := context.WithCancelCause(t.Context())
		overload := func() {
			for i := range uint32(500) {
				w.em0.Receive(frame(uint16(i%5), false, i))
			}
		}
		overload()
		calls := 0
		err := fanout.Run(ctx, w.r, fanout.Config{Workers: 1, Handle: func(int, []bpf.Packet) error {
			calls++
			if calls == 5 {
				cancel(errEnough)
			}
			overload()
			return nil
		}})
		require.ErrorIs(t, err, errEnough)
		assert.Greater(t, calls, 5, "what was captured before")
		assert.LessOrEqual(t, calls, 5+4)
		w.released(t)
	})
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newCapture(t, bpf.Config{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := fanout.Run(ctx, w.r, fanout.Config{Workers: 2, Handle: func(int, []bpf.Packet) error {
				return nil
			}})
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	})
}

// A program reports again and again, between one Run and the next. The workers are quiet then, and
// nothing is lost, also of what comes between.
func TestRunAgainAfterADoneContext(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		const each, reports = 7, 100
		w := newCapture(t, cfg)
		ledgers := newLedgers(3)
		go func() {
			for i := range uint32(each * reports) {
				w.em0.Receive(frame(uint16(i%10), false, i))
				time.Sleep(3 * time.Millisecond) // in the time of the bubble
			}
		}()
		total := func() (n int) {
			for _, l := range ledgers {
				n += l.count
			}
			return n
		}
		seen, some := 0, 0
		for range reports {
			ctx, cancel := context.WithTimeout(t.Context(), 3*each*time.Millisecond)
			err := fanout.Run(ctx, w.r, fanout.Config{
				Workers: 3,
				Handle: func(i int, packets []bpf.Packet) error {
					for _, p := range packets {
						ledgers[i].note(t, p)
					}
					return nil
				}})
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			before := total()
			synctest.Wait()
			require.Equal(t, before, total(), "no worker is at work")
			if before > seen {
				some++
			}
			seen = before
		}
		assert.Greater(t, some, reports/2, "reports with news")
		w.r.SetReadDeadline(time.Now().Add(time.Second))
		for { // what came in the end
			l, err := w.r.Lease(t.Context())
			if err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				break
			}
			for range l.Packets() {
				ledgers[0].count++
			}
			require.NoError(t, l.Release())
		}
		assert.Equal(t, each*reports, total())
	})
}

// Run ends at a read deadline, and may be called again.
func TestRunGoesOnAfterADeadline(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		w := newCapture(t, cfg)
		ledgers := newLedgers(2)
		for round := range uint32(3) {
			for i := range uint32(100) {
				w.em0.Receive(frame(uint16(i%10), false, round*100+i))
			}
			w.r.SetReadDeadline(time.Now().Add(time.Second))
			err := fanout.Run(t.Context(), w.r, fanout.Config{
				Workers: 2,
				Handle: func(i int, packets []bpf.Packet) error {
					for _, p := range packets {
						ledgers[i].note(t, p)
					}
					return nil
				}})
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		check(t, ledgers, 10, 300)
	})
}
