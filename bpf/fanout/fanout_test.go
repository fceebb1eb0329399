package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/bpf/fanout"
)

var errEnough = errors.New("enough")

// A packet is handled once and in order, no matter which worker sorts it and how long the lease is.
func TestEachPacketOnceAndFlowsInOrder(t *testing.T) {
	// Chunks are sorted in another order than they were claimed in.
	slow := func(linkType uint32, p []byte) uint32 {
		if _, number := parse(p); number%100 == 0 {
			runtime.Gosched()
		}
		return fanout.FlowHash(linkType, p)
	}
	for _, workers := range []int{1, 2, 3, 8} {
		for name, hash := range map[string]func(uint32, []byte) uint32{"FlowHash": nil, "slow": slow} {
			for _, size := range []int{8192, 128 << 10} {
				t.Run(fmt.Sprintf("workers=%d/hash=%s/buffer=%d", workers, name, size), func(t *testing.T) {
					modes(t, func(t *testing.T, cfg bpf.Config) {
						cfg.BufferSize = size
						w := newCapture(t, cfg)
						const flows, count = 97, 4000
						go func() {
							for i := range uint32(count) {
								// Numbers stay below the modulus of no flow, and both ways alternate.
								p := bpftest.Packet{Data: frame(uint16(i*31%flows), i%3 == 0, i)}
								if !assert.NoError(t, w.em0.InjectWait(t.Context(), p)) {
									return
								}
							}
						}()
						ledgers := newLedgers(workers)
						busy := make([]atomic.Bool, workers)
						var seen atomic.Int64
						err := fanout.Run(t.Context(), w.r, fanout.Config{
							Workers: workers, Hash: hash,
							Handle: func(i int, packets []bpf.Packet) error {
								assert.False(t, busy[i].Swap(true), "worker %d is called while it is at work", i)
								for _, p := range packets {
									ledgers[i].note(t, p)
								}
								busy[i].Store(false)
								if seen.Add(int64(len(packets))) == count {
									return errEnough
								}
								return nil
							}})
						require.ErrorIs(t, err, errEnough)
						check(t, ledgers, flows, count)
						w.released(t)
						s, err := w.r.Stats()
						require.NoError(t, err)
						assert.EqualValues(t, count, s.Packets)
						assert.Zero(t, s.Dropped)
					})
				})
			}
		}
	}
}

// The same outside of a bubble. There the race detector sees every store of the kernel into a
// buffer that a worker still reads.
func TestNothingIsWrittenWhereAWorkerReads(t *testing.T) {
	w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10,
		ReadTimeout: 5 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil { // no waiting for room: some of them are dropped
			w.em0.Receive(frame(uint16(n%50), n%2 == 0, uint32(n)))
			n++
		}
		sent <- n
	}()
	ledgers := newLedgers(3)
	var seen atomic.Int64
	err := fanout.Run(ctx, w.r, fanout.Config{
		Workers: 3,
		Handle: func(i int, packets []bpf.Packet) error {
			for _, p := range packets {
				ledgers[i].note(t, p)
			}
			if seen.Add(int64(len(packets))) > 20_000 {
				stop()
			}
			return nil
		}})
	require.ErrorIs(t, err, context.Canceled)
	n := <-sent
	s, err := w.r.Stats()
	require.NoError(t, err)
	assert.EqualValues(t, n, s.Received)
	assert.LessOrEqual(t, seen.Load()+int64(s.Dropped), int64(n))
	check(t, ledgers, 50, int(seen.Load()))
}

// Run releases the lease when the last worker is done, and not before.
func TestReleaseWhenAllAreDone(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		cfg.BufferSize = 64 << 10
		w := newCapture(t, cfg)
		fill := func() {
			for i := range uint32(1000) { // more than a buffer, less than two
				w.em0.Receive(frame(uint16(i%3), false, i))
			}
		}
		for slow := range 3 {
			fill()
			proceed := make(chan struct{})
			done := make([]atomic.Bool, 3)
			ended := make(chan error)
			go func() {
				ended <- fanout.Run(t.Context(), w.r, fanout.Config{
					Workers: 3, Hash: byFlow,
					Handle: func(worker int, packets []bpf.Packet) error {
						if worker == slow {
							<-proceed
						}
						for _, p := range packets {
							flow, _ := parse(p.Data())
							assert.EqualValues(t, worker, flow)
						}
						done[worker].Store(true)
						return errEnough
					}})
			}()
			synctest.Wait()
			for other := range done {
				assert.Equal(t, other != slow, done[other].Load(), "worker %d, while %d is slow", other, slow)
			}
			_, err := w.r.Lease(t.Context())
			require.ErrorIs(t, err, bpf.ErrLeaseOut)
			fill() // the other buffer; this one must not change
			close(proceed)
			require.ErrorIs(t, <-ended, errEnough)
			w.released(t)
		}
	})
}

