package fanout

import (
	"encoding/binary"
	"errors"
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
	count      = 2 * ((bufferSize - 32) / record)
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

// spins returns how often Spin goes round in d.
func spins(d time.Duration) int {
	const n = 100_000
	best := time.Hour
	for range 9 {
		begin := time.Now()
		contestant.Spin(n)
		best = min(best, time.Since(begin))
	}
	return int(n * d / best)
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

var errAll = errors.New("all handled")

// counter is one worker's count, on a cache line of its own.
type counter struct {
	packets, sum uint64
	_            [112]byte
}

func (c *counter) handle(p bpf.Packet, spin int) {
	c.packets++
	c.sum += uint64(p.Data()[0]) + contestant.Spin(spin)
}

func BenchmarkFanout(b *testing.B) {
	w := world(b)
	frames := make([][]byte, count+1)
	for i := range frames {
		frames[i] = frame(i)
	}
	for _, work := range []time.Duration{200 * time.Nanosecond, 2 * time.Microsecond} {
		spin := spins(work)
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("world=%s/work=%dns/cpus=%d/workers=%d", w.Name(), work.Nanoseconds(), runtime.NumCPU(), workers), func(b *testing.B) {
				p := lab.NewPair(b, w)
				r, err := bpf.Open(p.A, bpf.Config{System: w, Mode: bpf.ZeroCopy, BufferSize: bufferSize, ReadTimeout: 10 * time.Millisecond, Direction: bpf.In})
				require.NoError(b, err)
				defer r.Close()
				alone := func() uint64 {
					var c counter
					for c.packets < count {
						l, err := r.Lease(b.Context())
						require.NoError(b, err)
						for p := range l.Packets() {
							c.handle(p, spin)
						}
						require.NoError(b, l.Release())
					}
					return c.packets
				}
				spread := func() uint64 {
					counters := make([]counter, workers)
					var handled atomic.Int64
					err := fanout.Run(b.Context(), r, fanout.Config{Workers: workers, Handle: func(worker int, packets []bpf.Packet) error {
						c := &counters[worker]
						for _, p := range packets {
							c.handle(p, spin)
						}
						if handled.Add(int64(len(packets))) >= count {
							return errAll
						}
						return nil
					}})
					require.ErrorIs(b, err, errAll)
					var n uint64
					for i := range counters {
						n += counters[i].packets
					}
					return n
				}
				var alones, spreads, ratios []float64 // of each round
				for b.Loop() {
					var took [2]float64
					for i, f := range []func() uint64{alone, spread} {
						fill(b, p, frames)
						runtime.GC() // not while it counts
						begin := time.Now()
						n := f()
						took[i] = float64(time.Since(begin))
						require.EqualValues(b, count, n)
					}
					alones, spreads = append(alones, took[0]/count), append(spreads, took[1]/count)
					ratios = append(ratios, took[0]/took[1])
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(alones), "alone-ns/pkt")
				b.ReportMetric(median(spreads), "ns/pkt")
				b.ReportMetric(median(ratios), "speedup")
			})
		}
	}
}
