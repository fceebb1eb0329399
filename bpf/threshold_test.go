package bpf_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// The reader copies out a fill of at most 8 KiB and acknowledges it at once. So packets that come
// while the lease is out do not stick. The reader lends a longer fill.
func TestFillOfAtMost8KiBIsCopiedOut(t *testing.T) {
	const most = 8 << 10
	for _, c := range []struct {
		fill, copiedOut, lent, inPlace int
	}{
		{most - zbuf.Alignment, 1, 0, 0},
		{most, 1, 0, 0},
		{most + zbuf.Alignment, 0, 1, 1},
		{most + 1024, 0, 1, 1},
	} {
		t.Run(fmt.Sprint(c.fill), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10,
					ReadTimeout: 20 * time.Millisecond})
				w.em0.Receive(numbered(0, 128))
				l, err := w.r.Lease(t.Context())
				require.NoError(t, err)
				header := l.Len() - 128
				require.NoError(t, l.Release())
				before, err := w.r.Stats()
				require.NoError(t, err)

				w.em0.Receive(numbered(1, 4<<10-header))
				w.em0.Receive(numbered(2, c.fill-4<<10-header))
				l, err = w.r.Lease(t.Context())
				require.NoError(t, err)
				require.Equal(t, c.fill, l.Len())
				w.em0.Receive(numbered(3, 64)) // while the lease is out
				require.NoError(t, l.Release())
				data, _, err := w.r.ReadPacket(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 3, number(t, data))

				after, err := w.r.Stats()
				require.NoError(t, err)
				last := 1 - c.inPlace // the packet of the second read is a short fill too, unless it sticks
				assert.EqualValues(t, c.copiedOut+last, after.CopiedOut-before.CopiedOut)
				assert.EqualValues(t, c.lent, after.Lent-before.Lent)
				assert.EqualValues(t, c.inPlace, after.ReadInPlace-before.ReadInPlace)
			})
		})
	}
}

// A packet that comes while the reader does something else waits in the store buffer, and the
// kernel's read timeout begins only with the next read. A reader that was away for longer than an
// eighth of it asks at once. Packets are therefore never later than nine eighths.
func TestReaderThatWasAwayAsksAtOnce(t *testing.T) {
	const timeout = 80 * time.Millisecond
	for _, c := range []struct{ away, late time.Duration }{
		{time.Millisecond, timeout + time.Millisecond},
		{timeout / 8, timeout + timeout/8},
		{timeout/8 + 1, timeout/8 + 1},
		{timeout/8 + time.Millisecond, timeout/8 + time.Millisecond},
		{timeout, timeout},
		{10 * timeout, 10 * timeout},
	} {
		t.Run(c.away.String(), func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: timeout}, bpftest.WithHZ(1000))
				w.em0.Receive(numbered(0, 64))
				l, err := w.r.Lease(t.Context()) // asks for everything that there is
				require.NoError(t, err)
				require.NoError(t, l.Release())

				arrived := time.Now()
				w.em0.Receive(numbered(1, 64))
				time.Sleep(c.away) // in the time of the bubble
				l, err = w.r.Lease(t.Context())
				require.NoError(t, err)
				assert.Equal(t, c.late, time.Since(arrived))
				require.NoError(t, l.Release())
			})
		})
	}
}
