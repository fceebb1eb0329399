package fanout_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/bpf/fanout"
)

// frame returns a UDP packet of a conversation, in one direction or the other, with a number in it.
func frame(flow uint16, back bool, number uint32) []byte {
	p := make([]byte, 64)
	binary.BigEndian.PutUint16(p[12:], 0x0800)
	ip := p[14:]
	ip[0], ip[9] = 0x45, 17
	ends := [2][]byte{{10, 0, byte(flow >> 8), 1}, {192, 0, 2, byte(flow)}}
	ports := [2]uint16{1024 + flow, 53}
	src, dst := 0, 1
	if back {
		src, dst = 1, 0
	}
	copy(ip[12:], ends[src])
	copy(ip[16:], ends[dst])
	binary.BigEndian.PutUint16(ip[20:], ports[src])
	binary.BigEndian.PutUint16(ip[22:], ports[dst])
	binary.BigEndian.PutUint32(ip[28:], number)
	return p
}

// parse is the inverse of frame.
func parse(p []byte) (flow uint16, number uint32) {
	ip := p[14:]
	port := max(binary.BigEndian.Uint16(ip[20:]), binary.BigEndian.Uint16(ip[22:]))
	return port - 1024, binary.BigEndian.Uint32(ip[28:])
}

func byFlow(_ uint32, p []byte) uint32 {
	flow, _ := parse(p)
	return uint32(flow)
}

// capture is a reader on an interface of the model.
type capture struct {
	k   *bpftest.Kernel
	em0 *bpftest.Interface
	r   *bpf.Reader
}

func newCapture(t testing.TB, cfg bpf.Config) *capture {
	t.Helper()
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	w := &capture{k: k, em0: k.AddInterface("em0", zbuf.DLT_EN10MB)}
	cfg.System = k
	r, err := bpf.Open("em0", cfg)
	require.NoError(t, err)
	w.r = r
	t.Cleanup(func() { r.Close() })
	return w
}

// released checks that no lease is out.
func (w *capture) released(t testing.TB) {
	t.Helper()
	w.r.SetReadDeadline(time.Now().Add(-time.Second))
	for {
		l, err := w.r.Lease(t.Context())
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
		require.NoError(t, l.Release())
	}
	w.r.SetReadDeadline(time.Time{})
}

// modes runs f in both buffer modes, each in a synctest bubble. There time passes only while all
// goroutines wait. The bubble ends when all goroutines have ended.
func modes(t *testing.T, f func(t *testing.T, cfg bpf.Config)) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, bpf.Config{Mode: mode}) })
		})
	}
}

// ledger checks that workers get each packet once, and a conversation at one worker, in order.
type ledger struct {
	worker map[uint16]int    // of each flow, by worker
	last   map[uint16]uint32 // number
	count  int
}

func newLedgers(n int) []ledger {
	ls := make([]ledger, n)
	for i := range ls {
		ls[i] = ledger{map[uint16]int{}, map[uint16]uint32{}, 0}
	}
	return ls
}

func (l *ledger) note(t *testing.T, p bpf.Packet) {
	flow, number := parse(p.Data())
	if last, known := l.last[flow]; known {
		assert.Greater(t, number, last, "flow %d out of order", flow)
	}
	l.last[flow] = number
	l.worker[flow]++
	l.count++
}

func check(t *testing.T, ledgers []ledger, flows, packets int) {
	t.Helper()
	at := map[uint16]int{}
	total, busy := 0, 0
	for i, l := range ledgers {
		total += l.count
		if l.count > 0 {
			busy++
		}
		for flow := range l.worker {
			other, twice := at[flow]
			assert.False(t, twice, "flow %d at workers %d and %d", flow, other, i)
			at[flow] = i
		}
	}
	assert.Len(t, at, flows)
	assert.Equal(t, packets, total)
	assert.Equal(t, len(ledgers), busy, "workers that had something")
}

