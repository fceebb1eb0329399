package merge_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/bpf/merge"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// setup is a model kernel with interfaces and a Merger of their readers.
type setup struct {
	t       *testing.T
	k       *bpftest.Kernel
	ifaces  []*bpftest.Interface
	readers []*bpf.Reader
	m       *merge.Merger
	begin   time.Time
}

func newSetup(t *testing.T, bound time.Duration, n int, cfg bpf.Config) *setup {
	w := &setup{t: t, begin: time.Now(),
		k: bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))}
	cfg.System = w.k
	for i := range n {
		name := fmt.Sprintf("em%d", i)
		w.ifaces = append(w.ifaces, w.k.AddInterface(name, zbuf.DLT_EN10MB))
		r, err := bpf.Open(name, cfg)
		require.NoError(t, err)
		t.Cleanup(func() { r.Close() })
		w.readers = append(w.readers, r)
	}
	w.m = merge.New(bound, w.readers...)
	return w
}

// receive has interface i capture packet n with the time stamp at, in milliseconds.
func (w *setup) receive(i int, n uint32, at int) {
	data := make([]byte, 60)
	binary.BigEndian.PutUint32(data[14:], n)
	w.ifaces[i].ReceiveAt(w.begin.Add(time.Duration(at)*time.Millisecond), data, 60)
}

func number(p merge.Packet) uint32 { return binary.BigEndian.Uint32(p.Data[14:]) }

// event is one packet or, with n 0, the end of an interface; all times are milliseconds.
type event struct {
	when, iface int
	n           uint32
	stamp       int
}

// turn is what one round of the loop gives.
type turn struct {
	n  uint32 // 0 is an error
	at int
}

// Rules of the merger, with a bound of 100 ms. In immediate mode a packet arrives at the merger
// when it is captured.
func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name   string
		ifaces int
		events []event
		want   []turn
		late   uint64
	}{
		{"a packet goes out when every other interface has a later one", 2,
			[]event{{0, 0, 1, 10}, {5, 1, 2, 20}, {7, 0, 3, 30}, {9, 1, 4, 40}},
			[]turn{{1, 5}, {2, 7}, {3, 9}, {4, 109}}, 0},
		{"they come in the order of their time stamps", 2,
			[]event{{0, 0, 2, 20}, {1, 0, 4, 40}, {2, 1, 1, 10}, {3, 1, 3, 30}, {4, 1, 5, 50}},
			[]turn{{1, 2}, {2, 3}, {3, 3 + 0}, {4, 4}, {5, 104}}, 0},
		{"an idle interface delays others by the bound", 2,
			[]event{{0, 0, 1, 10}, {50, 0, 2, 20}},
			[]turn{{1, 100}, {2, 150}}, 0},
		{"one reader delays nothing", 1,
			[]event{{0, 0, 1, 10}, {50, 0, 2, 20}},
			[]turn{{1, 0}, {2, 50}}, 0},
		{"what comes after the bound is late, and comes at once", 2,
			[]event{{0, 0, 1, 50}, {200, 1, 2, 40}, {201, 0, 3, 300}},
			[]turn{{1, 100}, {2, 201}, {3, 301}}, 1},
		{"a time stamp in the future is not held for longer", 2,
			[]event{{0, 0, 1, 9000}, {20, 1, 2, 20}, {40, 1, 3, 40}, {110, 1, 4, 110}},
			[]turn{{2, 20}, {3, 40}, {1, 100}, {4, 210}}, 1},
		{"the order within an interface stays", 2,
			[]event{{0, 0, 1, 50}, {1, 0, 2, 40}, {2, 1, 3, 60}, {3, 1, 4, 61}},
			[]turn{{1, 2}, {2, 2}, {3, 102}, {4, 103}}, 1},
		{"equal times go by arrival", 3,
			[]event{{0, 2, 1, 5}, {1, 0, 2, 5}, {2, 1, 3, 5}},
			[]turn{{1, 2}, {2, 101}, {3, 102}}, 0},
		// A reader looks for its interface at each multiple of 700 ms. The bubble begins 100 ms after
		// one.
		{"an interface that has gone delays nobody, and is said once", 2,
			[]event{{0, 0, 1, 10}, {1, 1, 2, 20}, {2, 1, 0, 0}, {1500, 0, 3, 30}},
			[]turn{{1, 1}, {2, 101}, {0, 600}, {3, 1500}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newSetup(t, 100*time.Millisecond, c.ifaces, bpf.Config{Immediate: true})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					for _, e := range c.events {
						time.Sleep(time.Until(w.at(e.when)))
						if e.n == 0 {
							w.ifaces[e.iface].Remove()
						} else {
							w.receive(e.iface, e.n, e.stamp)
						}
					}
					time.Sleep(5 * time.Second) // in the time of the bubble
					cancel()
				}()
				var got []turn
				var last error
				for p, err := range w.m.Packets(ctx) {
					tn := turn{at: int(time.Since(w.begin).Milliseconds())}
					if last = err; err == nil {
						tn.n = number(p)
					} else if ctx.Err() != nil {
						continue
					} else {
						assert.ErrorIs(t, err, bpf.ErrInterfaceGone)
						assert.ErrorContains(t, err, "em1")
						assert.Equal(t, 1, p.Reader)
					}
					got = append(got, tn)
				}
				assert.Equal(t, c.want, got)
				assert.ErrorIs(t, last, context.Canceled)
				assert.Equal(t, c.late, w.m.Late())
			})
		})
	}
}

