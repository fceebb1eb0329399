package fanout_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/fanout"
	"github.com/zbuf-go/zbuf/internal/lab"
)

func TestKernelEachPacketOnceAndFlowsInOrder(t *testing.T) {
	w := lab.OnKernel(t)
	for name, cfg := range map[string]bpf.Config{
		"zerocopy": {Mode: bpf.ZeroCopy}, "guarded": {Mode: bpf.ZeroCopy, Guard: true},
		"buffered": {Mode: bpf.Buffered},
	} {
		t.Run(name, func(t *testing.T) {
			if cfg.Mode == bpf.ZeroCopy {
				lab.WantZeroCopy(t, w)
			}
			p := lab.NewPair(t, w)
			cfg.BufferSize = 64 << 10
			cfg.ReadTimeout = 20 * time.Millisecond
			r, err := bpf.Open(p.A, cfg)
			require.NoError(t, err)
			defer r.Close()
			const flows, count, ahead = 53, 5000, 300
			var seen atomic.Int64
			var sent sync.WaitGroup
			defer sent.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 3*lab.Patience)
			defer cancel()
			sent.Go(func() {
				for i := range uint32(count) {
					for int64(i) >= seen.Load()+ahead && ctx.Err() == nil { // so that nothing is dropped
						runtime.Gosched()
					}
					if !assert.NoError(t, p.Post(p.A, frame(uint16(i*31%flows), i%3 == 0, i))) {
						return
					}
				}
			})
			ledgers := newLedgers(3)
			err = fanout.Run(ctx, r, fanout.Config{
				Workers: 3,
				Handle: func(i int, packets []bpf.Packet) error {
					for _, p := range packets {
						ledgers[i].note(t, p)
					}
					if seen.Add(int64(len(packets))) == count {
						return errEnough
					}
					return nil
				}})
			require.ErrorIs(t, err, errEnough)
			check(t, ledgers, flows, count)
		})
	}
}
