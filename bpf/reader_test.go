package bpf_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// world is a model kernel with one interface and a reader on it.
type world struct {
	k   *bpftest.Kernel
	em0 *bpftest.Interface
	r   *bpf.Reader
}

func zerocopyOn(on bool) bpftest.Option {
	v := int32(0)
	if on {
		v = 1
	}
	return bpftest.WithSysctl("net.bpf.zerocopy_enable", v)
}

func newWorld(t testing.TB, cfg bpf.Config, opts ...bpftest.Option) *world {
	t.Helper()
	k := bpftest.New(append([]bpftest.Option{zerocopyOn(cfg.Mode != bpf.Buffered)}, opts...)...)
	w := &world{k: k, em0: k.AddInterface("em0", zbuf.DLT_EN10MB)}
	cfg.System = k
	r, err := bpf.Open("em0", cfg)
	require.NoError(t, err)
	w.r = r
	t.Cleanup(func() { r.Close() })
	return w
}

// numbered is an Ethernet frame of the given length that carries n and a check of it.
func numbered(n uint32, length int) []byte {
	p := make([]byte, max(length, 64))
	p[12], p[13] = 0x88, 0xb5
	binary.BigEndian.PutUint32(p[14:], n)
	for i := 18; i < len(p); i++ {
		p[i] = byte(n) + byte(i)
	}
	return p
}

// number checks a frame made by numbered and returns its number.
func number(t testing.TB, p []byte) uint32 {
	t.Helper()
	require.GreaterOrEqual(t, len(p), 64)
	n := binary.BigEndian.Uint32(p[14:])
	for i := 18; i < len(p); i++ {
		if p[i] != byte(n)+byte(i) {
			require.Failf(t, "torn packet", "number %d: byte %d is %#x", n, i, p[i])
		}
	}
	return n
}

// modes runs f in both buffer modes, each in a bubble where time passes only while everybody waits.
func modes(t *testing.T, f func(t *testing.T, mode bpf.Mode)) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, mode) })
		})
	}
}

func TestLeaseDeliversEverythingInOrder(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode, BufferSize: 4096})
		const count = 1000
		go func() {
			for i := range uint32(count) {
				require.NoError(t, w.em0.InjectWait(t.Context(), bpftest.Packet{Data: numbered(i, 64+int(i%400))}))
			}
		}()
		for next := uint32(0); next < count; {
			l, err := w.r.Lease(t.Context())
			require.NoError(t, err)
			for p := range l.Packets() {
				require.Equal(t, next, number(t, p.Data()))
				require.Equal(t, 64+int(next%400), p.WireLen())
				require.Equal(t, len(p.Data()), p.CapLen())
				next++
			}
			require.NoError(t, l.Err())
			require.NoError(t, l.Release())
		}
		s, err := w.r.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, count, s.Packets)
		assert.EqualValues(t, count, s.Received)
		assert.Zero(t, s.Dropped)
	})
}

// The tail sticks in the store buffer when it arrives before the hold buffer is acknowledged
// (first kind), or when both buffers were owned (second kind).
func TestStuckTailIsDelivered(t *testing.T) {
	const timeout = 50 * time.Millisecond
	for _, overload := range []bool{false, true} {
		t.Run(fmt.Sprintf("overload=%v", overload), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10, ReadTimeout: timeout})
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

				// What was read in place comes again with the buffer, and is not delivered again.
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

// Records that are longer than what small fills are copied into, and what is behind them.
func TestStuckTailOfLongPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 512 << 10, ReadTimeout: 20 * time.Millisecond})
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

// While the reader is behind, it makes no system call and allocates nothing.
func TestBehindNoSystemCallsNoAllocations(t *testing.T) {
	w := newWorld(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10, ReadTimeout: bpf.NoTimeout})
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

// Nobody may spin: with nothing new there are at most three wake-ups a second, whatever is
// already known to be there.
func TestIdleReaderSleeps(t *testing.T) {
	for _, immediate := range []bool{false, true} {
		for _, left := range []string{"nothing", "a tail", "two full buffers"} {
			for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
				t.Run(fmt.Sprintf("immediate=%v/left=%s/%v", immediate, left, mode), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: 10 * time.Millisecond, Immediate: immediate})
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
	// The two calls above wake it too, and so does what is left, once.
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

// The same, whatever came before and however it was read.
func TestIdleReaderSleepsAfterAnything(t *testing.T) {
	for _, immediate := range []bool{false, true} {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			t.Run(fmt.Sprintf("immediate=%v/%v", immediate, mode), func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %#x", seed)
				rnd := rand.New(rand.NewPCG(seed, 0))
				for range 100 {
					synctest.Test(t, func(t *testing.T) { anythingThenIdle(t, rnd, mode, immediate) })
				}
			})
		}
	}
}

