package scaling

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// maxInterfaces is how many interfaces "several" is at the most, each with a storm of its own.
const maxInterfaces = 4

const (
	frameSize = 64
	warm      = 300 * time.Millisecond
	length    = 2 * time.Second
)

var modes = []bpf.Mode{bpf.ZeroCopy, bpf.Buffered}

func kernel(b *testing.B) lab.World {
	b.Helper()
	w, why := lab.Kernel()
	if w == nil {
		b.Skip(why)
	}
	require.NoError(b, w.SetSysctl("net.bpf.zerocopy_enable", 1))
	return w
}

// storms starts n of them, which share the frames that one would have: they share the processor
// that carries them, too.
func storms(b *testing.B, w lab.World, n int) (ifnames []string) {
	b.Helper()
	var made []*load.Storm
	b.Cleanup(func() {
		// All of them must rest before the first is closed: another one would leave the kernel's own
		// threads no time.
		for _, s := range made {
			require.NoError(b, w.SetUp(s.Ifname, false))
		}
		for _, s := range made {
			require.NoError(b, s.Close())
		}
	})
	for range n {
		s, err := load.NewStorm()
		require.NoError(b, err)
		made, ifnames = append(made, s), append(ifnames, s.Ifname)
	}
	for _, s := range made {
		require.NoError(b, s.Fill(load.Frames/n, frameSize))
	}
	return ifnames
}

// counts are of all readers together.
type counts struct {
	packets, dropped, syscalls uint64
	cpu, user, system          time.Duration // of the process [getrusage]
}

func count(b *testing.B, readers []*bpf.Reader) (c counts) {
	b.Helper()
	for _, r := range readers {
		s, err := r.Stats()
		require.NoError(b, err)
		c.packets, c.dropped, c.syscalls = c.packets+s.Packets, c.dropped+s.Dropped, c.syscalls+s.Syscalls
	}
	var use unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &use))
	c.user, c.system = time.Duration(use.Utime.Nano()), time.Duration(use.Stime.Nano())
	c.cpu = c.user + c.system
	return c
}

// measure reads with one reader on each of the interfaces named, and reports.
func measure(b *testing.B, ifnames []string, cfg bpf.Config) {
	b.Helper()
	cfg.Filter = load.Share(load.Frames)
	var readers []*bpf.Reader
	var failed atomic.Pointer[error]
	var reading sync.WaitGroup
	for _, ifname := range ifnames {
		r, err := bpf.Open(ifname, cfg)
		require.NoError(b, err)
		readers = append(readers, r)
		reading.Go(func() {
			if err := read(r); err != nil {
				failed.Store(&err)
			}
		})
	}
	time.Sleep(warm) // the readers warm up for this time
	begin, before := time.Now(), count(b, readers)
	time.Sleep(time.Duration(b.N) * length) // the measurement takes this time
	took, after := time.Since(begin), count(b, readers)
	for _, r := range readers {
		require.NoError(b, r.Close())
	}
	reading.Wait()
	if err := failed.Load(); err != nil {
		require.NoError(b, *err)
	}
	n := float64(after.packets - before.packets)
	require.NotZero(b, n, "there is no storm")
	dropped := float64(after.dropped - before.dropped)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(after.cpu-before.cpu)/n, "cpu-ns/pkt")
	b.ReportMetric(float64(after.user-before.user)/n, "user-ns/pkt")
	b.ReportMetric(float64(after.system-before.system)/n, "sys-ns/pkt")
	b.ReportMetric(n/took.Seconds(), "pkts/s")
	b.ReportMetric(100*dropped/(n+dropped), "drop-%")
	b.ReportMetric(1e6*float64(after.syscalls-before.syscalls)/n, "syscalls/Mpkt")
}

// read reads until r is closed.
func read(r *bpf.Reader) error {
	var t contestant.Tally
	for {
		l, err := r.Lease(context.Background())
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		for p := range l.Packets() {
			t.Packet(p.Data())
		}
		if err := errors.Join(l.Err(), l.Release()); err != nil {
			return err
		}
	}
}

func BenchmarkReaders(b *testing.B) {
	w := kernel(b)
	for _, n := range []int{1, 2, 4, 16} {
		for _, several := range []bool{false, true} {
			on, loops := "one", 1
			if several {
				on, loops = "several", min(n, maxInterfaces)
			}
			b.Run(fmt.Sprintf("size=%d/interfaces=%s/readers=%d", frameSize, on, n), func(b *testing.B) {
				made := storms(b, w, loops)
				var ifnames []string
				for i := range n {
					ifnames = append(ifnames, made[i%loops])
				}
				for _, mode := range modes {
					b.Run("mode="+mode.String(), func(b *testing.B) {
						measure(b, ifnames, bpf.Config{Mode: mode})
					})
				}
			})
		}
	}
}

// largest returns the most bytes that the kernel grants for each buffer.
func largest(b *testing.B, w lab.World, mode bpf.Mode) int {
	b.Helper()
	if mode == bpf.Buffered {
		most, err := w.Sysctl("net.bpf.maxbufsize")
		require.NoError(b, err)
		return most
	}
	d, err := zbuf.Open()
	require.NoError(b, err)
	defer d.Close()
	require.NoError(b, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
	most, err := d.MaxBufferSize()
	require.NoError(b, err)
	return most
}

func BenchmarkBuffers(b *testing.B) {
	w := kernel(b)
	ifnames := storms(b, w, 1)
	for _, mode := range modes {
		most := largest(b, w, mode)
		var sizes []int
		for size := os.Getpagesize(); size < most; size *= 2 {
			sizes = append(sizes, size)
		}
		for _, size := range append(sizes, most) {
			b.Run(fmt.Sprintf("size=%d/mode=%v/buffer=%d", frameSize, mode, size), func(b *testing.B) {
				measure(b, ifnames, bpf.Config{Mode: mode, BufferSize: size})
			})
		}
	}
}