var errEnough = errors.New("enough")

// A packet is handled once and in order, no matter which worker sorts it and how long the lease is.
func TestEachPacketOnceAndFlowsInOrder(t *testing.T) {
	// Chunks are sorted in another order than they were claimed in.
	slow := func(linkType uint32, p []byte) uint32 {
		if _, number := parse(p); number%100 == 0 {
			runtime.Gosched()
		}
		return fanout.FlowHash(linkType, p)
	}
	for _, workers := range []int{1, 2, 3, 8} {
		for name, hash := range map[string]func(uint32, []byte) uint32{"FlowHash": nil, "slow": slow} {
			for _, size := range []int{8192, 128 << 10} {
				t.Run(fmt.Sprintf("workers=%d/hash=%s/buffer=%d", workers, name, size), func(t *testing.T) {
					modes(t, func(t *testing.T, cfg bpf.Config) {
						cfg.BufferSize = size
						w := newCapture(t, cfg)
						const flows, count = 97, 4000
						go func() {
							for i := range uint32(count) {
								// Numbers stay below the modulus of no flow, and both ways alternate.
								p := bpftest.Packet{Data: frame(uint16(i*31%flows), i%3 == 0, i)}
								if !assert.NoError(t, w.em0.InjectWait(t.Context(), p)) {
									return
								}
							}
						}()
						ledgers := newLedgers(workers)
						busy := make([]atomic.Bool, workers)
						var seen atomic.Int64
						err := fanout.Run(t.Context(), w.r, fanout.Config{
							Workers: workers, Hash: hash,
							Handle: func(i int, packets []bpf.Packet) error {
								assert.False(t, busy[i].Swap(true), "worker %d is called while it is at work", i)
								for _, p := range packets {
									ledgers[i].note(t, p)
								}
								busy[i].Store(false)
								if seen.Add(int64(len(packets))) == count {
									return errEnough
								}
								return nil
							}})
						require.ErrorIs(t, err, errEnough)
						check(t, ledgers, flows, count)
						w.released(t)
						s, err := w.r.Stats()
						require.NoError(t, err)
						assert.EqualValues(t, count, s.Packets)
						assert.Zero(t, s.Dropped)
					})
				})
			}
		}
	}
}

// The same outside of a bubble. There the race detector sees every store of the kernel into a
// buffer that a worker still reads.
func TestNothingIsWrittenWhereAWorkerReads(t *testing.T) {
	w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10, ReadTimeout: 5 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil { // no waiting for room: some of them are dropped
			w.em0.Receive(frame(uint16(n%50), n%2 == 0, uint32(n)))
			n++
		}
		sent <- n
	}()
	ledgers := newLedgers(3)
	var seen atomic.Int64
	err := fanout.Run(ctx, w.r, fanout.Config{
		Workers: 3,
		Handle: func(i int, packets []bpf.Packet) error {
			for _, p := range packets {
				ledgers[i].note(t, p)
			}
			if seen.Add(int64(len(packets))) > 20_000 {
				stop()
			}
			return nil
		}})
	require.ErrorIs(t, err, context.Canceled)
	n := <-sent
	s, err := w.r.Stats()
	require.NoError(t, err)
	assert.EqualValues(t, n, s.Received)
	assert.LessOrEqual(t, seen.Load()+int64(s.Dropped), int64(n))
	check(t, ledgers, 50, int(seen.Load()))
}