func anythingThenIdle(t *testing.T, rnd *rand.Rand, mode bpf.Mode, immediate bool) {
	w := newWorld(t, bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: 10 * time.Millisecond, Immediate: immediate})
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

// Whether the interface is there is looked at by who is awake anyhow, or else by a wake-up for that
// alone, which asks for packets only if there may be some.
func TestLookAtTheInterface(t *testing.T) {
	const packets = 100
	for name, c := range map[string]struct {
		mode             bpf.Mode
		gap              time.Duration // between packets; 0 is none of them
		waits, eachWait  int
		looks, eachExtra int // in ten seconds, and the system calls for one
	}{
		"lent, silence":     {bpf.ZeroCopy, 0, 14, 1, 14, 2},
		"buffered, silence": {bpf.Buffered, 0, 14, 1, 14, 3},
		"lent, packets":     {bpf.ZeroCopy, 100 * time.Millisecond, packets, 2, 20, 2},
		"buffered, packets": {bpf.Buffered, 100 * time.Millisecond, packets, 2, 20, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bpf.Config{Mode: c.mode, ReadTimeout: 20 * time.Millisecond})
				if c.gap > 0 {
					go func() {
						for i := range uint32(packets) {
							time.Sleep(c.gap)
							w.em0.Receive(numbered(i, 64))
						}
					}()
				}
				require.NoError(t, w.r.SetReadDeadline(time.Now().Add(10*time.Second+time.Millisecond)))
				for {
					l, err := w.r.Lease(t.Context())
					if err != nil {
						require.ErrorIs(t, err, os.ErrDeadlineExceeded)
						break
					}
					for range l.Packets() {
					}
					require.NoError(t, l.Release())
				}
				s, err := w.r.Stats()
				require.NoError(t, err)
				if c.gap > 0 {
					assert.EqualValues(t, packets, s.Packets)
				}
				const over = 6 // the first wait, woken by SetReadDeadline, and the last, at the deadline
				assert.InDelta(t, c.waits, s.Waits, 2)
				assert.InDelta(t, c.waits*c.eachWait+c.looks*c.eachExtra, s.Syscalls, over)
			})
		})
	}
}

// rearms is a model kernel that counts how often a reader waits with rearm.
type rearms struct {
	*bpftest.Kernel
	n atomic.Int64
}

type rearmCounter struct {
	zbuf.Backend
	n *atomic.Int64
}

func (k *rearms) Open() (zbuf.Backend, error) {
	b, err := k.Kernel.Open()
	return rearmCounter{b, &k.n}, err
}

func (c rearmCounter) Wait(rearm bool, timeout time.Duration) (zbuf.Event, error) {
	if rearm {
		c.n.Add(1)
	}
	return c.Backend.Wait(rearm, timeout)
}

// Where several packets come in a read timeout the reader times it itself: the kernel is asked to
// do so at the beginning, and when they have stopped. Where fewer come it is left to the kernel,
// which wakes nobody for nothing.
func TestWhoTimesTheReadTimeout(t *testing.T) {
	const timeout = 20 * time.Millisecond
	const packets = 1000
	for name, c := range map[string]struct {
		gap    time.Duration
		waits  int // for all of them, and the second of silence behind
		rearms int
	}{
		"many in a timeout": {time.Millisecond, packets / 20, 4},
		"a few":             {6 * time.Millisecond, packets * 6 / 20, 4},
		"fewer than one":    {50 * time.Millisecond, packets, packets + 100}, // and the looks at the interface
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				k := &rearms{Kernel: bpftest.New(zerocopyOn(mode == bpf.ZeroCopy))}
				em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
				r, err := bpf.Open("em0", bpf.Config{Mode: mode, ReadTimeout: timeout, System: k})
				require.NoError(t, err)
				defer r.Close()
				begin := time.Now()
				go func() {
					for i := range uint32(packets) {
						time.Sleep(c.gap)
						em0.Receive(numbered(i, 64))
					}
					time.Sleep(time.Second)
					r.SetReadDeadline(time.Now())
				}()
				n := 0
				for {
					l, err := r.Lease(t.Context())
					if err != nil {
						require.ErrorIs(t, err, os.ErrDeadlineExceeded)
						break
					}
					for p := range l.Packets() {
						came := begin.Add(time.Duration(number(t, p.Data())+1) * c.gap)
						require.LessOrEqual(t, time.Since(came), timeout+time.Millisecond, "packet %d", n)
						n++
					}
					require.NoError(t, l.Release())
				}
				assert.Equal(t, packets, n)
				s, err := r.Stats()
				require.NoError(t, err)
				assert.InDelta(t, c.waits, s.Waits, float64(c.waits)/8+4)
				assert.LessOrEqual(t, k.n.Load(), int64(c.rearms))
			})
		})
	}
}