func (w *setup) at(ms int) time.Time { return w.begin.Add(time.Duration(ms) * time.Millisecond) }

// A packet that was held for the bound goes out behind those before it that had come by then, and
// not behind those that came later.
func TestNobodyPutsOffADuePacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSetup(t, 100*time.Millisecond, 2, bpf.Config{Immediate: true})
		go func() {
			w.receive(0, 1, 9000) // due at 100
			w.receive(1, 2, 10)
			for _, e := range []event{{50, 1, 3, 15}, {110, 1, 4, 20}, {150, 1, 5, 30}} {
				time.Sleep(time.Until(w.at(e.when)))
				w.receive(e.iface, e.n, e.stamp)
			}
		}()
		var got []uint32
		for p, err := range w.m.Packets(t.Context()) {
			require.NoError(t, err)
			if got = append(got, number(p)); len(got) == 5 {
				break
			}
			if number(p) == 2 {
				time.Sleep(300 * time.Millisecond) // in the time of the bubble: a slow body
			}
		}
		assert.Equal(t, []uint32{2, 3, 1, 4, 5}, got)
		assert.EqualValues(t, 2, w.m.Late())
	})
}

// While the body is slow, the Merger copies about a buffer, and then leaves the reader alone: no
// lease is out. Nothing is lost then, nor when the body leaves the loop.
func TestSlowBodyKeepsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSetup(t, 10*time.Millisecond, 2, bpf.Config{BufferSize: 4096, Immediate: true})
		done, cancel := context.WithCancel(t.Context())
		cancel()
		w.receive(0, 1, 1)
		for p, err := range w.m.Packets(t.Context()) {
			require.NoError(t, err)
			require.EqualValues(t, 1, number(p))
			for n := uint32(2); n <= 80; n++ { // of 60 bytes; 4096 are a buffer
				w.receive(0, n, int(n))
				synctest.Wait()
			}
			l, err := w.readers[0].Lease(done)
			require.NoError(t, err, "the Merger has left packets in the kernel, and is no reader")
			require.NoError(t, l.Release())
			_, err = w.readers[1].Lease(done)
			require.ErrorIs(t, err, bpf.ErrLeaseOut, "it waits for packets of the other interface")
			break
		}
		next := uint32(2)
		for next <= 70 { // 4096/60, and one that waited for room
			for p, err := range w.m.Packets(t.Context()) {
				require.NoError(t, err)
				require.Equal(t, next, number(p), "the loop goes on")
				next++
				break
			}
		}
		for _, r := range w.readers {
			s, err := r.Stats()
			require.NoError(t, err)
			assert.Zero(t, s.Dropped)
		}
	})
}

// The loop ends when the last reader has, and it never ends in silence.
func TestLoopEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSetup(t, time.Second, 3, bpf.Config{Immediate: true})
		w.receive(2, 1, 1)
		for i, r := range w.readers {
			time.AfterFunc(time.Duration(i+1)*time.Second, func() { r.Close() })
		}
		var ends []int
		packets := 0
		for p, err := range w.m.Packets(t.Context()) {
			if err == nil {
				packets++
				continue
			}
			require.ErrorIs(t, err, os.ErrClosed)
			ends = append(ends, p.Reader)
		}
		assert.Equal(t, []int{0, 1, 2}, ends)
		assert.Equal(t, 1, packets)
		for _, err := range merge.New(0).Packets(t.Context()) {
			assert.Error(t, err)
			packets++
		}
		assert.Equal(t, 2, packets)
	})
}

