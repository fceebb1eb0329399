package bpf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// onKernel runs f on the running kernel, in each buffer mode that it has.
func onKernel(t *testing.T, f func(t *testing.T, w lab.World, mode bpf.Mode)) {
	lab.InModes(t, bpf.ZeroCopy, bpf.Buffered, f)
}

func openOn(t *testing.T, p *lab.Pair, cfg bpf.Config) *bpf.Reader {
	t.Helper()
	cfg.Guard = cfg.Guard || os.Getenv("ZBUF_GUARD") != "" // the suite runs with it, too
	r, err := bpf.Open(p.A, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func TestKernelStreamIsComplete(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for _, size := range []int{4096, 64 << 10, 2 << 20} {
			t.Run(fmt.Sprintf("%dK", size>>10), func(t *testing.T) {
				p := lab.NewPair(t, w)
				r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: size, ReadTimeout: 20 * time.Millisecond})
				got, _ := r.Mode()
				require.Equal(t, mode, got)
				count := uint32(2000)
				if size == 4096 {
					count = 100 // two packets go ahead, then a timeout
				}
				var sent sync.WaitGroup
				defer sent.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), 3*lab.Patience)
				defer cancel()
				var room atomic.Int64 // how far the writer may go ahead, so that nothing is dropped
				room.Store(int64(r.BufferSize()) / 1600)
				start := time.Now()
				sent.Go(func() {
					for i := range count {
						for int64(i) >= room.Load() && ctx.Err() == nil {
							runtime.Gosched()
						}
						if !assert.NoError(t, p.Post(p.A, numbered(i, 64+int(i%1400)))) {
							return
						}
					}
				})
				for next := uint32(0); next < count; {
					l, err := r.Lease(ctx)
					require.NoError(t, err)
					for pkt := range l.Packets() {
						require.Equal(t, numbered(next, 64+int(next%1400)), pkt.Data(), "packet %d", next)
						require.Equal(t, len(pkt.Data()), pkt.WireLen())
						require.WithinDuration(t, start, pkt.Time(), time.Since(start)+time.Second)
						next++
					}
					require.NoError(t, l.Err())
					require.NoError(t, l.Release())
					room.Store(int64(next) + int64(r.BufferSize())/1600)
				}
				s, err := r.Stats()
				require.NoError(t, err)
				assert.EqualValues(t, count, s.Packets)
				assert.Zero(t, s.Dropped)
			})
		}
	})
}

func TestKernelStuckTail(t *testing.T) {
	const timeout = 50 * time.Millisecond
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for _, overload := range []bool{false, true} {
			t.Run(fmt.Sprintf("overload=%v", overload), func(t *testing.T) {
				p := lab.NewPair(t, w)
				lag := lab.WatchLag(t)
				r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: timeout})
				frame := func(n uint32) []byte { return numbered(n, 128) }
				fill := 500
				if overload {
					fill = 1500
				}
				for i := range fill {
					require.NoError(t, p.Post(p.A, frame(uint32(i))))
				}
				p.Settle(t)
				l, err := r.Lease(t.Context())
				require.NoError(t, err)
				if !overload {
					p.Inject(t, frame(1<<20)) // while the lease is out
				}
				require.NoError(t, l.Release())
				drain := func() (last uint32) {
					for {
						r.SetReadDeadline(time.Now().Add(lag.Allow(timeout)))
						l, err := r.Lease(t.Context())
						if errors.Is(err, os.ErrDeadlineExceeded) {
							return last
						}
						require.NoError(t, err)
						for pkt := range l.Packets() {
							last = number(t, pkt.Data())
						}
						require.NoError(t, l.Release())
					}
				}
				last := drain()
				if overload {
					p.Inject(t, frame(1<<20)) // frees the older buffer and sticks in it
					last = drain()
				}
				assert.EqualValues(t, 1<<20, last)
				if s, _ := r.Stats(); mode == bpf.ZeroCopy {
					assert.NotZero(t, s.ReadInPlace)
				}
				p.Inject(t, frame(1<<21))
				r.SetReadDeadline(time.Time{})
				data, _, err := r.ReadPacket(t.Context())
				require.NoError(t, err)
				assert.EqualValues(t, 1<<21, number(t, data), "what was read in place does not come again")
			})
		}
	})
}