// Whoever resets looks through what is pending, but is no reader: nobody is told that a lease is
// out.
func TestReadingWhileOthersReset(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t, bpf.Config{Mode: mode})
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
			for i := uint32(0); made.Load() < 100_000; i++ {
				if i%4 == 0 {
					w.em0.Receive(numbered(i, 64))
				}
				runtime.Gosched()
				l, err := w.r.Lease(done)
				if err == nil {
					err = l.Release()
				} else if errors.Is(err, context.Canceled) {
					err = nil
				}
				if !assert.NoError(t, err) {
					break
				}
			}
			over.Store(true)
			resets.Wait()
		})
	}
}

func TestReadTimeoutCountsFromArrival(t *testing.T) {
	const timeout = 100 * time.Millisecond
	for _, name := range []string{"undisturbed", "ioctls meanwhile", "ioctl storm"} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newWorld(t, bpf.Config{Mode: mode, ReadTimeout: timeout})
				ctx, cancel := context.WithCancel(t.Context())
				var others sync.WaitGroup
				defer others.Wait()
				defer cancel()
				switch name {
				case "ioctls meanwhile":
					others.Go(func() {
						time.Sleep(40 * time.Millisecond)
						w.r.Stats()
					})
				case "ioctl storm":
					others.Go(func() {
						for ctx.Err() == nil {
							time.Sleep(5 * time.Millisecond)
							w.r.Stats()
						}
					})
				}
				for i := range uint32(20) {
					var arrived time.Time
					go func() {
						time.Sleep(30 * time.Millisecond)
						arrived = time.Now()
						w.em0.Receive(numbered(i, 64))
					}()
					l, err := w.r.Lease(ctx)
					require.NoError(t, err)
					assert.LessOrEqual(t, time.Since(arrived), timeout)
					require.NoError(t, l.Release())
				}
			})
		})
	}
}

func TestCloseWakesReader(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode})
		start := time.Now()
		go func() {
			time.Sleep(time.Millisecond)
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
		w := newWorld(t, bpf.Config{Mode: mode, BufferSize: 4096})
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

// What ReadPacket has copied from is nobody's: Close gives it back, and a reset only once it is
// copied.
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
				r, err := bpf.Open("em0", bpf.Config{System: k, Mode: bpf.ZeroCopy, BufferSize: 4096, Immediate: true})
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

func TestInterfaceGone(t *testing.T) {
	for name, vanish := range map[string]func(*world){
		"destroyed":             func(w *world) { w.k.RemoveInterface("em0") },
		"moved to another vnet": func(w *world) { w.em0.MoveAway() },
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newWorld(t, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout})
				var gone time.Time
				go func() {
					time.Sleep(100 * time.Millisecond)
					w.em0.Receive(numbered(7, 64))
					gone = time.Now()
					vanish(w)
				}()
				l, err := w.r.Lease(t.Context())
				require.NoError(t, err, "what is left comes first")
				for p := range l.Packets() {
					assert.EqualValues(t, 7, number(t, p.Data()))
				}
				require.NoError(t, l.Release())
				_, err = w.r.Lease(t.Context())
				assert.ErrorIs(t, err, bpf.ErrInterfaceGone)
				assert.Less(t, time.Since(gone), time.Second)
				_, err = w.r.Lease(t.Context())
				assert.ErrorIs(t, err, bpf.ErrInterfaceGone, "it stays gone")
			})
		})
	}
}

