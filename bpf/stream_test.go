package bpf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
)

// Stats has each packet from the moment at which the call that delivered it has returned, whatever
// the batches were, and whatever was discarded in between.
func TestStatsCountEachPacketAtOnce(t *testing.T) {
	for _, rd := range readers[1:] { // one packet a call
		for _, flush := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/flush=%v", rd.name, flush), func(t *testing.T) {
				modes(t, func(t *testing.T, mode bpf.Mode) {
					w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, Immediate: true})
					for i := range uint64(200) {
						if i%50 == 0 { // more than a buffer
							w.receive(uint32(i), 50)
						}
						_, err := rd.read(t, w.r)
						require.NoError(t, err)
						s, err := w.r.Stats()
						require.NoError(t, err)
						require.Equal(t, i+1, s.Packets)
						require.Equal(t, 64*(i+1), s.Bytes)
						if flush && i%50 == 20 {
							require.NoError(t, w.r.Flush())
							w.receive(uint32(i+1), 30)
						}
					}
				})
			})
		}
	}
}

// What a lease takes over from the stream is counted once, by the iteration.
func TestStatsOfALeaseOfTheRest(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, Immediate: true})
		counted := func() uint64 {
			s, err := w.r.Stats()
			require.NoError(t, err)
			require.Equal(t, 64*s.Packets, s.Bytes)
			return s.Packets
		}
		w.receive(0, 10)
		for n := range uint64(3) {
			_, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			require.Equal(t, n+1, counted())
		}
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, counted())
		for range l.Packets() {
		}
		require.EqualValues(t, 10, counted())
		require.NoError(t, l.Release())
		require.EqualValues(t, 10, counted())
		require.NoError(t, w.r.Close())
		s, err := w.r.Stats()
		require.ErrorIs(t, err, os.ErrClosed)
		require.EqualValues(t, 10, s.Packets)
	})
}

// Stats from another goroutine lies between what has been returned and what has been asked for, and
// its two counters belong together.
func TestStatsBesideReads(t *testing.T) {
	packets := uint32(20_000)
	if testing.Short() {
		packets = 4000
	}
	for _, rd := range readers[1:] {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			t.Run(fmt.Sprintf("%s/%v", rd.name, mode), func(t *testing.T) {
				w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, Immediate: true})
				var asked, returned atomic.Uint64
				over := make(chan struct{})
				var others sync.WaitGroup
				others.Go(func() {
					for {
						low := returned.Load()
						s, err := w.r.Stats()
						high := asked.Load()
						if !assert.NoError(t, err) || !assert.LessOrEqual(t, low, s.Packets) ||
							!assert.LessOrEqual(t, s.Packets, high) ||
							!assert.Equal(t, 64*s.Packets, s.Bytes) {
							return
						}
						select {
						case <-over:
							return
						default:
						}
					}
				})
				for i := range packets {
					if i%40 == 0 {
						w.receive(i, 40)
					}
					asked.Add(1)
					_, err := rd.read(t, w.r)
					require.NoError(t, err)
					returned.Add(1)
				}
				close(over)
				others.Wait()
			})
		}
	}
}

// Goroutines that read at once get whole packets, each of them once, or ErrLeaseOut. The packets
// are there at first, so the goroutines seldom wait for anything but each other.
func TestReadersAtOnce(t *testing.T) {
	const each = 10_000
	rounds := uint32(8)
	if testing.Short() {
		rounds = 3
	}
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 1 << 20, Immediate: true})
			require.NoError(t, w.r.SetReadDeadline(time.Unix(1, 0))) // return what is there
			for round := range rounds {
				w.receive(round*each, each)
				var all sync.WaitGroup
				got := make([][]uint32, 4)
				for n := range got {
					read := readers[1+(n+int(round))%2].read // those that copy
					if n == 3 && round%2 == 0 {
						read = readers[0].read
					}
					all.Go(func() {
						for {
							numbers, err := read(t, w.r)
							switch {
							case errors.Is(err, bpf.ErrLeaseOut):
								continue
							case errors.Is(err, os.ErrDeadlineExceeded):
								return
							case !assert.NoError(t, err):
								return
							}
							got[n] = append(got[n], numbers...)
						}
					})
				}
				all.Wait()
				for _, numbers := range got {
					require.True(t, slices.IsSorted(numbers), "%v", numbers)
				}
				numbers := slices.Sorted(slices.Values(slices.Concat(got...)))
				require.Equal(t, sequence(round*each, each), numbers)
				s, err := w.r.Stats()
				require.NoError(t, err)
				require.EqualValues(t, (round+1)*each, s.Packets)
			}
		})
	}
}

// A packet that is there costs no allocation, no system call and, in Stats, nothing else either.
func TestReadingAPacketThatIsThere(t *testing.T) {
	ctx := context.Background()
	buf := make([]byte, 200)
	for _, c := range []struct {
		name   string
		read   func(r *bpf.Reader) error
		allocs float64 // at most
	}{
		{"ReadInto", func(r *bpf.Reader) error { _, _, err := r.ReadInto(ctx, buf); return err }, 0},
		{"ReadSlice", func(r *bpf.Reader) error { _, _, err := r.ReadSlice(ctx); return err }, 0},
		{"ZeroCopyReadPacketData", func(r *bpf.Reader) error {
			_, _, err := r.ZeroCopyReadPacketData()
			return err
		}, 0},
		// AllocsPerRun rounds down: 16 packets share an allocation.
		{"ReadPacket", func(r *bpf.Reader) error {
			for range 16 {
				if _, _, err := r.ReadPacket(ctx); err != nil {
					return err
				}
			}
			return nil
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 1 << 20, Immediate: true})
			w.receive(0, 5000)
			require.NoError(t, c.read(w.r)) // has the batch
			before, err := w.r.Stats()
			require.NoError(t, err)
			failed := error(nil)
			allocs := testing.AllocsPerRun(200, func() { failed = errors.Join(failed, c.read(w.r)) })
			assert.LessOrEqual(t, allocs, c.allocs)
			require.NoError(t, failed)
			after, err := w.r.Stats()
			require.NoError(t, err)
			assert.Greater(t, after.Packets, before.Packets+199)
			before.Packets, before.Bytes = after.Packets, after.Bytes
			assert.Equal(t, before, after)
		})
	}
}

// Copies of short packets share an allocation, and nothing else.
func TestCopiesAreApart(t *testing.T) {
	w := newCapture(t, bpf.Config{BufferSize: 64 << 10, Immediate: true})
	lengths := []int{64, 100, 256, 257, 1500, 1024, 65}
	var copies [][]byte
	for i := range uint32(100) {
		w.em0.Receive(numbered(i, lengths[i%7]))
		p, info, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		require.Len(t, p, lengths[i%7])
		require.Equal(t, len(p), info.CapLen())
		copies = append(copies, p)
	}
	for i, p := range copies {
		require.EqualValues(t, i, number(t, p))
		clear(append(p, make([]byte, 64)...)[len(p):])
	}
	for i, p := range copies {
		require.EqualValues(t, i, number(t, p), "after appending to the others")
		clear(p)
		if i+1 < len(copies) {
			require.EqualValues(t, i+1, number(t, copies[i+1]), "after writing to the one before")
		}
	}
}
