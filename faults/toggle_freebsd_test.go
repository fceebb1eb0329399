package faults

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// A reader that has zero-copy mode keeps it. A new reader gets it, or an error that says why not.
func TestZeroCopyTurnedOffAndOn(t *testing.T) {
	w := lab.OnKernel(t)
	lab.Want64Bit(t)
	const name = "net.bpf.zerocopy_enable"
	lab.SetSysctl(t, w, name, 1)
	rng := seeded(t)
	p := lab.NewPair(t, w)
	watched(t, p, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 32 << 10, ReadTimeout: readTimeout},
		func(c *capture, sent func() uint32) int {
			var turned atomic.Int64
			var enough atomic.Bool
			over := make(chan struct{})
			go func() {
				defer close(over)
				for i := 0; !enough.Load(); i++ {
					if !assert.NoError(t, w.SetSysctl(name, i%2)) {
						return
					}
					turned.Add(1)
					time.Sleep(upTo(rng, 3*time.Millisecond)) // the moment is what the test varies
				}
			}()
			defer func() { enough.Store(true); <-over }()
			got := map[bpf.Mode]int{}
			refused := 0
			until := time.Now().Add(atLeast(t))
			for turned.Load() < int64(toggles.n()) || len(got) < 2 || refused == 0 ||
				time.Now().Before(until) {
				r, err := bpf.Open(p.A, bpf.Config{ReadTimeout: readTimeout})
				require.NoError(t, err)
				mode, why := r.Mode()
				got[mode]++
				if mode == bpf.ZeroCopy {
					require.NoError(t, why)
				} else {
					require.ErrorIs(t, why, bpf.ErrZeroCopyRefused)
					require.ErrorIs(t, why, zbuf.ErrZeroCopyDisabled)
				}
				l, err := r.Lease(t.Context())
				require.NoError(t, err)
				var own tally
				for pkt := range l.Packets() {
					own.take(pkt.Data())
				}
				require.NotZero(t, own.Delivered)
				require.Zero(t, own.Torn+own.Again)
				require.NoError(t, l.Release())
				require.NoError(t, r.Close())

				r, err = bpf.Open(p.A, bpf.Config{Mode: bpf.ZeroCopy})
				if err != nil {
					refused++
					require.ErrorIs(t, err, bpf.ErrZeroCopyRefused)
					require.ErrorIs(t, err, zbuf.ErrZeroCopyDisabled)
					continue
				}
				mode, why = r.Mode()
				require.Equal(t, bpf.ZeroCopy, mode)
				require.NoError(t, why)
				require.NoError(t, r.Close())
			}
			t.Logf("turned %d times; Auto became %v; ZeroCopy was refused %d times", turned.Load(), got,
				refused)
			return int(turned.Load())
		})
	requireNobodyLeft(t, p.A)
}