// The reader is woken more often than it looks by itself: that must not put the look off.
func TestInterfaceGoneWhileOthersWakeTheReader(t *testing.T) {
	for _, every := range []time.Duration{30, 400, 600, 690} {
		t.Run(fmt.Sprintf("%d ms", every), func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newWorld(t, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout})
				over := make(chan struct{})
				var gone time.Time
				var others sync.WaitGroup
				others.Go(func() {
					time.Sleep(time.Millisecond)
					gone = time.Now()
					w.k.RemoveInterface("em0")
					for {
						select {
						case <-over:
							return
						case <-time.After(every * time.Millisecond):
							w.r.SetReadDeadline(time.Time{})
						}
					}
				})
				_, err := w.r.Lease(t.Context())
				close(over)
				others.Wait()
				assert.ErrorIs(t, err, bpf.ErrInterfaceGone)
				assert.LessOrEqual(t, time.Since(gone), 700*time.Millisecond)
			})
		})
	}
}

func TestRenameIsNotGone(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode})
		go func() {
			time.Sleep(2 * time.Second)
			w.em0.Rename("wan0")
			time.Sleep(2 * time.Second)
			w.em0.Receive(numbered(1, 64))
		}()
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.Release())
	})
}

func TestContextAndDeadline(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout})

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
		w := newWorld(t, bpf.Config{Mode: mode})
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
		w := newWorld(t, bpf.Config{Mode: mode, SnapLen: 80})
		for i := range uint32(10) {
			w.em0.Receive(numbered(i, 100))
		}
		data, info, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 0, number(t, data))
		assert.Equal(t, 80, info.CaptureLength)
		assert.Equal(t, 100, info.Length)
		buf := make([]byte, 70)
		n, info, err := w.r.ReadInto(t.Context(), buf)
		require.NoError(t, err)
		assert.Equal(t, 70, n)
		assert.Equal(t, 80, info.CaptureLength)
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

func TestAutoFallsBackAndSaysWhy(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  []bpftest.Option
		setup func(*bpftest.Kernel)
		mode  bpf.Mode
		why   error
	}{
		{name: "granted", opts: []bpftest.Option{zerocopyOn(true)}, mode: bpf.ZeroCopy},
		{name: "disabled", opts: []bpftest.Option{zerocopyOn(false)}, mode: bpf.Buffered, why: zbuf.ErrZeroCopyDisabled},
		{name: "32-bit program", opts: []bpftest.Option{zerocopyOn(true), bpftest.WithCompat32()}, mode: bpf.Buffered, why: syscall.EINVAL},
		{name: "SETZBUF refused", opts: []bpftest.Option{zerocopyOn(true)}, mode: bpf.Buffered, why: syscall.EFAULT,
			setup: func(k *bpftest.Kernel) { k.FailNext("BIOCSETZBUF", 1, syscall.EFAULT) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, mode := range []bpf.Mode{bpf.Auto, bpf.ZeroCopy} {
				k := bpftest.New(c.opts...)
				em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
				if c.setup != nil {
					c.setup(k)
				}
				r, err := bpf.Open("em0", bpf.Config{System: k, Mode: mode})
				if mode == bpf.ZeroCopy && c.why != nil {
					assert.ErrorIs(t, err, bpf.ErrZeroCopyRefused)
					assert.ErrorIs(t, err, c.why)
					assert.Zero(t, k.OpenCount())
					assert.Zero(t, k.MappedBytes())
					continue
				}
				require.NoError(t, err)
				got, reason := r.Mode()
				assert.Equal(t, c.mode, got)
				if c.why == nil {
					assert.NoError(t, reason)
				} else {
					assert.ErrorIs(t, reason, bpf.ErrZeroCopyRefused)
					assert.ErrorIs(t, reason, c.why)
				}
				em0.Receive(numbered(3, 64))
				data, _, err := r.ReadPacket(t.Context())
				require.NoError(t, err)
				assert.EqualValues(t, 3, number(t, data))
				require.NoError(t, r.Close())
			}
		})
	}
}

