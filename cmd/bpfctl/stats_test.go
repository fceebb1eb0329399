package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/scenario"
	"github.com/zbuf-go/zbuf/sysctl"
	"github.com/zbuf-go/zbuf/sysctl/sysctltest"
)

// kernels are the model and, where there is one, the running kernel.
func kernels(t *testing.T, f func(t *testing.T, w lab.World, m *machine.Machine)) {
	t.Run("model", func(t *testing.T) {
		w := lab.Model()
		f(t, w, &machine.Machine{
			BPF: w, Stop: func() {}, Interfaces: func() ([]machine.Interface, error) { return nil, nil },
			Sysctl: sysctl.New(sysctltest.New(append(sysctltest.BPF(w.(sysctltest.Kernel)),
				sysctltest.Processes(func(pid int) (string, bool) {
					return "itself", pid == os.Getpid()
				}))...)),
		})
	})
	t.Run("kernel", func(t *testing.T) {
		w := lab.OnKernel(t)
		lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
		m, err := (&target{}).machine()
		require.NoError(t, err)
		f(t, w, m)
	})
}

// stats runs `bpfctl stats --json` and returns its output.
func stats(t testing.TB, m *machine.Machine, args ...string) (rows []listenerRow) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := runOn(&target{host: func() *machine.Machine { return m }},
		append([]string{"stats", "--json"}, args...), nil, &stdout, &stderr)
	require.Equal(t, exitOK, code, stderr.String())
	var all listeners
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &all))
	require.WithinDuration(t, time.Now(), all.Time, lab.Patience)
	for _, r := range all.Listeners {
		rows = append(rows, *r)
	}
	return rows
}

// rawStats is the array of struct xbpf_d, of one interface if it is named.
func rawStats(t testing.TB, w lab.World, iface string) (list []zbuf.XbpfD) {
	t.Helper()
	for {
		n, err := w.Stats(nil)
		require.NoError(t, err)
		b := make([]byte, n+16*lab.SizeofListener)
		if n, err = w.Stats(b); errors.Is(err, syscall.ENOMEM) {
			continue // more have come meanwhile
		}
		require.NoError(t, err)
		all := make([]zbuf.XbpfD, n/lab.SizeofListener)
		_, err = binary.Decode(b[:n], binary.NativeEndian, all)
		require.NoError(t, err)
		for _, x := range all {
			if iface == "" || ifname(x) == iface {
				list = append(list, x)
			}
		}
		return list
	}
}

func ifname(x zbuf.XbpfD) string {
	name, _, _ := bytes.Cut(x.Ifname[:], []byte{0})
	return string(name)
}

// requireAgree compares what stats shows with the kernel's array, field by field.
func requireAgree(t testing.TB, want []zbuf.XbpfD, got []listenerRow) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, x := range want {
		r := got[i]
		require.Equal(t, zbuf.XbpfD{
			Structsize: x.Structsize, Promisc: flag[uint8](r.Promiscuous),
			Immediate: flag[uint8](r.Immediate),
			Hdrcmplt:  flag[int32](r.HeaderComplete), Direction: map[string]int32{"in": 0, "inout": 1,
				"out": 2}[r.Direction],
			Feedback: flag[int32](r.Feedback), Async: flag[int32](r.Async),
			Rcount: r.Received, Dcount: r.Dropped, Fcount: r.Matched, Sig: int32(r.Signal),
			Slen: int32(r.Store), Hlen: int32(r.Hold), Bufsize: int32(r.Buffer), Pid: int32(r.PID),
			Ifname: x.Ifname, Locked: flag[int32](r.Locked), Wcount: r.Written, Wfcount: r.WrittenMatched,
			Wdcount: r.WriteErrors,
			Zcopy:   r.ZeroCopyAppends, Bufmode: map[string]int32{"buffered": 1, "zerocopy": 2}[r.Mode],
		}, x, "listener %d", i)
		require.Equal(t, ifname(x), r.Interface)
		require.InDelta(t, share(uint64(x.Slen+x.Hlen), 2*uint64(x.Bufsize)), r.Fill, 1e-9)
		require.InDelta(t, share(x.Dcount, x.Fcount), r.DropRate, 1e-9)
		require.NotEmpty(t, r.Program)
	}
}

func flag[T uint8 | int32](on bool) T {
	if on {
		return 1
	}
	return 0
}

