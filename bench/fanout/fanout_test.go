package fanout

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/fanout"
	"github.com/zbuf-go/zbuf/internal/lab"
)

const (
	bufferSize = 512 << 10
	size       = 64            // bytes of a packet
	record     = (26 + 64) + 6 // with its header, aligned
	full       = (bufferSize - 32) / record
	flows      = 1000
)

// world is the running kernel, or where there is none the model.
func world(b *testing.B) lab.World {
	w, why := lab.Kernel()
	if w == nil {
		b.Logf("on the model: %s", why)
		return lab.Model()
	}
	require.NoError(b, w.SetSysctl("net.bpf.zerocopy_enable", 1))
	return w
}

// frame is a UDP packet of one of the flows.
func frame(i int) []byte {
	p := make([]byte, size)
	copy(p, []byte{2, 0, 0, 0, 0, 0xee, 2, 0, 0, 0, 0, 0xdd, 8, 0, 0x45})
	flow := uint32(i*31) % flows
	p[14+9] = 17
	binary.BigEndian.PutUint32(p[14+12:], 0x0a000000+flow)
	binary.BigEndian.PutUint32(p[14+16:], 0xc0000201)
	binary.BigEndian.PutUint16(p[14+20:], uint16(1024+flow))
	binary.BigEndian.PutUint16(p[14+22:], 53)
	return p
}

// fill has the kernel fill both buffers, and assign them: there is one frame more than they hold.
func fill(b *testing.B, p *lab.Pair, frames [][]byte) {
	b.Helper()
	for i, f := range frames {
		require.NoError(b, p.Post(p.A, f))
		if i%100 == 99 { // an epair's queue is not endless
			require.NoError(b, p.SettleNow())
		}
	}
	require.NoError(b, p.SettleNow())
}

// work is not inlined, so that everybody runs the same code.
//
//go:noinline
func work(spin int) uint64 { return contestant.Spin(spin) }

// spins returns the work that takes d if nothing disturbs it.
func spins(d time.Duration) int {
	const n, calls = 100, 100
	best := time.Hour
	for range 500 {
		begin := time.Now()
		for range calls {
			work(n)
		}
		best = min(best, time.Since(begin))
	}
	return int(n * calls * d / best)
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// counter is one worker's count, on a cache line of its own.
type counter struct {
	packets, sum uint64
	_            [112]byte
}

func (c *counter) handle(p bpf.Packet, spin int) {
	c.packets++
	c.sum += uint64(p.Data()[0]) + work(spin)
}

// alone is the one goroutine that fan-out is compared to.
type alone struct {
	pair *lab.Pair
	r    *bpf.Reader
}

// round has two full buffers handled. It returns what the second takes after the first, in ns per
// packet.
func (a alone) round(b *testing.B, frames [][]byte, spin int) float64 {
	fill(b, a.pair, frames)
	runtime.GC() // not while it counts
	var c counter
	var after [2]time.Time // each of the two
	for i := range after {
		l, err := a.r.Lease(b.Context())
		require.NoError(b, err)
		for p := range l.Packets() {
			c.handle(p, spin)
		}
		after[i] = time.Now()
		require.EqualValues(b, (i+1)*full, c.packets)
		require.NoError(b, l.Release())
	}
	return float64(after[1].Sub(after[0])) / full
}

// spread is one Run for all rounds. Between them a packet that is a lease of its own, the gate,
// keeps it from what comes in.
type spread struct {
	pair     *lab.Pair
	r        *bpf.Reader
	counters []counter
	handled  atomic.Int64  // packets, gates too
	first    atomic.Int64  // of them, when the first buffer of the round is handled
	want     atomic.Int64  // and when the second is
	begin    time.Time     // the former
	reached  chan struct{} // the gate's packet is there
	open     chan struct{} // may be passed
	through  chan struct{} // everything is handled
	ended    chan error
}

// gate is in the second byte of that packet.
const gate = 0xff

func newSpread(b *testing.B, w lab.World, workers, spin int) *spread {
	p, r := open(b, w)
	s := &spread{
		pair: p, r: r, counters: make([]counter, workers),
		reached: make(chan struct{}), open: make(chan struct{}), through: make(chan struct{}),
		ended: make(chan error, 1),
	}
	ctx, stop := context.WithCancel(b.Context())
	go func() {
		s.ended <- fanout.Run(ctx, r, fanout.Config{Workers: workers,
			Handle: func(worker int, packets []bpf.Packet) error {
				if packets[0].Data()[1] == gate {
					s.reached <- struct{}{}
					<-s.open
					s.handled.Add(1)
					return nil
				}
				c := &s.counters[worker]
				for _, p := range packets {
					c.handle(p, spin)
				}
				switch s.handled.Add(int64(len(packets))) {
				case s.first.Load():
					s.begin = time.Now()
				case s.want.Load():
					s.through <- struct{}{}
				}
				return nil
			}})
	}()
	b.Cleanup(func() {
		stop()
		require.ErrorIs(b, <-s.ended, context.Canceled)
	})
	return s
}

// round is as alone's.
func (s *spread) round(b *testing.B, frames [][]byte) float64 {
	closed := frame(0)
	closed[1] = gate
	require.NoError(b, s.pair.Post(s.pair.A, closed))
	s.await(b, s.reached)
	fill(b, s.pair, frames)
	stats, err := s.r.Stats()
	require.NoError(b, err)
	want := int64(stats.Received - stats.Dropped)
	s.first.Store(want - full) // the gate may be in the first buffer, not in the second
	n := want - s.want.Swap(want)
	require.InDelta(b, 2*full, n, 1, "behind the gate, and the gate")
	runtime.GC()
	s.begin = time.Time{}
	s.open <- struct{}{}
	s.await(b, s.through)
	require.NotZero(b, s.begin)
	return float64(time.Since(s.begin)) / full
}

func (s *spread) await(b *testing.B, event <-chan struct{}) {
	b.Helper()
	select {
	case <-event:
	case err := <-s.ended:
		s.ended <- err
		require.NoError(b, err)
	}
}

func open(b *testing.B, w lab.World) (*lab.Pair, *bpf.Reader) {
	p := lab.NewPair(b, w)
	r, err := bpf.Open(p.A, bpf.Config{System: w, Mode: bpf.ZeroCopy, BufferSize: bufferSize,
		Immediate: true, Direction: bpf.In})
	require.NoError(b, err)
	b.Cleanup(func() { r.Close() })
	return p, r
}

func BenchmarkFanout(b *testing.B) {
	w := world(b)
	frames := make([][]byte, 2*full+1)
	for i := range frames {
		frames[i] = frame(i)
	}
	for _, d := range []time.Duration{200 * time.Nanosecond, 2 * time.Microsecond} {
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("world=%s/work=%dns/cpus=%d/workers=%d", w.Name(), d.Nanoseconds(),
				runtime.NumCPU(), workers),
				func(b *testing.B) {
					spin := spins(d)
					var alone alone
					alone.pair, alone.r = open(b, w)
					spread := newSpread(b, w, workers, spin)
					spread.round(b, frames)               // lists grow
					var alones, spreads, ratios []float64 // of each round
					for b.Loop() {
						one, n := alone.round(b, frames, spin), spread.round(b, frames)
						alones, spreads, ratios = append(alones, one), append(spreads, n), append(ratios, one/n)
					}
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(median(alones), "alone-ns/pkt")
					b.ReportMetric(median(spreads), "ns/pkt")
					b.ReportMetric(median(ratios), "speedup")
				})
		}
	}
}