func TestOtherFailuresAreErrors(t *testing.T) {
	for _, c := range []struct {
		op  string
		err syscall.Errno
	}{{"open", syscall.EACCES}, {"BIOCSETBUFMODE", syscall.EIO}, {"BIOCGETZMAX", syscall.EIO}, {"map", syscall.ENOMEM}, {"BIOCSETIF", syscall.ENXIO}} {
		t.Run(c.op, func(t *testing.T) {
			k := bpftest.New(zerocopyOn(true))
			k.AddInterface("em0", zbuf.DLT_EN10MB)
			k.FailNext(c.op, 1, c.err)
			_, err := bpf.Open("em0", bpf.Config{System: k})
			assert.ErrorIs(t, err, c.err)
			assert.Zero(t, k.OpenCount())
			assert.Zero(t, k.MappedBytes())
		})
	}
}

// accept passes frames whose number is at least n.
func accept(t testing.TB, n uint32) []xbpf.RawInstruction {
	prog, err := xbpf.Assemble([]xbpf.Instruction{
		xbpf.LoadAbsolute{Off: 14, Size: 4},
		xbpf.JumpIf{Cond: xbpf.JumpGreaterOrEqual, Val: n, SkipFalse: 1},
		xbpf.RetConstant{Val: 1 << 18},
		xbpf.RetConstant{Val: 0},
	})
	require.NoError(t, err)
	return prog
}

func TestFilterChangeWithFlushDropsWhatWasCaptured(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode, BufferSize: 4096})
		for i := range uint32(200) { // both buffers filled
			w.em0.Receive(numbered(i, 64))
		}
		data, _, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 0, number(t, data))
		before, err := w.r.Stats()
		require.NoError(t, err)
		require.NoError(t, w.r.SetFilter(accept(t, 1000), true))
		w.em0.Receive(numbered(300, 64))
		w.em0.Receive(numbered(1000, 64))
		data, _, err = w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1000, number(t, data))
		after, err := w.r.Stats()
		require.NoError(t, err)
		assert.Equal(t, before.Received+2, after.Received, "own resets do not lose counts")
		assert.Equal(t, before.Dropped, after.Dropped)
		w.r.SetReadDeadline(time.Now().Add(time.Second))
		_, _, err = w.r.ReadPacket(t.Context())
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestFilterChangeWithoutFlushKeeps(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode})
		w.em0.Receive(numbered(1, 64))
		require.NoError(t, w.r.SetFilter(accept(t, 1000), false))
		w.em0.Receive(numbered(2, 64))
		w.em0.Receive(numbered(1000, 64))
		for _, want := range []uint32{1, 1000} {
			data, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.Equal(t, want, number(t, data))
		}
	})
}

func TestGuardNeedsMemoryThatCanBeProtected(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		k := bpftest.New(zerocopyOn(true))
		k.AddInterface("em0", zbuf.DLT_EN10MB)
		_, err := bpf.Open("em0", bpf.Config{System: k, Mode: mode, Guard: true})
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.Zero(t, k.OpenCount())
		assert.Zero(t, k.MappedBytes())
	}
}

func TestLinkTypes(t *testing.T) {
	const radiotap = 127
	modes(t, func(t *testing.T, mode bpf.Mode) {
		k := bpftest.New(zerocopyOn(true))
		wlan0 := k.AddInterface("wlan0", zbuf.DLT_EN10MB, bpftest.AlsoDLT(radiotap, 0))
		open := func(want ...uint32) (*bpf.Reader, error) {
			return bpf.Open("wlan0", bpf.Config{System: k, Mode: mode, LinkTypes: want, Immediate: true})
		}
		for _, c := range []struct{ want, got []uint32 }{
			{nil, []uint32{zbuf.DLT_EN10MB}},
			{[]uint32{radiotap}, []uint32{radiotap}},
			{[]uint32{9999, radiotap, zbuf.DLT_EN10MB}, []uint32{radiotap}},
		} {
			r, err := open(c.want...)
			require.NoError(t, err)
			assert.Equal(t, c.got[0], r.LinkType())
			types, err := r.LinkTypes()
			require.NoError(t, err)
			assert.ElementsMatch(t, []uint32{zbuf.DLT_EN10MB, radiotap}, types)
			wlan0.Inject(bpftest.Packet{Data: numbered(1, 64), DLT: c.got[0]})
			data, _, err := r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.EqualValues(t, 1, number(t, data))
			require.NoError(t, r.Close())
		}
		_, err := open(9999)
		assert.ErrorIs(t, err, bpf.ErrLinkType)
		assert.Zero(t, k.OpenCount())
	})
}

