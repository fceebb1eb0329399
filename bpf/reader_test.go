package bpf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func TestLeaseDeliversEverythingInOrder(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096})
		const count = 1000
		go func() {
			for i := range uint32(count) {
				require.NoError(t, w.em0.InjectWait(t.Context(),
					bpftest.Packet{Data: numbered(i, 64+int(i%400))}))
			}
		}()
		bytes := uint64(0)
		for next := uint32(0); next < count; {
			l, err := w.r.Lease(t.Context())
			require.NoError(t, err)
			for p := range l.Packets() {
				require.Equal(t, next, number(t, p.Data()))
				require.Equal(t, 64+int(next%400), p.WireLen())
				require.Equal(t, len(p.Data()), p.CapLen())
				bytes += uint64(len(p.Data()))
				next++
			}
			require.NoError(t, l.Err())
			require.NoError(t, l.Release())
		}
		s, err := w.r.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, count, s.Packets)
		assert.Equal(t, bytes, s.Bytes)
		assert.EqualValues(t, count, s.Received)
		assert.Zero(t, s.Dropped)
	})
}

// While the reader is behind, it makes no system call and allocates nothing.
func TestBehindNoSystemCallsNoAllocations(t *testing.T) {
	w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10,
		ReadTimeout: bpf.NoTimeout})
	frame := numbered(1, 64)
	for range 2000 { // both buffers are owned
		w.em0.Receive(frame)
	}
	ctx := context.Background()
	before, err := w.r.Stats()
	require.NoError(t, err)
	leases, packets := 0, 0
	allocs := testing.AllocsPerRun(200, func() {
		l, err := w.r.Lease(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for p := range l.Packets() {
			packets += len(p.Data()) / 64
		}
		l.Release()
		for range 720 { // fills what was given back, whatever the header's size
			w.em0.Receive(frame)
		}
		leases++
	})
	after, err := w.r.Stats()
	require.NoError(t, err)
	assert.Zero(t, allocs)
	assert.EqualValues(t, leases, after.Lent-before.Lent)
	assert.EqualValues(t, packets, after.Packets-before.Packets)
	assert.Equal(t, before.Syscalls, after.Syscalls)
	assert.Equal(t, before.Waits, after.Waits)
}

// A reset looks through the pending packets, but it is no reader: it never makes a reader get
// ErrLeaseOut, whether or not the reader has left a batch in part.
func TestReadingWhileOthersReset(t *testing.T) {
	flushes := int64(100_000)
	if testing.Short() {
		flushes = 20_000
	}
	for name, read := range map[string]func(*bpf.Reader, context.Context) error{
		"Lease": func(r *bpf.Reader, ctx context.Context) error {
			l, err := r.Lease(ctx)
			if err == nil {
				err = l.Release()
			}
			return err
		},
		"ReadPacket": func(r *bpf.Reader, ctx context.Context) error {
			_, _, err := r.ReadPacket(ctx)
			return err
		},
	} {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			t.Run(fmt.Sprintf("%s/%v", name, mode), func(t *testing.T) {
				w := newCapture(t, bpf.Config{Mode: mode})
				done, cancel := context.WithCancel(t.Context())
				cancel()
				var made atomic.Int64
				var over atomic.Bool
				var resets sync.WaitGroup
				for range 8 {
					resets.Go(func() {
						for !over.Load() {
							assert.NoError(t, w.r.Flush())
							made.Add(1)
						}
					})
				}
				for i := uint32(0); made.Load() < flushes; i++ {
					if i%4 == 0 {
						w.receive(i, 3)
					}
					runtime.Gosched()
					err := read(w.r, done)
					if !errors.Is(err, context.Canceled) && !assert.NoError(t, err) {
						break
					}
				}
				over.Store(true)
				resets.Wait()
			})
		}
	}
}

func TestCloseWakesReader(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode})
		start := time.Now()
		go func() {
			time.Sleep(time.Millisecond) // in the time of the bubble
			assert.NoError(t, w.r.Close())
			assert.NoError(t, w.r.Close())
		}()
		_, err := w.r.Lease(t.Context())
		assert.ErrorIs(t, err, os.ErrClosed)
		assert.Equal(t, time.Millisecond, time.Since(start))
		_, _, err = w.r.ReadPacket(t.Context())
		assert.ErrorIs(t, err, os.ErrClosed)
		synctest.Wait()
		assert.Zero(t, w.k.OpenCount())
		assert.Zero(t, w.k.MappedBytes())
	})
}

func TestCloseLeavesLeaseAlone(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096})
		for i := range uint32(40) {
			w.em0.Receive(numbered(i, 64))
		}
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err)
		require.NoError(t, w.r.Close())
		assert.Zero(t, w.k.OpenCount())
		for p := range l.Packets() {
			number(t, p.Data())
		}
		if mode == bpf.ZeroCopy {
			assert.NotZero(t, w.k.MappedBytes())
		}
		require.NoError(t, l.Release())
		assert.Zero(t, w.k.MappedBytes())
		assert.ErrorIs(t, l.Release(), bpf.ErrReleased)
	})
}

