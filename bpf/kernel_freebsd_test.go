package bpf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// onKernel runs f on the running kernel, in each buffer mode that it has.
func onKernel(t *testing.T, f func(t *testing.T, w lab.World, mode bpf.Mode)) {
	w := lab.OnKernel(t)
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			if mode == bpf.ZeroCopy {
				lab.WantZeroCopy(t, w)
			}
			f(t, w, mode)
		})
	}
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
				t.Run(fmt.Sprintf("immediate=%v/left=%s", immediate, left), func(t *testing.T) {
					t.Parallel() // they do nothing but wait
					p := lab.NewPair(t, w)
					r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: 10 * time.Millisecond, Immediate: immediate})
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
				time.Sleep(30 * time.Millisecond)
				r.Stats()
			}
		})
		for i := range uint32(10) {
			arrived := make(chan time.Time, 1)
			go func() {
				time.Sleep(50 * time.Millisecond)
				arrived <- time.Now()
				p.Post(p.A, numbered(i, 64))
			}()
			l, err := r.Lease(ctx)
			require.NoError(t, err)
			delay := time.Since(<-arrived)
			assert.Less(t, delay, lag.Allow(timeout))
			require.NoError(t, l.Release())
		}
	})
}

func TestKernelImmediateIsPrompt(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		lag := lab.WatchLag(t)
		r := openOn(t, p, bpf.Config{Mode: mode, Immediate: true})
		for i := range uint32(50) {
			arrived, posted := make(chan time.Time, 1), make(chan error, 1)
			go func() {
				arrived <- time.Now()
				posted <- p.Post(p.A, numbered(i, 64))
			}()
			data, _, err := r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.Equal(t, i, number(t, data))
			delay := time.Since(<-arrived)
			assert.Less(t, delay, lag.Allow(0))
			require.NoError(t, <-posted) // the packet is here before its writer counts it
		}
	})
}

func TestKernelClose(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		var took []time.Duration
		for range 20 {
			r := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout})
			woken := make(chan error, 1)
			go func() {
				_, err := r.Lease(context.Background())
				woken <- err
			}()
			require.NoError(t, lab.Until(func() (bool, error) {
				s, err := r.Stats()
				return s.Waits > 0, err
			}))
			start := time.Now()
			require.NoError(t, r.Close())
			require.ErrorIs(t, <-woken, os.ErrClosed)
			took = append(took, time.Since(start))
		}
		// The reader would notice by itself within 700 ms, 350 ms in the middle: this is not that.
		slices.Sort(took)
		assert.Less(t, took[len(took)/2], 150*time.Millisecond)

		r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: 10 * time.Millisecond})
		p.Inject(t, numbered(1, 64))
		l, err := r.Lease(t.Context())
		require.NoError(t, err)
		require.NoError(t, r.Close())
		for pkt := range l.Packets() {
			assert.EqualValues(t, 1, number(t, pkt.Data()))
		}
		require.NoError(t, l.Release())
	})
}

func TestKernelInterfaceGone(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for _, how := range []string{"destroyed", "moved to another vnet"} {
			for _, when := range []string{"idle", "blocked", "leased"} {
				t.Run(how+" while "+when, func(t *testing.T) {
					p := lab.NewPair(t, w)
					lag := lab.WatchLag(t)
					r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: bpf.NoTimeout})
					vanish := func() {
						if how == "destroyed" {
							assert.NoError(t, w.Destroy(p.A))
							return
						}
						back, err := w.Leave(p.A)
						if assert.NoError(t, err) {
							t.Cleanup(func() { back() })
						}
					}
					var leased bpf.Lease
					p.Inject(t, numbered(1, 64))
					switch when {
					case "idle":
						vanish()
					case "leased":
						r.SetReadDeadline(time.Now())
						l, err := r.Lease(t.Context())
						require.NoError(t, err)
						leased = l
						r.SetReadDeadline(time.Time{})
						p.Inject(t, numbered(2, 64))
						vanish()
						for pkt := range leased.Packets() {
							assert.EqualValues(t, 1, number(t, pkt.Data()))
						}
						require.NoError(t, leased.Release())
					case "blocked":
						waits := func() uint64 { s, _ := r.Stats(); return s.Waits }
						before := waits()
						go func() {
							lab.Until(func() (bool, error) { return waits() > before, nil })
							vanish()
						}()
					}
					left := 0
					released := time.Now()
					for {
						l, err := r.Lease(t.Context())
						if err != nil {
							require.ErrorIs(t, err, bpf.ErrInterfaceGone)
							break
						}
						for pkt := range l.Packets() {
							number(t, pkt.Data())
							left++
						}
						require.NoError(t, l.Release())
						released = time.Now()
					}
					assert.Equal(t, 1, left, "what is left comes first")
					took := time.Since(released)
					assert.Less(t, took, lag.Allow(time.Second))
				})
			}
		}
	})
}