func TestDirection(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		for dir, want := range map[bpf.Direction][]uint32{bpf.InOut: {1, 2}, bpf.In: {1}, bpf.Out: {2}} {
			w := newWorld(t, bpf.Config{Mode: mode, Direction: dir})
			w.em0.Receive(numbered(1, 64))
			w.em0.Transmit(numbered(2, 64))
			for _, n := range want {
				data, _, err := w.r.ReadPacket(t.Context())
				require.NoError(t, err)
				assert.Equal(t, n, number(t, data))
			}
			require.NoError(t, w.r.SetDirection(bpf.Out))
			w.em0.Receive(numbered(3, 64))
			w.em0.Transmit(numbered(4, 64))
			data, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.EqualValues(t, 4, number(t, data))
		}
	})
}

func TestPromiscuousUntilClosed(t *testing.T) {
	for _, on := range []bool{false, true} {
		w := newWorld(t, bpf.Config{Promiscuous: on})
		assert.Equal(t, on, w.em0.Promisc() == 1)
		require.NoError(t, w.r.Close())
		assert.Zero(t, w.em0.Promisc())
	}
}

func TestWriteFilterAndWrite(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode, WriteFilter: accept(t, 5), HeaderComplete: true})
		peer := w.k.AddInterface("em1", zbuf.DLT_EN10MB)
		bpftest.Pair(w.em0, peer)
		r, err := bpf.Open("em1", bpf.Config{System: w.k, Mode: mode, Direction: bpf.In})
		require.NoError(t, err)
		defer r.Close()
		_, err = w.r.Write(numbered(4, 64))
		assert.ErrorIs(t, err, syscall.EPERM)
		n, err := w.r.Write(numbered(5, 64))
		require.NoError(t, err)
		assert.Equal(t, 64, n)
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.Equal(t, numbered(5, 64), data)
		require.NoError(t, w.r.SetWriteFilter(nil))
		_, err = w.r.Write(numbered(4, 64))
		assert.NoError(t, err)
		w.k.RemoveInterface("em0")
		_, err = w.r.Write(numbered(4, 64))
		assert.ErrorIs(t, err, syscall.ENXIO)
	})
}

// An open descriptor of somebody else's serves as well as a fresh one.
func TestAdoptedDescriptor(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		k := bpftest.New(zerocopyOn(true))
		em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
		b, err := k.Open()
		require.NoError(t, err)
		dev, err := zbuf.Adopt(b)
		require.NoError(t, err)
		r, err := bpf.Open("em0", bpf.Config{Device: dev, Mode: mode})
		require.NoError(t, err)
		em0.Receive(numbered(1, 64))
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, number(t, data))
		require.NoError(t, r.Close())
		assert.Zero(t, k.OpenCount())
	})
}

// Two readers on one interface: the one that has stopped for ever costs the other nothing.
func TestStoppedReaderCostsTheOtherNothing(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: time.Millisecond})
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

func TestOptimizeWritersDoesNotSilence(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode}, bpftest.WithSysctl("net.bpf.optimize_writers", 1))
		w.em0.Receive(numbered(1, 64))
		data, _, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, number(t, data))
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
				w := newWorld(t, bpf.Config{Mode: mode, Resolution: c.res, Immediate: true})
				w.em0.ReceiveAt(at, numbered(1, 64), 64)
				_, info, err := w.r.ReadPacket(t.Context())
				require.NoError(t, err)
				assert.True(t, c.want.Equal(info.Timestamp), "%v, not %v", info.Timestamp, c.want)
			})
		}
	}
}

func TestSandbox(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newWorld(t, bpf.Config{Mode: mode, BufferSize: 4096})
		require.NoError(t, w.r.Sandbox(bpf.Sandbox{}))
		for i := range uint32(300) {
			require.NoError(t, w.em0.InjectWait(t.Context(), bpftest.Packet{Data: numbered(i, 64)}))
			data, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			require.Equal(t, i, number(t, data))
		}
		_, err := w.r.Stats()
		assert.NoError(t, err)
		_, err = w.r.LinkTypes()
		assert.NoError(t, err)
		assert.NoError(t, w.r.Flush())
		assert.ErrorIs(t, w.r.SetFilter(nil, true), bpf.ErrSandboxed)
		assert.ErrorIs(t, w.r.SetDirection(bpf.In), bpf.ErrSandboxed)
		_, err = w.r.Write(numbered(1, 64))
		assert.ErrorIs(t, err, bpf.ErrSandboxed)
		w.k.RemoveInterface("em0")
		_, err = w.r.Lease(t.Context())
		assert.ErrorIs(t, err, bpf.ErrInterfaceGone)
	})
}

