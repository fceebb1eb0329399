package sysctl_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
	"github.com/zbuf-go/zbuf/sysctl/sysctltest"
)

func TestTypedBPF(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		b := w.tree.BPF()
		for _, c := range []struct {
			name string
			get  func() (int32, error)
			set  func(int32) error
		}{
			{"net.bpf.bufsize", b.BufSize, b.SetBufSize},
			{"net.bpf.maxbufsize", b.MaxBufSize, b.SetMaxBufSize},
			{"net.bpf.maxinsns", b.MaxInsns, b.SetMaxInsns},
		} {
			restore, err := w.tree.Override(c.name, 1000)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, restore()) })
			require.NoError(t, c.set(1234))
			n, err := c.get()
			require.NoError(t, err)
			require.Equal(t, int32(1234), n)
			n, err = w.tree.Int32(c.name)
			require.NoError(t, err)
			require.Equal(t, int32(1234), n, c.name)
		}
		for _, c := range []struct {
			name string
			get  func() (bool, error)
			set  func(bool) error
		}{
			{"net.bpf.zerocopy_enable", b.ZeroCopyEnabled, b.SetZeroCopyEnabled},
			{"net.bpf.optimize_writers", b.OptimizeWriters, b.SetOptimizeWriters},
		} {
			restore, err := w.tree.Override(c.name, 7)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, restore()) })
			on, err := c.get()
			require.NoError(t, err)
			require.True(t, on, "everything but 0 is on")
			for _, want := range []bool{false, true} {
				require.NoError(t, c.set(want))
				on, err := c.get()
				require.NoError(t, err)
				require.Equal(t, want, on, c.name)
			}
		}
	})
}

func TestZeroCopyEnabledIsWhatDescriptorsMeet(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		restore, err := w.tree.Override("net.bpf.zerocopy_enable", 0)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, restore()) })
		for _, on := range []bool{false, true} {
			require.NoError(t, w.tree.BPF().SetZeroCopyEnabled(on))
			d, err := zbuf.OpenOn(w.bpf)
			require.NoError(t, err)
			err = d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF)
			require.NoError(t, d.Close())
			if on {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, zbuf.ErrZeroCopyDisabled)
			}
		}
	})
}

func TestStatsOfManyListeners(t *testing.T) {
	for _, n := range []int{0, 1, 2, 200} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			everywhere(t, func(t *testing.T, w target) {
				listen(t, w, n)
				all, err := w.tree.BPF().Stats()
				require.NoError(t, err)
				require.Len(t, all, n)
				for _, l := range all {
					require.Equal(t, "lo0", l.Interface)
					require.Equal(t, os.Getpid(), l.PID)
					require.Equal(t, program(), l.Process)
					require.False(t, l.ZeroCopy())
				}
				raw, err := w.tree.Raw("net.bpf.stats")
				require.NoError(t, err)
				if n > 0 {
					require.Zero(t, len(raw)%n)
					t.Logf("struct xbpf_d has %d bytes here", len(raw)/n)
				}
			})
		})
	}
}

func TestStatsShowWhatWasSet(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		d, err := zbuf.OpenOn(w.bpf)
		require.NoError(t, err)
		t.Cleanup(func() { d.Close() })
		size, err := d.SetBufferLen(16384)
		require.NoError(t, err)
		require.NoError(t, d.SetDirection(zbuf.BPF_D_IN))
		require.NoError(t, d.SetImmediate(true))
		require.NoError(t, d.SetHeaderComplete(true))
		require.NoError(t, d.SetFeedback(true))
		require.NoError(t, d.SetSignal(23))
		require.NoError(t, d.SetInterface("lo0"))
		require.NoError(t, d.SetPromiscuous())
		require.NoError(t, d.Lock())
		all, err := w.tree.BPF().Stats()
		require.NoError(t, err)
		require.Equal(t, []sysctl.Listener{{
			Interface: "lo0", PID: os.Getpid(), Process: program(), BufferMode: zbuf.BPF_BUFMODE_BUFFER,
			Direction:   zbuf.BPF_D_IN,
			Promiscuous: true, Immediate: true, HeaderComplete: true, Feedback: true, Signal: 23,
			Locked: true, BufferSize: int(size),
		}}, all)
	})
}

func TestStatsOfZeroCopy(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		if strconv.IntSize == 32 {
			t.Skip("a 32-bit process cannot lend buffers to the 64-bit kernel that tests run on")
		}
		restore, err := w.tree.Override("net.bpf.zerocopy_enable", 1)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, restore()) })
		d, err := zbuf.OpenOn(w.bpf)
		require.NoError(t, err)
		t.Cleanup(func() { d.Close() })
		require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
		_, err = d.SetBuffers(8192)
		require.NoError(t, err)
		require.NoError(t, d.SetInterface("lo0"))
		all, err := w.tree.BPF().Stats()
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.True(t, all[0].ZeroCopy())
		require.Equal(t, 8192-zbuf.SizeofZbufHeader, all[0].BufferSize)
		_, err = d.Write(packet())
		require.NoError(t, err)
		all, err = w.tree.BPF().Stats()
		require.NoError(t, err)
		require.NotZero(t, all[0].Matched)
		require.Equal(t, 2*all[0].Matched, all[0].ZeroCopyAppends, "header and data")
		require.NotZero(t, all[0].Store)
		st, err := d.Stats()
		require.NoError(t, err)
		require.Equal(t, st, zbuf.Stat{Recv: uint32(all[0].Received), Drop: uint32(all[0].Dropped)},
			"BIOCGSTATS says the same")
	})
}

