package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// The reader must not spin. Without new packets it wakes at most three times a second, also if it
// knows that old packets are there.
func TestIdleReaderSleeps(t *testing.T) {
	for _, immediate := range []bool{false, true} {
		for _, left := range []string{"nothing", "a tail", "two full buffers"} {
			for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
				t.Run(fmt.Sprintf("immediate=%v/left=%s/%v", immediate, left, mode), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 64 << 10,
							ReadTimeout: 10 * time.Millisecond, Immediate: immediate})
						leave(t, w.r, left, func(i uint32) { w.em0.Receive(numbered(i, 128)) })
						requireSleeps(t, w.r, 10)
						w.r.SetReadDeadline(time.Time{})
						w.em0.Receive(numbered(3000, 128))
						data, _, err := w.r.ReadPacket(t.Context())
						require.NoError(t, err)
						assert.EqualValues(t, 3000, number(t, data))
					})
				})
			}
		}
	}
}

// requireSleeps has r wait for so many seconds in which nothing comes.
func requireSleeps(t *testing.T, r *bpf.Reader, seconds int, what ...any) {
	t.Helper()
	requireSleepsWithin(t, r, seconds, 3, what...)
}

// requireSleepsWithin allows for so many wake-ups a second.
func requireSleepsWithin(t *testing.T, r *bpf.Reader, seconds, wakeups int, what ...any) {
	t.Helper()
	before, err := r.Stats()
	require.NoError(t, err)
	r.SetReadDeadline(time.Now().Add(time.Duration(seconds) * time.Second))
	_, err = r.Lease(t.Context())
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	after, err := r.Stats()
	require.NoError(t, err)
	// The two calls above wake it too, and so do the packets that are left, once.
	require.LessOrEqual(t, after.Waits-before.Waits, uint64(wakeups*seconds+3), what...)
}

// leave has a reader with buffers of 64 KiB read everything, with what is called left in the
// kernel's buffers.
func leave(t *testing.T, r *bpf.Reader, left string, receive func(number uint32)) {
	t.Helper()
	const most = (64 << 10) / 128 // no buffer has so many
	switch left {
	case "a tail":
		for i := range uint32(most) {
			receive(i)
		}
		l, err := r.Lease(t.Context())
		require.NoError(t, err)
		receive(most)
		require.NoError(t, l.Release())
	case "two full buffers": // and one more that did not fit
		for i := range uint32(2 * most) {
			receive(i)
		}
		s, err := r.Stats()
		require.NoError(t, err)
		require.NotZero(t, s.Dropped)
	}
	r.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	for {
		l, err := r.Lease(t.Context())
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return
		}
		require.NoError(t, l.Release())
	}
}

// The same holds for every history and every way of reading.
func TestIdleReaderSleepsAfterAnything(t *testing.T) {
	for _, immediate := range []bool{false, true} {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			t.Run(fmt.Sprintf("immediate=%v/%v", immediate, mode), func(t *testing.T) {
				seed := lab.RandomSeed(t)
				rnd := rand.New(rand.NewPCG(seed, 0))
				for range 100 {
					synctest.Test(t, func(t *testing.T) { anythingThenIdle(t, rnd, mode, immediate) })
				}
			})
		}
	}
}

func anythingThenIdle(t *testing.T, rnd *rand.Rand, mode bpf.Mode, immediate bool) {
	w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: 10 * time.Millisecond,
		Immediate: immediate})
	read := func(wait time.Duration) error {
		w.r.SetReadDeadline(time.Now().Add(wait))
		l, err := w.r.Lease(t.Context())
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return err
		}
		if rnd.IntN(2) == 0 {
			for range rnd.IntN(60) {
				w.em0.Receive(numbered(0, 60+rnd.IntN(300)))
			}
		}
		return l.Release()
	}
	var did []string
	for range 2 + rnd.IntN(12) {
		var op string
		switch rnd.IntN(8) {
		case 0, 1:
			op = "packet"
			w.em0.Receive(numbered(0, 60))
		case 2:
			op = "packets"
			for range rnd.IntN(200) {
				w.em0.Receive(numbered(0, 60+rnd.IntN(300)))
			}
		case 3, 4, 5:
			op = "read"
			read(time.Duration(rnd.IntN(30)) * time.Millisecond)
		case 6:
			op = "flush"
			require.NoError(t, w.r.Flush())
		default:
			op = "statistics"
			_, err := w.r.Stats()
			require.NoError(t, err)
		}
		did = append(did, op)
	}
	for read(100*time.Millisecond) == nil {
	}
	requireSleeps(t, w.r, 10, "%v", did)
}