// Run releases the lease when the last worker is done, and not before.
func TestReleaseWhenAllAreDone(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		cfg.BufferSize = 64 << 10
		w := newCapture(t, cfg)
		fill := func() {
			for i := range uint32(1000) { // more than a buffer, less than two
				w.em0.Receive(frame(uint16(i%3), false, i))
			}
		}
		for slow := range 3 {
			fill()
			proceed := make(chan struct{})
			done := make([]atomic.Bool, 3)
			ended := make(chan error)
			go func() {
				ended <- fanout.Run(t.Context(), w.r, fanout.Config{
					Workers: 3, Hash: byFlow,
					Handle: func(worker int, packets []bpf.Packet) error {
						if worker == slow {
							<-proceed
						}
						for _, p := range packets {
							flow, _ := parse(p.Data())
							assert.EqualValues(t, worker, flow)
						}
						done[worker].Store(true)
						return errEnough
					}})
			}()
			synctest.Wait()
			for other := range done {
				assert.Equal(t, other != slow, done[other].Load(), "worker %d, while %d is slow", other, slow)
			}
			_, err := w.r.Lease(t.Context())
			require.ErrorIs(t, err, bpf.ErrLeaseOut)
			fill() // the other buffer; this one must not change
			close(proceed)
			require.ErrorIs(t, <-ended, errEnough)
			w.released(t)
		}
	})
}

// A chunk that takes long to sort delays neither the sorting of other chunks nor the handling of
// earlier ones.
func TestSlowSorterDoesNotStopTheOthers(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		const chunk, count, slow = 256, 2000, 300 // a packet of the second chunk
		w := newCapture(t, cfg)
		for i := range uint32(count) {
			w.em0.Receive(frame(uint16(i%50), false, i))
		}
		proceed := make(chan struct{})
		var hashed, seen atomic.Int64
		ledgers := newLedgers(3)
		ended := make(chan error)
		go func() {
			ended <- fanout.Run(t.Context(), w.r, fanout.Config{
				Workers: 3,
				Hash: func(_ uint32, p []byte) uint32 {
					hashed.Add(1)
					flow, number := parse(p)
					if number == slow {
						<-proceed
					}
					return uint32(flow)
				},
				Handle: func(i int, packets []bpf.Packet) error {
					for _, p := range packets {
						ledgers[i].note(t, p)
					}
					if seen.Add(int64(len(packets))) == count {
						return errEnough
					}
					return nil
				},
			})
		}()
		time.Sleep(time.Second) // the read timeout
		synctest.Wait()
		assert.EqualValues(t, count-(2*chunk-1-slow), hashed.Load(), "all but the rest of that chunk")
		assert.LessOrEqual(t, seen.Load(), int64(chunk), "what is behind has to wait")
		assert.Greater(t, seen.Load(), int64(chunk/2), "two of three workers have nothing to do but their part of the first chunk")
		close(proceed)
		require.ErrorIs(t, <-ended, errEnough)
		check(t, ledgers, 50, count)
		w.released(t)
	})
}

// After Close in the middle of a lease, the workers finish with memory that is still mapped. Then
// Run ends, and no goroutine is left.
func TestCloseInTheMiddle(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		w := newCapture(t, cfg)
		for i := range uint32(40) {
			w.em0.Receive(frame(uint16(i%4), false, i))
		}
		proceed := make(chan struct{})
		ended := make(chan error)
		var seen atomic.Int64
		go func() {
			ended <- fanout.Run(t.Context(), w.r, fanout.Config{
				Workers: 4, Hash: byFlow,
				Handle: func(worker int, packets []bpf.Packet) error {
					<-proceed
					for _, p := range packets {
						flow, _ := parse(p.Data())
						assert.EqualValues(t, worker, flow)
						seen.Add(1)
					}
					return nil
				}})
		}()
		time.Sleep(time.Second) // the read timeout, and then every worker has its share
		synctest.Wait()
		require.NoError(t, w.r.Close())
		if cfg.Mode == bpf.ZeroCopy {
			assert.NotZero(t, w.k.MappedBytes(), "the memory goes with the lease")
		}
		close(proceed)
		require.ErrorIs(t, <-ended, os.ErrClosed)
		assert.EqualValues(t, 40, seen.Load())
		assert.Zero(t, w.k.MappedBytes())
		assert.Zero(t, w.k.OpenCount())
	})
}