func TestConfigIsCheckedBeforeAnythingIsOpened(t *testing.T) {
	for name, cfg := range map[string]bpf.Config{
		"mode":        {Mode: 9},
		"buffer size": {BufferSize: -1},
		"snaplen":     {SnapLen: -1},
		"timeout":     {ReadTimeout: -5},
		"direction":   {Direction: 3},
		"resolution":  {Resolution: 17},
		"clock":       {Clock: -1},
		"filter":      {Filter: []xbpf.RawInstruction{{Op: 5, K: 9}}},
	} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New()
			k.AddInterface("em0", zbuf.DLT_EN10MB)
			k.FailNext("open", 1, errors.New("opened"))
			cfg.System = k
			_, err := bpf.Open("em0", cfg)
			assert.ErrorIs(t, err, bpf.ErrConfig)
			assert.NotContains(t, err.Error(), "opened")
		})
	}
}

// Numbered packets in bursts with pauses, a reader that dawdles now and then, ioctls and flushless
// filter changes meanwhile: nothing lost but what the kernel says it dropped, nothing twice,
// nothing torn, nothing late.
func TestNumberedPacketsWithPauses(t *testing.T) {
	packets := 200_000
	if testing.Short() {
		packets = 20_000
	}
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		for _, size := range []int{4096, 16 << 10, 256 << 10} {
			t.Run(fmt.Sprintf("%v/%dK", mode, size>>10), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { soak(t, mode, size, packets) })
			})
		}
	}
}

func soak(t *testing.T, mode bpf.Mode, size, packets int) {
	const timeout = 20 * time.Millisecond
	const tick = time.Millisecond // WithHZ's default
	w := newWorld(t, bpf.Config{Mode: mode, BufferSize: size, ReadTimeout: timeout})
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	sent := map[uint32]time.Time{} // not delivered yet
	total := uint32(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n := uint32(0)
		for int(n) < packets {
			burst := 1 + rnd.IntN(12)
			if rnd.IntN(50) == 0 {
				burst = 1 + rnd.IntN(3000)
			}
			for range burst {
				mu.Lock()
				sent[n] = time.Now()
				mu.Unlock()
				w.em0.Receive(numbered(n, 60+rnd.IntN(300)))
				n++
				if rnd.IntN(8) == 0 {
					time.Sleep(time.Duration(rnd.IntN(100)) * time.Microsecond)
				}
			}
			time.Sleep(time.Duration(rnd.IntN(80)) * time.Millisecond)
			if rnd.IntN(20) == 0 {
				w.r.Stats()
			}
		}
		total = n
		time.Sleep(time.Second)
		w.r.SetReadDeadline(time.Now())
	}()
	reader := rand.New(rand.NewPCG(seed, 1))
	next, delivered, worst := uint32(0), uint64(0), time.Duration(0)
	for {
		called := time.Now()
		l, err := w.r.Lease(t.Context())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		require.NoError(t, err)
		now := time.Now()
		for p := range l.Packets() {
			n := number(t, p.Data())
			require.GreaterOrEqual(t, n, next, "in order and none twice")
			mu.Lock()
			arrived := sent[n]
			if arrived.Before(called) {
				arrived = called // the reader itself was busy till then
			}
			worst = max(worst, now.Sub(arrived))
			for ; next <= n; next++ {
				delete(sent, next)
			}
			mu.Unlock()
			delivered++
		}
		require.NoError(t, l.Err())
		if reader.IntN(10) == 0 {
			time.Sleep(time.Duration(reader.IntN(30)) * time.Millisecond)
		}
		require.NoError(t, l.Release())
	}
	<-done
	s, err := w.r.Stats()
	require.NoError(t, err)
	assert.EqualValues(t, total, delivered+s.Dropped, "%+v", s)
	assert.LessOrEqual(t, worst, timeout+tick)
	t.Logf("delivered %d, dropped %d, worst delay %v, %+v", delivered, s.Dropped, worst, s)
	lab.Report(t, lab.Packets, uint64(total))
	lab.Report(t, lab.Lost, uint64(total)-delivered-s.Dropped)
}