func TestKernelRenameIsNotGone(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond})
		require.NoError(t, w.Rename(p.A, "wan0"))
		defer w.Rename("wan0", p.A)
		r.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
		_, err := r.Lease(t.Context())
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, p.Post(p.A, numbered(5, 64)))
		r.SetReadDeadline(time.Time{})
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 5, number(t, data))
	})
}

func TestKernelZeroCopyTurnedOffInMidSession(t *testing.T) {
	w := lab.OnKernel(t)
	lab.Want64Bit(t)
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
	p := lab.NewPair(t, w)
	r := openOn(t, p, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 4096, ReadTimeout: 20 * time.Millisecond})
	require.NoError(t, w.SetSysctl("net.bpf.zerocopy_enable", 0))
	for i := range uint32(200) {
		require.NoError(t, p.Post(p.A, numbered(i, 64)))
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		require.Equal(t, i, number(t, data))
	}
	_, err := bpf.Open(p.A, bpf.Config{Mode: bpf.ZeroCopy})
	require.ErrorIs(t, err, bpf.ErrZeroCopyRefused)
	assert.ErrorContains(t, err, "bpfctl zerocopy on")
	auto := openOn(t, p, bpf.Config{})
	mode, reason := auto.Mode()
	assert.Equal(t, bpf.Buffered, mode)
	assert.ErrorIs(t, reason, zbuf.ErrZeroCopyDisabled)
}

func TestKernel386FallsBack(t *testing.T) {
	w := lab.OnKernel(t)
	if runtime.GOARCH != "386" {
		t.Skip("only a 386 binary on an amd64 kernel falls back: run with GOARCH=386")
	}
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
	p := lab.NewPair(t, w)
	for _, res := range []bpf.Resolution{bpf.Nanoseconds, bpf.Microseconds, bpf.Binary, bpf.NoTimestamp} {
		r := openOn(t, p, bpf.Config{Resolution: res, ReadTimeout: 20 * time.Millisecond})
		mode, reason := r.Mode()
		assert.Equal(t, bpf.Buffered, mode)
		assert.ErrorIs(t, reason, bpf.ErrZeroCopyRefused)
		assert.ErrorContains(t, reason, "32-bit")
		for i := range uint32(100) {
			p.Inject(t, numbered(i, 64+int(i)))
		}
		for i := range uint32(100) {
			data, info, err := r.ReadPacket(t.Context())
			require.NoError(t, err)
			require.Equal(t, numbered(i, 64+int(i)), data)
			if res == bpf.NoTimestamp {
				require.True(t, info.Timestamp.IsZero())
			} else {
				require.WithinDuration(t, time.Now(), info.Timestamp, time.Minute)
			}
		}
	}
}

func TestKernelOptimizeWriters(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		lab.SetSysctl(t, w, "net.bpf.optimize_writers", 1)
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond})
		require.NoError(t, p.Post(p.A, numbered(1, 64)))
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, number(t, data))
	})
}

// The program forks and execs all the time while it captures; os/exec forks with the memory shared.
func TestKernelForkInMidCapture(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 16 << 10, ReadTimeout: 20 * time.Millisecond})
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

// Whoever looks at a packet after its lease faults instead of reading another packet.
func TestKernelGuard(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, Guard: true, BufferSize: 64 << 10, ReadTimeout: 10 * time.Millisecond})
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