// packet returns a packet for lo0: an address family in host order, and bytes.
func packet() []byte {
	return append(binary.NativeEndian.AppendUint32(nil, 2), make([]byte, 60)...)
}

func TestStatsCount(t *testing.T) {
	k := bpftest.New()
	lo := k.AddInterface("lo0", zbuf.DLT_NULL, bpftest.Loopback())
	w := target{tree: modelTree(k), bpf: k}
	listen(t, w, 1)
	for range 100 {
		lo.Receive(packet())
	}
	all, err := w.tree.BPF().Stats()
	require.NoError(t, err)
	require.Equal(t, uint64(100), all[0].Received)
	require.Equal(t, uint64(100), all[0].Matched)
	require.NotZero(t, all[0].Dropped, "more than two buffers of 4096 bytes hold")
	require.NotZero(t, all[0].Store)
	require.NotZero(t, all[0].Hold)
	x := k.Stats()[0]
	require.Equal(t, x.Dcount, all[0].Dropped)
	require.Equal(t, int(x.Slen), all[0].Store)
	require.Equal(t, int(x.Hlen), all[0].Hold)
}

func TestResetZeroesReaders(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		require.NoError(t, w.tree.BPF().ResetStats(), "without a listener")
		d := listen(t, w, 1)[0]
		_, err := d.Write(packet())
		require.NoError(t, err)
		all, err := w.tree.BPF().Stats()
		require.NoError(t, err)
		require.Equal(t, uint64(1), all[0].Written)
		require.NotZero(t, all[0].Received, "lo0 shows what it is given")
		writeErrors := all[0].WriteErrors
		require.NoError(t, w.tree.BPF().ResetStats())
		all, err = w.tree.BPF().Stats()
		require.NoError(t, err)
		require.Zero(t, all[0].Written)
		require.Zero(t, all[0].WrittenMatched)
		require.Zero(t, all[0].Received)
		require.Equal(t, writeErrors, all[0].WriteErrors)
	})
}

// Listeners come and go while others read: every answer is whole.
func TestStatsWhileListenersComeAndGo(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		listen(t, w, 2)
		const most = 60
		times := 300
		if testing.Short() {
			times = 60
		}
		errs := make(chan error, 1)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(errs)
			for {
				var open []*zbuf.Device
				for range most {
					d, err := zbuf.OpenOn(w.bpf)
					if err == nil {
						err = d.SetInterface("lo0")
						open = append(open, d)
					}
					if err != nil {
						errs <- err
						return
					}
				}
				for _, d := range open {
					d.Close()
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		seen := map[int]bool{}
		patience := time.Now().Add(lab.Patience)
		for i := 0; i < times || len(seen) < 3 && time.Now().Before(patience); i++ {
			all, err := w.tree.BPF().Stats()
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(all), 2)
			require.LessOrEqual(t, len(all), 2+most)
			for _, l := range all {
				require.Equal(t, "lo0", l.Interface)
				require.Equal(t, program(), l.Process)
			}
			seen[len(all)] = true
		}
		close(stop)
		wg.Wait()
		require.NoError(t, <-errs)
		require.Greater(t, len(seen), 2, "different numbers of listeners were seen")
	})
}

func TestListenerOfAProcessThatHasGone(t *testing.T) {
	k := bpftest.New(bpftest.WithProcess(4711, 4711))
	k.AddInterface("lo0", zbuf.DLT_NULL)
	w := target{tree: modelTree(k), bpf: k}
	listen(t, w, 1)
	all, err := w.tree.BPF().Stats()
	require.NoError(t, err)
	require.Equal(t, 4711, all[0].PID)
	require.Empty(t, all[0].Process)
}

func TestListenersWithoutNames(t *testing.T) {
	k := bpftest.New()
	k.AddInterface("lo0", zbuf.DLT_NULL)
	tree := sysctl.New(sysctltest.New(sysctltest.BPF(k)...)) // has no kern.proc
	listen(t, target{tree: tree, bpf: k}, 2)
	all, err := tree.BPF().Stats()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "kern.proc.pid")
	require.Len(t, all, 2, "the listeners are there all the same")
	require.Equal(t, "lo0", all[0].Interface)
}