// Nobody uses the batch from which ReadPacket has copied. Close gives it back, and a reset does so
// once the packet is copied.
func TestReadPacketKeepsNothing(t *testing.T) {
	for name, read := range map[string]func(*bpf.Reader, context.Context) ([]byte, error){
		"ReadPacket": func(r *bpf.Reader, ctx context.Context) ([]byte, error) {
			p, _, err := r.ReadPacket(ctx)
			return p, err
		},
		"ReadInto": func(r *bpf.Reader, ctx context.Context) ([]byte, error) {
			b := make([]byte, 200)
			n, _, err := r.ReadInto(ctx, b)
			return b[:n], err
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New(zerocopyOn(true))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
			for n := range uint32(200) {
				r, err := bpf.Open("em0", bpf.Config{System: k, Mode: bpf.ZeroCopy, BufferSize: 4096,
					Immediate: true})
				require.NoError(t, err)
				em0.Receive(numbered(2*n, 200))
				em0.Receive(numbered(2*n+1, 200))
				data, err := read(r, t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 2*n, number(t, data))
				var others sync.WaitGroup
				others.Go(func() {
					if n%4 < 2 {
						assert.NoError(t, r.Flush())
						em0.Receive(numbered(2*n, 200)) // where the flushed ones were
					}
					assert.NoError(t, r.Close())
				})
				for err == nil && n%2 == 0 {
					if data, err = read(r, t.Context()); err == nil {
						number(t, data)
					}
				}
				others.Wait()
				require.Zero(t, k.MappedBytes(), "after Close")
			}
		})
	}
}

func TestContextAndDeadline(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout})

		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		start := time.Now()
		time.AfterFunc(time.Second, func() { cancel(cause) })
		_, err := w.r.Lease(ctx)
		assert.ErrorIs(t, err, cause)
		assert.Equal(t, time.Second, time.Since(start))

		w.em0.Receive(numbered(1, 64))
		w.r.SetReadDeadline(time.Now().Add(-time.Hour))
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err, "what is there comes before the error")
		require.NoError(t, l.Release())
		_, err = w.r.Lease(t.Context())
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)

		w.r.SetReadDeadline(time.Time{})
		start = time.Now()
		time.AfterFunc(time.Second, func() { w.r.SetReadDeadline(time.Now().Add(time.Second)) })
		_, err = w.r.Lease(t.Context())
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestOneLeaseAtATime(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode})
		w.em0.Receive(numbered(1, 64))
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err)
		_, err = w.r.Lease(t.Context())
		assert.ErrorIs(t, err, bpf.ErrLeaseOut)
		_, _, err = w.r.ReadPacket(t.Context())
		assert.ErrorIs(t, err, bpf.ErrLeaseOut)
		require.NoError(t, l.Release())
		assert.ErrorIs(t, l.Release(), bpf.ErrReleased)
		assert.ErrorIs(t, bpf.Lease{}.Release(), bpf.ErrReleased)
	})
}

func TestReadingMethodsMix(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, SnapLen: 80})
		for i := range uint32(10) {
			w.em0.Receive(numbered(i, 100))
		}
		data, info, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 0, number(t, data))
		assert.Equal(t, 80, info.CapLen())
		assert.Equal(t, 100, info.WireLen())
		buf := make([]byte, 70)
		n, info, err := w.r.ReadInto(t.Context(), buf)
		require.NoError(t, err)
		assert.Equal(t, 70, n)
		assert.Equal(t, 80, info.CapLen())
		assert.EqualValues(t, 1, number(t, buf))
		data, _, err = w.r.ZeroCopyReadPacketData()
		require.NoError(t, err)
		assert.EqualValues(t, 2, number(t, data))
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err)
		next := uint32(3)
		for p := range l.Packets() {
			assert.Equal(t, next, number(t, p.Data()))
			next++
		}
		assert.EqualValues(t, 10, next)
		require.NoError(t, l.Release())
	})
}

// Two readers on one interface: the one that has stopped for ever costs the other nothing.
func TestStoppedReaderCostsTheOtherNothing(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: time.Millisecond})
		stopped, err := bpf.Open("em0", bpf.Config{System: w.k, Mode: mode, BufferSize: 4096})
		require.NoError(t, err)
		defer stopped.Close()
		w.em0.Receive(numbered(0, 64))
		l, err := stopped.Lease(t.Context())
		require.NoError(t, err)
		defer l.Release()
		for i := range uint32(1000) {
			if i > 0 {
				w.em0.Receive(numbered(i, 64))
			}
			data, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			require.Equal(t, i, number(t, data))
		}
		s, err := w.r.Stats()
		require.NoError(t, err)
		assert.Zero(t, s.Dropped)
		s, err = stopped.Stats()
		require.NoError(t, err)
		assert.NotZero(t, s.Dropped)
	})
}

func TestTimestamps(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	for _, c := range []struct {
		res  bpf.Resolution
		want time.Time
	}{
		{bpf.Nanoseconds, at},
		{bpf.Microseconds, at.Truncate(time.Microsecond)},
		{bpf.Binary, at},
		{bpf.NoTimestamp, time.Time{}},
	} {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			t.Run(fmt.Sprintf("%d/%v", c.res, mode), func(t *testing.T) {
				w := newCapture(t, bpf.Config{Mode: mode, Resolution: c.res, Immediate: true})
				w.em0.ReceiveAt(at, numbered(1, 64), 64)
				_, info, err := w.r.ReadPacket(t.Context())
				require.NoError(t, err)
				assert.True(t, c.want.Equal(info.Time()), "%v, not %v", info.Timestamp, c.want)
			})
		}
	}
}