func TestInterfaceGoneComesAfterThePackets(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		w := newCapture(t, cfg)
		for i := range uint32(40) {
			w.em0.Receive(frame(uint16(i%4), false, i))
		}
		w.em0.Remove()
		var seen atomic.Int64
		err := fanout.Run(t.Context(), w.r, fanout.Config{
			Workers: 4,
			Handle: func(_ int, packets []bpf.Packet) error {
				seen.Add(int64(len(packets)))
				return nil
			}})
		require.ErrorIs(t, err, bpf.ErrInterfaceGone)
		assert.EqualValues(t, 40, seen.Load())
	})
}

// After ctx is done, the workers handle what was captured. Then Run ends, even if more packets
// arrive.
func TestDoneContextEndsRunUnderOverload(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		cfg.BufferSize = 8192
		w := newCapture(t, cfg)
		ctx, cancel := context.WithCancelCause(t.Context())
		overload := func() {
			for i := range uint32(500) {
				w.em0.Receive(frame(uint16(i%5), false, i))
			}
		}
		overload()
		calls := 0
		err := fanout.Run(ctx, w.r, fanout.Config{Workers: 1, Handle: func(int, []bpf.Packet) error {
			calls++
			if calls == 5 {
				cancel(errEnough)
			}
			overload()
			return nil
		}})
		require.ErrorIs(t, err, errEnough)
		assert.Greater(t, calls, 5, "what was captured before")
		assert.LessOrEqual(t, calls, 5+4)
		w.released(t)
	})
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newCapture(t, bpf.Config{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := fanout.Run(ctx, w.r, fanout.Config{Workers: 2, Handle: func(int, []bpf.Packet) error { return nil }})
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	})
}