func xbpfd(size, shift int, fill func(put func(off int, v uint64, width int))) []byte {
	b := make([]byte, size)
	put := func(off int, v uint64, width int) {
		if off >= 28 {
			off -= shift
		}
		if width == 8 {
			binary.NativeEndian.PutUint64(b[off:], v)
		} else {
			binary.NativeEndian.PutUint32(b[off:], uint32(v))
		}
	}
	put(0, uint64(size), 4)
	fill(put)
	copy(b[76-shift:], "em0")
	return b
}

func TestParseListenersKnowsBothLayouts(t *testing.T) {
	fill := func(put func(off int, v uint64, width int)) {
		for i, off := range []int{12, 16, 20, 24, 56, 60, 64, 68, 72, 92, 128} {
			put(off, uint64(i+1), 4)
		}
		for i, off := range []int{32, 40, 48, 96, 104, 112, 120} {
			put(off, uint64(i+1)<<33, 8)
		}
	}
	want := sysctl.Listener{Interface: "em0", PID: 9, BufferMode: 11, Direction: 2,
		HeaderComplete: true, Feedback: true, Async: true,
		Signal: 5, Locked: true, BufferSize: 8, Store: 6, Hold: 7, Received: 1 << 33, Dropped: 2 << 33,
		Matched: 3 << 33,
		Written: 4 << 33, WrittenMatched: 5 << 33, WriteErrors: 6 << 33, ZeroCopyAppends: 7 << 33}
	b := append(xbpfd(168, 0, fill), xbpfd(160, 4, fill)...)
	all, err := sysctl.ParseListeners(b)
	require.NoError(t, err)
	require.Equal(t, []sysctl.Listener{want, want}, all)

	// The root package's struct, whose offsets the compiler checks, is one of the two.
	x := zbuf.XbpfD{Hdrcmplt: 1, Direction: 2, Feedback: 3, Async: 4, Rcount: 1 << 33, Dcount: 2 << 33,
		Fcount: 3 << 33, Sig: 5, Slen: 6,
		Hlen: 7, Bufsize: 8, Pid: 9, Locked: 10, Wcount: 4 << 33, Wfcount: 5 << 33, Wdcount: 6 << 33,
		Zcopy: 7 << 33, Bufmode: 11}
	x.Structsize = uint32(binary.Size(x))
	copy(x.Ifname[:], "em0")
	b, err = binary.Append(nil, binary.NativeEndian, x)
	require.NoError(t, err)
	all, err = sysctl.ParseListeners(b)
	require.NoError(t, err)
	require.Equal(t, []sysctl.Listener{want}, all)
}

func TestParseListenersRefuses(t *testing.T) {
	one := xbpfd(168, 0, func(func(int, uint64, int)) {})
	sized := func(n uint32) []byte {
		b := append([]byte{}, one...)
		binary.NativeEndian.PutUint32(b, n)
		return b
	}
	for rule, b := range map[string][]byte{
		"a struct of another size":    sized(176),
		"a struct of no size":         sized(0),
		"a struct of 2^32-1 bytes":    sized(1<<32 - 1),
		"three bytes":                 one[:3],
		"a struct without its end":    one[:167],
		"a second one not whole":      append(append([]byte{}, one...), one[:4]...),
		"more bytes behind the array": append(append([]byte{}, one...), 0),
	} {
		all, err := sysctl.ParseListeners(b)
		require.ErrorIs(t, err, sysctl.ErrType, rule)
		require.Nil(t, all, rule)
	}
	full := append([]byte{}, one...)
	copy(full[76:], "0123456789abcdef") // no NUL
	all, err := sysctl.ParseListeners(full)
	require.NoError(t, err)
	require.Equal(t, "0123456789abcdef", all[0].Interface)
}

func FuzzParseListeners(f *testing.F) {
	one := xbpfd(168, 0, func(func(int, uint64, int)) {})
	f.Add([]byte{})
	f.Add(one)
	f.Add(one[:100])
	f.Add(append(xbpfd(160, 4, func(func(int, uint64, int)) {}), one...))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := sysctl.ParseListeners(b)
		if err != nil {
			require.ErrorIs(t, err, sysctl.ErrType)
			require.Nil(t, all)
			return
		}
		require.LessOrEqual(t, 160*len(all), len(b))
		require.GreaterOrEqual(t, 168*len(all), len(b))
		for _, l := range all {
			require.LessOrEqual(t, len(l.Interface), zbuf.IFNAMSIZ)
		}
	})
}

func FuzzParseFormat(f *testing.F) {
	for _, seed := range []string{"", "\x02\x00\x00\x80I\x00", "\x01\x00\x00\xc0N\x00",
		"\x05\x00\x08\x00S,timeval\x00", "\x02\x00\x00\x80I"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := sysctl.ParseFormat(b)
		if err != nil {
			require.ErrorIs(t, err, sysctl.ErrType)
			require.Zero(t, got)
			return
		}
		again := binary.NativeEndian.AppendUint32(nil, uint32(got.Type)|uint32(got.Flags))
		require.Equal(t, b, append(again, got.Fmt+"\x00"...))
		require.NotEmpty(t, fmt.Sprint(got))
	})
}