// A chunk that takes long to sort delays neither the sorting of other chunks nor the handling of
// earlier ones.
func TestSlowSorterDoesNotStopTheOthers(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		const chunk, count, slow = 256, 2000, 300 // a packet of the second chunk
		w := newCapture(t, cfg)
		for i := range uint32(count) {
			w.em0.Receive(frame(uint16(i%50), false, i))
		}
		proceed := make(chan struct{})
		var hashed, seen atomic.Int64
		ledgers := newLedgers(3)
		ended := make(chan error)
		go func() {
			ended <- fanout.Run(t.Context(), w.r, fanout.Config{
				Workers: 3,
				Hash: func(_ uint32, p []byte) uint32 {
					hashed.Add(1)
					flow, number := parse(p)
					if number == slow {
						<-proceed
					}
					return uint32(flow)
				},
				Handle: func(i int, packets []bpf.Packet) error {
					for _, p := range packets {
						ledgers[i].note(t, p)
					}
					if seen.Add(int64(len(packets))) == count {
						return errEnough
					}
					return nil
				},
			})
		}()
		time.Sleep(time.Second) // the read timeout
		synctest.Wait()
		assert.EqualValues(t, count-(2*chunk-1-slow), hashed.Load(), "all but the rest of that chunk")
		assert.LessOrEqual(t, seen.Load(), int64(chunk), "what is behind has to wait")
		assert.Greater(t, seen.Load(), int64(chunk/2), "two of three workers have nothing to do but "+
			"their part of the first chunk")
		close(proceed)
		require.ErrorIs(t, <-ended, errEnough)
		check(t, ledgers, 50, count)
		w.released(t)
	})
}

// A slice that a worker keeps has empty packets afterwards. It does not show memory that the kernel
// fills.
func TestListOfPacketsIsEmptiedBehindTheWorker(t *testing.T) {
	w := newCapture(t, bpf.Config{})
	w.em0.Receive(frame(1, false, 1))
	var kept []bpf.Packet
	err := fanout.Run(t.Context(), w.r, fanout.Config{
		Workers: 1,
		Handle: func(_ int, packets []bpf.Packet) error {
			kept = packets
			return errEnough
		}})
	require.ErrorIs(t, err, errEnough)
	require.Len(t, kept, 1)
	assert.Equal(t, bpf.Packet{}, kept[0])
	assert.Empty(t, kept[0].Data())
}

func TestConfigIsChecked(t *testing.T) {
	w := newCapture(t, bpf.Config{})
	handle := func(int, []bpf.Packet) error { return nil }
	require.ErrorIs(t, fanout.Run(t.Context(), w.r, fanout.Config{Workers: -1, Handle: handle}),
		fanout.ErrConfig)
	require.ErrorIs(t, fanout.Run(t.Context(), w.r, fanout.Config{Workers: 1}), fanout.ErrConfig)
}

func TestWorkersDefaultToTheProcessors(t *testing.T) {
	w := newCapture(t, bpf.Config{})
	for i := range uint32(2000) {
		w.em0.Receive(frame(uint16(i), false, i))
	}
	busy := make([]atomic.Int64, runtime.GOMAXPROCS(0))
	err := fanout.Run(t.Context(), w.r, fanout.Config{Handle: func(i int, packets []bpf.Packet) error {
		busy[i].Add(int64(len(packets)))
		return errEnough
	}})
	require.ErrorIs(t, err, errEnough)
	for i := range busy {
		assert.NotZero(t, busy[i].Load(), "worker %d", i)
	}
}