// Random traffic on several interfaces, some of which go, and a loop that is left again and again.
// Every packet comes once, in the order of its interface, and is held no longer than the bound. The
// Merger counts exactly those that come out of order. If the bound covers all delays, none does.
func TestRandomMerge(t *testing.T) {
	seeds := 100
	if testing.Short() {
		seeds = 25
	}
	seeds = lab.Setting(t, "ZBUF_SEEDS", seeds)
	first := lab.RandomSeed(t)
	late, tried := uint64(0), 0
	// One seed in five has late packets.
	for ; tried < seeds || late == 0 && tried < seeds+500; tried++ {
		seed := first + uint64(tried)
		ok := t.Run("seed", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				late += randomMerge(t, rand.New(rand.NewPCG(seed, 0)))
			})
		})
		require.True(t, ok, "ZBUF_SEED=%d ZBUF_SEEDS=1", seed)
	}
	t.Logf("%d seeds from %d, %d packets late", tried, first, late)
	require.NotZero(t, late)
}

func randomMerge(t *testing.T, rnd *rand.Rand) (late uint64) {
	const timeout, jitter = 20 * time.Millisecond, 10 * time.Millisecond
	bound := time.Duration(rnd.IntN(60)) * time.Millisecond
	enough := bound >= timeout+jitter
	n := 1 + rnd.IntN(4)
	w := newSetup(t, bound, n, bpf.Config{BufferSize: 64 << 10, ReadTimeout: timeout,
		Mode: []bpf.Mode{bpf.ZeroCopy, bpf.Buffered}[rnd.IntN(2)]})
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var arrived []time.Time // by number
	sent := make([][]uint32, n)
	var senders sync.WaitGroup
	for i := range n {
		own := rand.New(rand.NewPCG(rnd.Uint64(), 1))
		gone := own.IntN(4) == 0
		senders.Go(func() {
			stamp := w.begin
			for range 20 + own.IntN(100) {
				for range 1 + own.IntN(4) {
					data := make([]byte, 60+own.IntN(100))
					for i := range data {
						data[i] = byte(len(data))
					}
					// not before the one before, and not long ago
					at := time.Now().Add(-time.Duration(own.IntN(int(jitter))))
					if at.After(stamp) {
						stamp = at
					}
					mu.Lock()
					number := uint32(len(arrived))
					arrived, sent[i] = append(arrived, time.Now()), append(sent[i], number)
					mu.Unlock()
					binary.BigEndian.PutUint32(data[14:], number)
					w.ifaces[i].ReceiveAt(stamp, data, len(data))
				}
				if own.IntN(3) > 0 {
					time.Sleep(time.Duration(own.IntN(30)) * time.Millisecond)
				}
			}
			if gone {
				// What is captured within the read timeout before the end waits for the look. A sleep of just
				// the timeout, in the time of the bubble, would end at the instant at which it is over.
				time.Sleep(timeout + time.Millisecond)
				w.ifaces[i].Remove()
			}
		})
	}
	go func() {
		senders.Wait()
		select {
		case <-time.After(2 * time.Second): // in the time of the bubble
		case <-ctx.Done():
		}
		cancel()
	}()
	got := make([][]uint32, n)
	var latest time.Time
	for over := false; !over; {
		leave := 1 + rnd.IntN(200)
		over = true
		for p, err := range w.m.Packets(ctx) {
			if err != nil {
				require.True(t, errors.Is(err, context.Canceled) || errors.Is(err, bpf.ErrInterfaceGone))
				continue
			}
			require.Equal(t, byte(len(p.Data)), p.Data[30], "it is whole")
			require.Equal(t, len(p.Data), p.WireLen)
			number := number(p)
			got[p.Reader] = append(got[p.Reader], number)
			mu.Lock()
			held := time.Since(arrived[number])
			mu.Unlock()
			require.LessOrEqual(t, held, timeout+bound, "packet %d", number)
			if p.Time.Before(latest) {
				late++
			} else {
				latest = p.Time
			}
			if leave--; leave == 0 {
				over = false
				break
			}
		}
	}
	cancel()
	senders.Wait()
	require.Equal(t, sent, got)
	require.Equal(t, late, w.m.Late())
	if enough {
		require.Zero(t, late)
	}
	for _, r := range w.readers {
		s, err := r.Stats()
		require.True(t, err == nil || errors.Is(err, os.ErrClosed))
		require.Zero(t, s.Dropped)
	}
	return late
}
