package bpftest_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// A reader follows only the protocol of the shared header, while others make requests. It finds as
// many packets as the model counts, in order and whole.
func TestProtocolUnderRace(t *testing.T) {
	lp64(t)
	packets := 200_000
	if testing.Short() {
		packets = 20_000
	}
	s := zerocopy(t, newKernel())
	var sent, stop atomic.Bool
	var others sync.WaitGroup
	others.Go(func() {
		for !stop.Load() {
			s.stat()
			s.nread()
			s.k.Stats()
		}
	})
	go func() {
		defer sent.Store(true)
		f := frame(64)
		for i := range packets {
			ne.PutUint32(f[14:], uint32(i))
			ne.PutUint32(f[60:], ^uint32(i))
			s.em0.Receive(f[:64-i%40&^3])
		}
	}()
	seen, next, lost, i := 0, 0, 0, 0
	for idle := 0; idle < 3; {
		if !s.owned(i) {
			if which, _ := s.rotate(); which < 0 && sent.Load() {
				before := s.stat().Drop
				s.em0.Receive(frame(14)) // frees what sticks
				lost += int(s.stat().Drop - before)
				idle++
			}
			continue
		}
		for _, r := range parse(t, s.lent(i)) {
			if len(r.data) == 14 {
				continue
			}
			seen++
			n := int(ne.Uint32(r.data[14:]))
			if n < next || len(r.data) == 64 && ne.Uint32(r.data[60:]) != ^uint32(n) {
				require.Fail(t, "out of order or torn", "packet %d after %d", n, next)
			}
			next = n + 1
		}
		s.acknowledge(i)
		i ^= 1
	}
	stop.Store(true)
	others.Wait()
	st := s.k.Stats()[0]
	require.EqualValues(t, packets+3, st.Fcount)
	require.EqualValues(t, packets, seen+int(st.Dcount)-lost)
}

// Everything at once, for the race detector: attach, detach, close, writers, waiters, renames.
func TestEverythingAtOnce(t *testing.T) {
	lp64(t)
	k := newKernel()
	a := k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.AlsoDLT(zbuf.DLT_RAW, 0))
	b := k.AddInterface("em1", zbuf.DLT_EN10MB)
	bpftest.Pair(a, b)
	var stop atomic.Bool
	var all sync.WaitGroup
	run := func(f func()) {
		all.Go(func() {
			for !stop.Load() {
				f()
			}
		})
	}
	var captured, cycles atomic.Int64
	for range 2 {
		run(func() {
			s := open(t, k).lend(page).attach("em0")
			go s.Wake()
			for range 20 {
				ev, err := s.Wait(true, time.Millisecond)
				require.NoError(t, err)
				captured.Add(int64(ev.Data))
				s.rotate()
				s.acknowledge(0)
				s.acknowledge(1)
			}
			s.set(zbuf.BIOCSDLT, zbuf.DLT_RAW)
			s.attach("em1")
			s.set(zbuf.BIOCIMMEDIATE, 1)
			_, err := s.Poll(in, time.Second)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			cycles.Add(1)
		})
	}
	run(func() { a.Transmit(frame(64)) })
	run(func() { b.Receive(frame(100)) })
	run(func() {
		s := buffered(t, k, page)
		_, err := s.Write(frame(64))
		require.NoError(t, err)
		s.do(zbuf.BIOCSETF, program(accept))
		require.NoError(t, s.Close())
	})
	run(func() {
		k.AddInterface("tmp0", zbuf.DLT_RAW)
		s := open(t, k)
		s.attach("tmp0")
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.RemoveInterface("tmp0")
		}()
		_, err := s.Poll(bpftest.POLLRDNORM, time.Minute)
		require.NoError(t, err)
		<-done
		require.NoError(t, s.Close())
	})
	// leaves the locks to the others now and then
	run(func() { k.Stats(); k.ResetStats(); time.Sleep(time.Millisecond) })
	// With the race detector, on a busy machine, they wait long for locks.
	assert.Eventually(t, func() bool { return cycles.Load() >= 20 && captured.Load() > 0 },
		3*time.Minute, time.Millisecond)
	stop.Store(true)
	all.Wait()
	require.GreaterOrEqual(t, cycles.Load(), int64(20))
	require.NotZero(t, captured.Load())
	require.Zero(t, k.OpenCount())
}

func TestNoAllocationPerPacket(t *testing.T) {
	for name, attach := range map[string]func(k *bpftest.Kernel) *session{
		"zero-copy": func(k *bpftest.Kernel) *session { return zerocopy(t, k) },
		"buffered":  func(k *bpftest.Kernel) *session { return buffered(t, k, page) },
	} {
		t.Run(name, func(t *testing.T) {
			s := attach(newKernel())
			s.do(zbuf.BIOCSETFNR, program(
				zbuf.Insn{Op: 0x28, K: 12}, zbuf.Insn{Op: 0x15, K: 0x88b5, Jf: 1}, accept, reject))
			s.set(zbuf.BIOCIMMEDIATE, 1)
			pkt := frame(64)
			at := time.Unix(1, 2)
			require.Zero(t, testing.AllocsPerRun(1000, func() {
				s.em0.Receive(pkt)
				s.em0.ReceiveAt(at, pkt, 1500)
			}))
			require.NotZero(t, s.stat().Recv)
		})
	}
}

func BenchmarkReceive(b *testing.B) {
	for _, mode := range []string{"zero-copy", "buffered"} {
		for _, size := range []int{64, 1500} {
			b.Run(mode+"/"+map[int]string{64: "64", 1500: "1500"}[size], func(b *testing.B) {
				k := newKernel()
				s := open(b, k)
				if mode == "zero-copy" {
					s.lend(512 << 10)
				} else {
					s.set(zbuf.BIOCSBLEN, 512<<10)
				}
				s.attach("em0")
				p := make([]byte, s.get(zbuf.BIOCGBLEN))
				pkt := frame(size)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					s.em0.Receive(pkt)
					if mode == "zero-copy" {
						if s.owned(0) {
							s.acknowledge(0)
						}
						if s.owned(1) {
							s.acknowledge(1)
						}
					} else if s.nread() > 512<<10 {
						s.Read(p)
					}
				}
				require.Zero(b, s.stat().Drop)
			})
		}
	}
}