func TestKernelIdleReaderSleeps(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for _, immediate := range []bool{false, true} {
			for _, left := range []string{"nothing", "a tail", "two full buffers"} {
				// The kernel may wake every reader when an interface comes or goes, so none does until all
				// have slept.
				p := lab.NewPair(t, w)
				t.Run(fmt.Sprintf("immediate=%v/left=%s", immediate, left), func(t *testing.T) {
					t.Parallel() // they do nothing but wait
					r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10,
						ReadTimeout: 10 * time.Millisecond, Immediate: immediate})
					leave(t, r, left, func(i uint32) { p.Inject(t, numbered(i, 128)) })
					requireSleeps(t, r, 2)
				})
			}
		}
	})
}

func TestKernelReadTimeoutDespiteIoctls(t *testing.T) {
	const timeout = 100 * time.Millisecond
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		lag := lab.WatchLag(t)
		r := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: timeout})
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		defer others.Wait()
		defer cancel()
		others.Go(func() {
			for ctx.Err() == nil {
				// the pace of the ioctls is what the test is about
				time.Sleep(30 * time.Millisecond)
				r.Stats()
			}
		})
		var took []lab.Span
		for i := range uint32(10) {
			arrived, posted := make(chan time.Duration, 1), make(chan error, 1)
			go func() {
				// the packet comes while the reader waits, between two ioctls
				time.Sleep(50 * time.Millisecond)
				arrived <- lag.Now()
				posted <- p.Post(p.A, numbered(i, 64))
			}()
			l, err := r.Lease(ctx)
			require.NoError(t, err)
			took = append(took, lag.Since(<-arrived))
			require.NoError(t, l.Release())
			require.NoError(t, <-posted) // the packet is here before its writer counts it
		}
		assert.Empty(t, lag.Late(took, timeout+lab.Slack))
	})
}

func TestKernelImmediateIsPrompt(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		lag := lab.WatchLag(t)
		r := openOn(t, p, bpf.Config{Mode: mode, Immediate: true})
		var took []lab.Span
		for i := range uint32(50) {
			arrived, posted := make(chan time.Duration, 1), make(chan error, 1)
			go func() {
				arrived <- lag.Now()
				posted <- p.Post(p.A, numbered(i, 64))
			}()
			data, _, err := r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.Equal(t, i, number(t, data))
			took = append(took, lag.Since(<-arrived))
			require.NoError(t, <-posted) // the packet is here before its writer counts it
		}
		assert.Empty(t, lag.Late(took, lab.Slack))
	})
}

// The program forks and execs all the time while it captures; os/exec forks with the memory shared.
func TestKernelForkInMidCapture(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 16 << 10,
			ReadTimeout: 20 * time.Millisecond})
		self, err := os.Executable()
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var forks sync.WaitGroup
		defer forks.Wait()
		defer cancel()
		var forked atomic.Int64
		forks.Go(func() {
			for ctx.Err() == nil {
				if assert.NoError(t, exec.Command(self, "-test.run=^$").Run()) {
					forked.Add(1)
				}
			}
		})
		next := uint32(0)
		for forked.Load() < 5 || next < 200 {
			require.NoError(t, p.Post(p.A, numbered(next, 200)))
			data, _, err := r.ReadPacket(t.Context())
			require.NoError(t, err)
			require.Equal(t, next, number(t, data))
			next++
		}
	})
}

// A program that reads a packet after its lease faults. It does not read another packet.
func TestKernelGuard(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, Guard: true, BufferSize: 64 << 10,
			ReadTimeout: 10 * time.Millisecond})
		look := func(b []byte) (v byte, fault error) {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				if x := recover(); x != nil {
					fault = x.(error)
				}
			}()
			return b[20], nil
		}
		for _, fill := range []int{1, 400} { // copied out, and lent
			for i := range fill {
				require.NoError(t, p.Post(p.A, numbered(uint32(i), 100)))
			}
			p.Settle(t)
			var stale []byte
			seen := 0
			for seen < fill {
				l, err := r.Lease(t.Context())
				require.NoError(t, err)
				for pkt := range l.Packets() {
					stale = pkt.Data()
					assert.EqualValues(t, seen, number(t, stale))
					seen++
				}
				_, fault := look(stale)
				require.NoError(t, fault)
				require.NoError(t, l.Release())
				_, fault = look(stale)
				require.Error(t, fault, "after Release")
			}
		}
		p.Inject(t, numbered(7, 64))
		data, _, err := r.ZeroCopyReadPacketData()
		require.NoError(t, err)
		assert.EqualValues(t, 7, number(t, data))
		require.NoError(t, r.Close())
		_, _, err = r.ZeroCopyReadPacketData()
		require.ErrorIs(t, err, os.ErrClosed)
		_, fault := look(data)
		require.Error(t, fault)
	})
}
