package bpf_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
)

// The tail sticks in the store buffer when it arrives before the hold buffer is acknowledged
// (first kind), or when both buffers were owned (second kind).
func TestStuckTailIsDelivered(t *testing.T) {
	const timeout = 50 * time.Millisecond
	for _, overload := range []bool{false, true} {
		t.Run(fmt.Sprintf("overload=%v", overload), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10, ReadTimeout: timeout})
				fill := 500
				if overload {
					fill = 3000
				}
				for i := range uint32(fill) {
					w.em0.Receive(numbered(i, 128))
				}
				l, err := w.r.Lease(t.Context())
				require.NoError(t, err)
				w.em0.Receive(numbered(1<<20, 64)) // while the lease is out
				require.NoError(t, l.Release())
				var got []uint32
				collect := func(l bpf.Lease) {
					for p := range l.Packets() {
						got = append(got, number(t, p.Data()))
					}
					require.NoError(t, l.Release())
				}
				w.r.SetReadDeadline(time.Now().Add(timeout))
				for {
					l, err := w.r.Lease(t.Context())
					if errors.Is(err, os.ErrDeadlineExceeded) {
						break
					}
					require.NoError(t, err)
					collect(l)
				}
				if overload { // the tail itself was dropped; the next packet frees the older buffer and sticks
					w.em0.Receive(numbered(1<<21, 64))
				}
				last := uint32(1 << 20)
				if overload {
					last = 1 << 21
					w.r.SetReadDeadline(time.Now().Add(timeout))
					l, err := w.r.Lease(t.Context())
					require.NoError(t, err)
					collect(l)
				}
				require.Equal(t, last, got[len(got)-1])
				s, _ := w.r.Stats()
				assert.EqualValues(t, 1, s.ReadInPlace)

				// Packets read in place come again with the buffer. The reader does not deliver them again.
				got = nil
				w.em0.Receive(numbered(1<<22, 64))
				w.r.SetReadDeadline(time.Time{})
				l, err = w.r.Lease(t.Context())
				require.NoError(t, err)
				collect(l)
				assert.Equal(t, []uint32{1 << 22}, got)
			})
		})
	}
}

// Records that are longer than the memory for copies of small fills, and the records behind them.
func TestStuckTailOfLongPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 512 << 10,
			ReadTimeout: 20 * time.Millisecond})
		next := uint32(0)
		for range 10 {
			for i := range uint32(3) {
				w.em0.Receive(numbered(next+i, 60_000))
			}
			l, err := w.r.Lease(t.Context())
			require.NoError(t, err)
			tail := []int{70_001, 64, 65_533, 100_003, 61}
			for i, length := range tail { // while the lease is out
				w.em0.Receive(numbered(next+3+uint32(i), length))
			}
			end := next + 3 + uint32(len(tail))
			for {
				for p := range l.Packets() {
					require.Equal(t, next, number(t, p.Data()))
					next++
				}
				require.NoError(t, l.Err())
				require.NoError(t, l.Release())
				if next == end {
					break
				}
				l, err = w.r.Lease(t.Context())
				require.NoError(t, err)
			}
		}
		s, err := w.r.Stats()
		require.NoError(t, err)
		assert.NotZero(t, s.ReadInPlace)
	})
}
