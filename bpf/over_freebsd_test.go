package bpf_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// A storm fills both buffers whenever the reader looks. A read is over nevertheless, after at most
// what two buffers hold.
func TestKernelReadIsOverUnderOverload(t *testing.T) {
	lab.WantStorm(t)
	cause := errors.New("enough")
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		const size = 4096
		most := 2 * size / (minRecord + len(lab.StormFrame()))
		storm, err := lab.NewStorm()
		require.NoError(t, err)
		defer func() { assert.NoError(t, storm.Close()) }()
		r, err := bpf.Open(storm.Ifname, bpf.Config{Mode: mode, BufferSize: size, Direction: bpf.In})
		require.NoError(t, err)
		defer r.Close()
		require.NoError(t, storm.Start())
		// full waits until the kernel has filled both buffers, and drops.
		full := func() {
			before := listed(t, storm.Ifname).Dropped
			require.NoError(t, lab.Until(func() (bool, error) {
				return listed(t, storm.Ifname).Dropped > before, nil
			}))
		}
		for _, rd := range reading {
			for _, byDeadline := range []bool{false, true} {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				want, ended, after := cause, false, 0
				packets := 0
				for err = nil; err == nil; {
					err = rd.read(ctx, r, func([]byte) {
						if packets++; packets%10 == 0 {
							full()
						}
						if ended {
							after++
							require.LessOrEqual(t, after, 2*most, "%s goes on", rd.name)
						} else if packets > most {
							ended = true
							if byDeadline {
								want = os.ErrDeadlineExceeded
								require.NoError(t, r.SetReadDeadline(time.Now()))
							} else {
								cancel(cause)
							}
						}
					})
				}
				require.ErrorIs(t, err, want, rd.name)
				require.NoError(t, r.SetReadDeadline(time.Time{}))
				t.Logf("%s by deadline %v: %d packets, %d of them after the end", rd.name, byDeadline, packets,
					after)
			}
		}
		require.NoError(t, storm.Stop())
	})
}

// minRecord is the least that the header of a record takes.
const minRecord = 18