// listen opens n listeners of all kinds.
func listen(t *testing.T, sys zbuf.System, iface string, n int) {
	t.Helper()
	for i := range n {
		cfg := bpf.Config{System: sys, BufferSize: 4096 << (i % 3), Mode: bpf.ZeroCopy,
			Promiscuous: i%5 == 0, Immediate: i%7 == 0, HeaderComplete: i%4 == 0}
		if i%2 == 1 {
			cfg.Mode = bpf.Buffered
		}
		if i%3 == 2 {
			cfg.Filter = []zbuf.Insn{{Op: 0x06}} // ret #0
		}
		cfg.Direction = []bpf.Direction{bpf.InOut, bpf.In, bpf.Out}[i%11%3]
		r, err := bpf.Open(iface, cfg)
		require.NoError(t, err)
		t.Cleanup(func() { r.Close() })
		if i%6 == 0 {
			require.NoError(t, r.Sandbox(bpf.Sandbox{}))
		}
	}
}

func TestStatsAgreesWithTheKernel(t *testing.T) {
	for _, n := range []int{1, 2, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			kernels(t, func(t *testing.T, w lab.World, m *machine.Machine) {
				pair := lab.NewPair(t, w)
				pair.Send(t, lab.Frame(100, 0))
				own := len(rawStats(t, w, pair.A))
				listen(t, w, pair.A, n)
				for i := range 12 { // more than some have room for
					pair.Inject(t, lab.Frame(1000+i, uint32(i)))
				}
				pair.Send(t, lab.Frame(100, 1))
				quiet := rawStats(t, w, pair.A)
				require.Len(t, quiet, own+n)
				requireAgree(t, quiet, stats(t, m, "-i", pair.A))
				requireAgree(t, rawStats(t, w, ""), stats(t, m))
				var dropped, lent uint64
				for _, x := range quiet {
					dropped += x.Dcount
					lent += x.Zcopy
				}
				require.NotZero(t, lent)
				require.True(t, n == 1 || dropped > 0)

				t.Run("while others come and go", func(t *testing.T) {
					own := len(rawStats(t, w, pair.B))
					gone := comeAndGo(t, w, pair.B)
					seen := 0
					began := time.Now()
					for round := 0; round < max(3, 20/n) || (seen == 0 || gone() < 20) &&
						time.Since(began) < lab.Patience; round++ {
						all := stats(t, m)
						requireAgree(t, quiet, rowsOf(all, pair.A))
						seen += len(rowsOf(all, pair.B)) - own
					}
					require.Positive(t, seen, "some of the others were seen")
					require.GreaterOrEqual(t, gone(), int64(20))
					t.Logf("%d came and went meanwhile, some were seen %d times", gone(), seen)
				})
			})
		})
	}
}

// rowsOf are the rows of one interface.
func rowsOf(rows []listenerRow, iface string) (some []listenerRow) {
	for _, r := range rows {
		if r.Interface == iface {
			some = append(some, r)
		}
	}
	return some
}

// comeAndGo opens and closes listeners until the test is over. The function returned tells how many
// have gone.
func comeAndGo(t *testing.T, sys zbuf.System, iface string) (gone func() int64) {
	ctx, cancel := context.WithCancel(context.Background())
	var going sync.WaitGroup
	var n atomic.Int64
	for i := range 3 {
		going.Go(func() {
			for ctx.Err() == nil {
				r, err := bpf.Open(iface, bpf.Config{System: sys, BufferSize: 4096,
					Mode: []bpf.Mode{bpf.ZeroCopy, bpf.Buffered}[i%2]})
				if !assert.NoError(t, err) {
					return
				}
				short, done := context.WithTimeout(ctx, time.Millisecond)
				r.Lease(short)
				done()
				r.Close()
				n.Add(1)
			}
		})
	}
	t.Cleanup(func() { cancel(); going.Wait() })
	return n.Load
}

func TestStatsReset(t *testing.T) {
	kernels(t, func(t *testing.T, w lab.World, m *machine.Machine) {
		pair := lab.NewPair(t, w)
		listen(t, w, pair.A, 2)
		pair.Inject(t, lab.Frame(100, 1))
		require.NotZero(t, stats(t, m, "-i", pair.A)[0].Received)
		var stdout bytes.Buffer
		require.Equal(t, exitOK, runOn(&target{host: func() *machine.Machine { return m }},
			[]string{"stats", "--reset"}, nil, &stdout, &stdout), stdout.String())
		pair.Forgotten()
		for _, r := range stats(t, m) {
			require.Zero(t, r.Received+r.Matched+r.Dropped+r.ZeroCopyAppends)
		}
	})
}

// A collector takes each line of --watch --json by itself.
func TestWatchLinesStandForThemselves(t *testing.T) {
	var b bytes.Buffer
	rates := &listenerRates{Received: 1.5}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	require.NoError(t, writeLines(&b, at, []*listenerRow{{PID: 7, Program: "a\nb", Buffer: 4096,
		Rates: rates}, {PID: 8}}))
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	require.Len(t, lines, 2)
	for i, line := range lines {
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &got))
		require.Equal(t, "2026-01-02T02:04:05.000006Z", got["time"])
		require.EqualValues(t, 7+i, got["pid"])
		for key, value := range got {
			if key != "rates" {
				require.NotContains(t, []any{map[string]any{}, []any{}}, value, "%s is one value", key)
			}
		}
	}
	require.NoError(t, writeLines(&b, at, nil))
}

