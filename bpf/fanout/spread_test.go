package fanout

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
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

// When the lists have the size of the longest lease, Run allocates nothing for packets or leases.
func TestSpreadingAllocatesNothing(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
			r, err := bpf.Open("em0", bpf.Config{System: k, Mode: mode, BufferSize: 64 << 10,
				ReadTimeout: bpf.NoTimeout})
			require.NoError(t, err)
			defer r.Close()
			frames := make([][]byte, 64)
			for i := range frames {
				frames[i] = make([]byte, 64)
				binary.BigEndian.PutUint16(frames[i][12:], etherIPv4)
				frames[i][14], frames[i][14+9], frames[i][14+15] = 0x45, protoUDP, byte(i)
			}
			fill := func(n int) {
				for i := range n {
					em0.Receive(frames[i%len(frames)])
				}
			}
			var handled atomic.Int64
			s, err := newSpreader(zbuf.DLT_EN10MB, Config{
				Workers: 3,
				Handle: func(_ int, packets []bpf.Packet) error {
					handled.Add(int64(len(packets)))
					return nil
				}})
			require.NoError(t, err)
			defer s.stop()
			ctx := context.Background()
			fill(2000) // both buffers are owned
			before := handled.Load()
			leases := 0
			allocs := testing.AllocsPerRun(200, func() {
				l, err := r.Lease(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.spread(l); err != nil {
					t.Fatal(err)
				}
				fill(720)
				leases++
			})
			assert.Zero(t, allocs)
			assert.Greater(t, handled.Load()-before, int64(leases*600))
		})
	}
}

// A list that was left behind would point into memory that the kernel has, or that is unmapped.
func TestListsAreEmptyAfterALease(t *testing.T) {
	errBroken := errors.New("broken")
	for name, c := range map[string]Config{
		"all went well": {Handle: func(int, []bpf.Packet) error { return nil }},
		"an error": {Handle: func(i int, _ []bpf.Packet) error {
			return []error{nil, errBroken, nil}[i]
		}},
		"a panic": {Handle: func(i int, _ []bpf.Packet) error { return []error{nil, errBroken}[i] }},
		"a hash's panic": {
			Hash:   func(_ uint32, p []byte) uint32 { return []uint32{0, 1, 2, 0, 1, 2, 0, 1}[p[14+15]] },
			Handle: func(int, []bpf.Packet) error { return nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := leased(t, 1000, 10)
			c.Workers = 3
			s, err := newSpreader(zbuf.DLT_EN10MB, c)
			require.NoError(t, err)
			defer s.stop()
			l, err := r.Lease(t.Context())
			require.NoError(t, err)
			func() {
				defer func() { recover() }()
				s.spread(l)
			}()
			require.Equal(t, 4, s.listed)
			for i := range s.chunks[:4] {
				assert.Equal(t, [chunkSize]bpf.Packet{}, *s.chunks[i].packets, "chunk %d", i)
			}
			for _, w := range s.workers {
				assert.Equal(t, [chunkSize]bpf.Packet{}, w.scratch, "worker %d", w.number)
			}
		})
	}
}

// leased returns a reader whose next lease has so many packets. Their flows differ in byte 29.
func leased(t testing.TB, packets, flows int) *bpf.Reader {
	t.Helper()
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k, Mode: bpf.ZeroCopy, ReadTimeout: bpf.NoTimeout})
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	for i := range packets {
		p := make([]byte, 64)
		binary.BigEndian.PutUint16(p[12:], etherIPv4)
		p[14], p[14+9], p[14+15] = 0x45, protoUDP, byte(i%flows)
		em0.Receive(p)
	}
	return r
}

// receive returns a value that is there already, or is sent before it sleeps or while it sleeps.
func TestReceive(t *testing.T) {
	for name, c := range map[string]struct {
		polls int
		send  func(c chan struct{})
		want  bool
	}{
		"there": {0, func(c chan struct{}) { c <- struct{}{} }, true},
		"sent while it looks": {math.MaxInt, func(c chan struct{}) { go func() { c <- struct{}{} }() },
			true},
		"sent while it sleeps": {0, func(c chan struct{}) {
			time.AfterFunc(time.Second, func() { c <- struct{}{} })
		}, true},
		"sent after it looked": {100, func(c chan struct{}) {
			time.AfterFunc(time.Second, func() { c <- struct{}{} })
		}, true},
		"closed":               {0, func(c chan struct{}) { close(c) }, false},
		"closed while looking": {math.MaxInt, func(c chan struct{}) { go close(c) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ch := make(chan struct{}, 1)
				c.send(ch)
				assert.Equal(t, c.want, receive(ch, c.polls))
				assert.Empty(t, ch)
			})
		})
	}
}

// A worker that has no packets in a lease of one chunk sleeps on.
func TestOnlyThoseWithWorkAreWoken(t *testing.T) {
	for name, c := range map[string]struct {
		packets int
		to      []uint32 // in turn
		woken   []int
	}{
		"one packet":                      {1, []uint32{0}, nil},
		"a chunk of one worker":           {chunkSize, []uint32{1}, nil},
		"a chunk of two":                  {chunkSize, []uint32{1, 2}, []int{1}},
		"a chunk of two, the last too":    {20, []uint32{3, 0}, []int{0}},
		"a chunk of all":                  {chunkSize, []uint32{0, 1, 2, 3}, []int{0, 1, 2}},
		"more than a chunk, to be sorted": {chunkSize + 1, []uint32{1}, []int{0, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := leased(t, c.packets, len(c.to))
				var handled atomic.Int64
				s, err := newSpreader(zbuf.DLT_EN10MB, Config{
					Workers: 4,
					Hash:    func(_ uint32, p []byte) uint32 { return c.to[p[14+15]] },
					Handle: func(_ int, packets []bpf.Packet) error {
						handled.Add(int64(len(packets)))
						return nil
					},
				})
				require.NoError(t, err)
				s.stop() // the test does what the goroutines did
				for _, w := range s.workers {
					w.wake = make(chan struct{}, 1)
				}
				l, err := r.Lease(t.Context())
				require.NoError(t, err)
				ended := make(chan error)
				go func() { ended <- s.spread(l) }()
				synctest.Wait()
				var woken []int
				for i, w := range s.workers {
					if len(w.wake) > 0 {
						woken = append(woken, i)
						<-w.wake
						go s.work(w)
					}
				}
				require.NoError(t, <-ended)
				assert.Equal(t, c.woken, woken)
				assert.EqualValues(t, c.packets, handled.Load())
			})
		})
	}
}

// BenchmarkSort measures what one goroutine does for a lease of one chunk before it is handled.
func BenchmarkSort(b *testing.B) {
	r := leased(b, chunkSize, 64)
	l, err := r.Lease(b.Context())
	require.NoError(b, err)
	defer l.Release()
	for _, workers := range []int{1, 2, 3, 16} {
		for name, hash := range map[string]func(uint32, []byte) uint32{
			"default": nil, "FlowHash": FlowHash,
		} {
			b.Run(fmt.Sprintf("workers=%d/hash=%s", workers, name), func(b *testing.B) {
				s, err := newSpreader(zbuf.DLT_EN10MB, Config{Workers: workers, Hash: hash,
					Handle: func(int, []bpf.Packet) error { return nil }})
				require.NoError(b, err)
				defer s.stop()
				b.ReportAllocs()
				for b.Loop() {
					s.begin(l)
					if s.walk(l) != 1 {
						b.Fatal("not one chunk")
					}
					s.claimed = 1
					s.sort(s.workers[0], 0)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*chunkSize), "ns/pkt")
			})
		}
	}
}