func TestKernelFilterChange(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: 20 * time.Millisecond, Filter: accept(t, 10), SnapLen: 70})
		for i := range uint32(100) { // overruns both buffers
			p.Inject(t, numbered(i, 100))
		}
		data, info, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 10, number(t, data))
		assert.Equal(t, 70, info.CaptureLength)
		assert.Equal(t, 100, info.Length)
		before, err := r.Stats()
		require.NoError(t, err)
		require.NoError(t, r.SetFilter(accept(t, 1000), true))
		p.Inject(t, numbered(999, 64))
		p.Inject(t, numbered(1000, 64))
		data, _, err = r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1000, number(t, data))
		after, err := r.Stats()
		require.NoError(t, err)
		assert.Equal(t, before.Received+2, after.Received)
		assert.Equal(t, before.Dropped, after.Dropped)
	})
}

func TestKernelWrite(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		in := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond, Direction: bpf.In})
		out, err := bpf.Open(p.B, bpf.Config{Mode: mode, WriteFilter: accept(t, 5), HeaderComplete: true})
		require.NoError(t, err)
		defer out.Close()
		_, err = out.Write(numbered(1, 64))
		assert.ErrorIs(t, err, syscall.EPERM, "the write filter refuses it")
		_, err = out.Write(numbered(5, 64))
		require.NoError(t, err)
		_, err = out.Write(make([]byte, 5))
		assert.ErrorIs(t, err, syscall.EMSGSIZE)
		data, _, err := in.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.True(t, bytes.Equal(numbered(5, 64), data))
	})
}

func TestKernelSandbox(t *testing.T) {
	if os.Getenv("ZBUF_SANDBOX_CHILD") == "" {
		lab.OnKernel(t)
		self, err := os.Executable() // capability mode can't be left: a process of its own
		require.NoError(t, err)
		cmd := exec.Command(self, "-test.run=^TestKernelSandbox$", "-test.v")
		cmd.Env = append(os.Environ(), "ZBUF_SANDBOX_CHILD=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: TestKernelSandbox")
		return
	}
	w, why := lab.Kernel()
	require.NotNil(t, w, why)
	zerocopy, err := w.Sysctl("net.bpf.zerocopy_enable")
	require.NoError(t, err)
	p, err := w.NewPair() // its interfaces can't be destroyed from inside: the parent's guest goes anyway
	require.NoError(t, err)
	require.NoError(t, p.Watch())
	var readers []*bpf.Reader
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		if mode == bpf.ZeroCopy && (zerocopy == 0 || runtime.GOARCH == "386") {
			continue
		}
		r, err := bpf.Open(p.A, bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: 20 * time.Millisecond})
		require.NoError(t, err)
		readers = append(readers, r)
	}
	for i, r := range readers {
		require.NoError(t, r.Sandbox(bpf.Sandbox{Write: true, Enter: i == len(readers)-1}))
	}
	_, err = os.Open("/")
	require.Error(t, err, "the process is in capability mode")
	for n := uint32(0); n < 300; {
		for range 1 + n%7 { // sometimes more than the reader takes at once
			require.NoError(t, p.Post(p.A, numbered(n, 200)))
			n++
		}
		for _, r := range readers {
			data, _, err := r.ReadPacket(context.Background())
			require.NoError(t, err)
			last := number(t, data)
			for last+1 < n {
				data, _, err := r.ReadPacket(context.Background())
				require.NoError(t, err)
				require.Equal(t, last+1, number(t, data))
				last++
			}
		}
	}
	for _, r := range readers {
		_, err := r.Stats()
		assert.NoError(t, err)
		_, err = r.LinkTypes()
		assert.NoError(t, err)
		assert.NoError(t, r.Flush())
		_, err = r.Write(numbered(1, 64))
		assert.NoError(t, err)
		assert.ErrorIs(t, r.SetFilter(nil, true), bpf.ErrSandboxed)
		assert.ErrorIs(t, r.SetDirection(bpf.In), bpf.ErrSandboxed)
		r.SetReadDeadline(time.Now().Add(-time.Second))
		for err == nil {
			_, _, err = r.ReadPacket(context.Background())
		}
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.NoError(t, r.Close())
	}
}