func TestRates(t *testing.T) {
	at := time.Unix(1700000000, 0)
	row := func(pid int, received, matched, dropped uint64) *listenerRow {
		return &listenerRow{PID: pid, Interface: "em0", Received: received, Matched: matched,
			Dropped: dropped}
	}
	var f follower
	first := row(1, 100, 100, 0)
	f.next([]*listenerRow{first}, at)
	require.Nil(t, first.Rates, "nothing to compare with")

	young, old := row(1, 5, 5, 0), row(1, 300, 200, 50)
	f.next([]*listenerRow{young, old}, at.Add(2*time.Second))
	require.Nil(t, young.Rates, "the latest is listed first, and is new")
	require.Equal(t, &listenerRates{Received: 100, Matched: 50, Dropped: 25, DropRate: 0.5}, old.Rates)
	require.Equal(t, []float64{25}, old.drops)

	young2, reset, other := row(1, 15, 5, 0), row(1, 10, 10, 0), row(2, 1, 1, 1)
	f.next([]*listenerRow{other, young2, reset}, at.Add(3*time.Second))
	require.Equal(t, 10.0, young2.Rates.Received)
	require.Nil(t, reset.Rates, "counters that fall were reset")
	require.Equal(t, []float64{25}, reset.drops, "what was before stays in the picture")
	require.Nil(t, other.Rates)

	last := row(1, 10, 10, 0)
	for i := range 100 {
		last = row(1, last.Received+1, last.Matched+1, last.Dropped+uint64(i%2))
		f.next([]*listenerRow{last}, at.Add(time.Duration(4+i)*time.Second))
	}
	require.Len(t, last.drops, history)
}

func TestSparkline(t *testing.T) {
	l := look{unicode: true}
	assert.Equal(t, " ▁▄█", l.sparkline([]float64{0, 0.001, 50, 100}))
	assert.Equal(t, "   ", l.sparkline([]float64{0, 0, 0}))
	assert.Equal(t, "", l.sparkline(nil))
	assert.Equal(t, " .=#", look{}.sparkline([]float64{0, 1, 50, 100}))
}

func TestRateText(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 0.25: "0.25", 1.4: "1", 12345.6: "12,346"} {
		assert.Equal(t, want, rate(f))
	}
}

// A listener's flags are the letters that netstat -B prints.
func TestFlags(t *testing.T) {
	assert.Equal(t, "--f----", (&listenerRow{Direction: "in"}).flags())
	assert.Equal(t, "pi-sbal", (&listenerRow{Direction: "inout", Promiscuous: true, Immediate: true,
		HeaderComplete: true, Feedback: true, Async: true, Locked: true}).flags())
	assert.Equal(t, "--fo---", (&listenerRow{Direction: "out"}).flags())
}

// TestZeroCopyStatusCountsMemory compares the wired memory that status shows with the memory that
// the model was lent.
func TestZeroCopyStatusCountsMemory(t *testing.T) {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	m := &machine.Machine{BPF: k, Sysctl: scenario.Sysctls(k), Stop: func() {}}
	for _, size := range []int{1, 4096, 5000, 64 << 10} {
		r, err := bpf.Open("em0", bpf.Config{System: k, Mode: bpf.ZeroCopy, BufferSize: size})
		require.NoError(t, err)
		defer r.Close()
	}
	s, err := readZeroCopyStatus(m)
	require.NoError(t, err)
	require.Equal(t, k.MappedBytes(), s.Wired)
	require.Len(t, s.Users, 4)
	var b strings.Builder
	require.NoError(t, s.print(&b))
	require.Contains(t, b.String(), "In use by 4 listeners, for which 160 KiB of memory is wired:\n")

	// A buffer is as long in stats, which counts the bytes for packets.
	rows := stats(t, m)
	require.Len(t, rows, 4)
	for i, u := range s.Users {
		require.Equal(t, rows[i].Buffer, u.Buffer)
		require.LessOrEqual(t, u.Buffer, s.MaxBuffer)
		require.Equal(t, (u.Buffer+zbuf.SizeofZbufHeader+4095)/4096*2*4096, u.Wired)
	}
	longest, err := bpf.Open("em0", bpf.Config{System: k, Mode: bpf.ZeroCopy,
		BufferSize: s.MaxBuffer + zbuf.SizeofZbufHeader})
	require.NoError(t, err)
	defer longest.Close()
	require.Equal(t, s.MaxBuffer, stats(t, m)[0].Buffer)
}