// Run ends at a read deadline, and may be called again.
func TestRunGoesOnAfterADeadline(t *testing.T) {
	modes(t, func(t *testing.T, cfg bpf.Config) {
		w := newCapture(t, cfg)
		ledgers := newLedgers(2)
		for round := range uint32(3) {
			for i := range uint32(100) {
				w.em0.Receive(frame(uint16(i%10), false, round*100+i))
			}
			w.r.SetReadDeadline(time.Now().Add(time.Second))
			err := fanout.Run(t.Context(), w.r, fanout.Config{
				Workers: 2,
				Handle: func(i int, packets []bpf.Packet) error {
					for _, p := range packets {
						ledgers[i].note(t, p)
					}
					return nil
				}})
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		check(t, ledgers, 10, 300)
	})
}

// A worker may fail in any way, with its first packets or with later ones. Run does not call it
// again. The others handle their packets, Run releases the lease, and its caller gets the error.
func TestFailingWorkers(t *testing.T) {
	errBroken := errors.New("broken")
	for _, failing := range []int{0, 1, 2} { // Run does 2 itself
		for how, fail := range map[string]func() error{
			"error":  func() error { return errBroken },
			"panic":  func() error { panic(errBroken) },
			"goexit": func() error { runtime.Goexit(); return nil },
		} {
			for _, lease := range []struct{ packets, at int }{{30, 0}, {3000, 0}, {3000, 900}, {3000, 2997}} {
				t.Run(fmt.Sprintf("worker=%d/%s/packets=%d/at=%d", failing, how, lease.packets, lease.at), func(t *testing.T) {
					modes(t, func(t *testing.T, cfg bpf.Config) {
						w := newCapture(t, cfg)
						for i := range uint32(lease.packets) {
							w.em0.Receive(frame(uint16(i%3), false, i))
						}
						var seen atomic.Int64
						var err error
						var recovered any
						returned := false
						ended, fails := make(chan struct{}), make(chan struct{})
						go func() {
							defer close(ended)
							defer func() { recovered = recover() }()
							err = fanout.Run(t.Context(), w.r, fanout.Config{
								Workers: 3, Hash: byFlow,
								Handle: func(i int, packets []bpf.Packet) error {
									if i == failing {
										for _, p := range packets {
											if _, number := parse(p.Data()); int(number) >= lease.at {
												close(fails) // a second time would be a panic
												return fail()
											}
										}
										return nil
									}
									<-fails
									seen.Add(int64(len(packets)))
									return nil
								}})
							returned = true
						}()
						<-ended
						assert.EqualValues(t, lease.packets/3*2, seen.Load(), "the others' packets")
						switch how {
						case "error":
							assert.ErrorIs(t, err, errBroken)
						case "panic":
							require.IsType(t, &fanout.PanicError{}, recovered)
							p := recovered.(*fanout.PanicError)
							assert.Equal(t, failing, p.Worker)
							assert.ErrorIs(t, p, errBroken)
							assert.Contains(t, p.Error(), "TestFailingWorkers")
						case "goexit":
							if failing == 2 {
								assert.False(t, returned, "the goroutine that called Run has ended, as Handle wanted")
							} else {
								assert.ErrorContains(t, err, "Goexit")
							}
						}
						w.released(t)
						s, err := w.r.Stats()
						require.NoError(t, err)
						assert.EqualValues(t, lease.packets, s.Packets)
					})
				})
			}
		}
	}
}

// No worker waits for a chunk that can't be sorted. The workers handle the chunks before it, Run
// releases the lease, and its caller gets the error.
func TestFailingHash(t *testing.T) {
	errBroken := errors.New("broken")
	const chunk = 256
	for how, fail := range map[string]func(){
		"panic":  func() { panic(errBroken) },
		"goexit": func() { runtime.Goexit() },
	} {
		for _, lease := range []struct{ packets, at int }{{1, 0}, {30, 29}, {2000, 0}, {2000, 400}, {2000, 1999}} {
			t.Run(fmt.Sprintf("%s/packets=%d/at=%d", how, lease.packets, lease.at), func(t *testing.T) {
				modes(t, func(t *testing.T, cfg bpf.Config) {
					w := newCapture(t, cfg)
					for i := range uint32(lease.packets) {
						w.em0.Receive(frame(uint16(i%3), false, i))
					}
					var err error
					var recovered any
					returned := false
					ended := make(chan struct{})
					ledgers := newLedgers(3)
					go func() {
						defer close(ended)
						defer func() { recovered = recover() }()
						err = fanout.Run(t.Context(), w.r, fanout.Config{
							Workers: 3,
							Hash: func(_ uint32, p []byte) uint32 {
								flow, number := parse(p)
								if int(number) == lease.at {
									fail()
								}
								return uint32(flow)
							},
							Handle: func(i int, packets []bpf.Packet) error {
								for _, p := range packets {
									ledgers[i].note(t, p)
								}
								return nil
							},
						})
						returned = true
					}()
					<-ended
					seen := 0
					for _, l := range ledgers {
						seen += l.count
					}
					before := lease.at / chunk * chunk
					switch how {
					case "panic":
						require.IsType(t, &fanout.PanicError{}, recovered)
						p := recovered.(*fanout.PanicError)
						assert.Equal(t, -1, p.Worker)
						assert.ErrorIs(t, p, errBroken)
						assert.Contains(t, p.Error(), "TestFailingHash")
						assert.Equal(t, before, seen, "the packets of the chunks before")
					case "goexit":
						if returned { // it was not the goroutine that called Run
							assert.ErrorContains(t, err, "Goexit")
						}
						assert.LessOrEqual(t, seen, before)
						assert.GreaterOrEqual(t, seen, before/3*2-2, "the other workers' packets of the chunks before")
					}
					w.released(t)
				})
			})
		}
	}
}

// A slice that a worker keeps has empty packets afterwards. It does not show memory that the kernel
// fills.
func TestListOfPacketsIsEmptiedBehindTheWorker(t *testing.T) {
	w := newCapture(t, bpf.Config{})
	w.em0.Receive(frame(1, false, 1))
	var kept []bpf.Packet
	err := fanout.Run(t.Context(), w.r, fanout.Config{
		Workers: 1,
		Handle: func(_ int, packets []bpf.Packet) error {
			kept = packets
			return errEnough
		}})
	require.ErrorIs(t, err, errEnough)
	require.Len(t, kept, 1)
	assert.Equal(t, bpf.Packet{}, kept[0])
	assert.Empty(t, kept[0].Data())
}

// memory is a kernel that tells which memory a reader has lent it.
type memory struct {
	zbuf.System
	mapped [][]byte
}

func (m *memory) Open() (zbuf.Backend, error) {
	b, err := m.System.Open()
	return &mapping{b, m}, err
}

type mapping struct {
	zbuf.Backend
	m *memory
}

func (b *mapping) Map(size int) ([]byte, error) {
	mem, err := b.Backend.Map(size)
	b.m.mapped = append(b.m.mapped, mem)
	return mem, err
}

// The workers handle the packets before the bad one, no matter in which chunk it is. The next Run
// handles the next buffer.
func TestCorruptBuffer(t *testing.T) {
	for _, c := range []struct{ packets, bad int }{{4, 0}, {4, 2}, {1000, 255}, {1000, 256}, {1000, 700}} {
		t.Run(fmt.Sprintf("packets=%d/bad=%d", c.packets, c.bad), func(t *testing.T) {
			k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
			m := &memory{System: k}
			r, err := bpf.Open("em0", bpf.Config{Mode: bpf.ZeroCopy, System: m})
			require.NoError(t, err)
			defer r.Close()
			for i := range uint32(c.packets) {
				em0.Receive(frame(uint16(i%50), false, i))
			}
			const record = (26 + 64 + zbuf.Alignment - 1) &^ (zbuf.Alignment - 1)
			at := zbuf.SizeofZbufHeader + c.bad*record
			bad := 0
			for _, mem := range m.mapped {
				if mem[at+16] == 64 { // bh_caplen
					binary.NativeEndian.PutUint16(mem[at+24:], 3) // bh_hdrlen
					bad++
				}
			}
			require.Equal(t, 1, bad, "one store buffer")
			var seen atomic.Int64
			cfg := fanout.Config{Workers: 2, Handle: func(_ int, packets []bpf.Packet) error {
				seen.Add(int64(len(packets)))
				return nil
			}}
			err = fanout.Run(t.Context(), r, cfg)
			require.ErrorIs(t, err, bpf.ErrCorrupt)
			assert.EqualValues(t, c.bad, seen.Load(), "the packets before it")

			em0.Receive(frame(9, false, 9))
			r.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			require.ErrorIs(t, fanout.Run(t.Context(), r, cfg), os.ErrDeadlineExceeded)
			assert.EqualValues(t, c.bad+1, seen.Load(), "it goes on with the next buffer")
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	w := newCapture(t, bpf.Config{})
	handle := func(int, []bpf.Packet) error { return nil }
	require.ErrorIs(t, fanout.Run(t.Context(), w.r, fanout.Config{Workers: -1, Handle: handle}), fanout.ErrConfig)
	require.ErrorIs(t, fanout.Run(t.Context(), w.r, fanout.Config{Workers: 1}), fanout.ErrConfig)
}

func TestWorkersDefaultToTheProcessors(t *testing.T) {
	w := newCapture(t, bpf.Config{})
	for i := range uint32(2000) {
		w.em0.Receive(frame(uint16(i), false, i))
	}
	busy := make([]atomic.Int64, runtime.GOMAXPROCS(0))
	err := fanout.Run(t.Context(), w.r, fanout.Config{Handle: func(i int, packets []bpf.Packet) error {
		busy[i].Add(int64(len(packets)))
		return errEnough
	}})
	require.ErrorIs(t, err, errEnough)
	for i := range busy {
		assert.NotZero(t, busy[i].Load(), "worker %d", i)
	}
}
