package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// A capture of 64 interfaces has every packet of each. Where a waiting reader occupies no thread,
// two threads at most wait for packets. The number of all threads tells less: Go makes one for a
// system call that takes long, and keeps it. The test also measures: its rows, for docs/scale.md,
// go to standard output.
func TestKernelSixtyFourInterfaces(t *testing.T) {
	if strconv.IntSize != 64 {
		t.Skip("struct kinfo_proc is laid out here for 64 bits")
	}
	idle := 10 * time.Second
	if testing.Short() {
		idle = time.Second
	}
	w, pair := kernel(t, 1)
	d, err := zbuf.Open()
	require.NoError(t, err)
	_, polled := d.Polled()
	require.NoError(t, d.Close())
	names := lab.NewVLANs(t, w, pair, 64)
	release, err := unix.Sysctl("kern.osrelease")
	require.NoError(t, err)
	model, err := unix.Sysctl("hw.model")
	require.NoError(t, err)
	fmt.Printf("| interfaces | mode | resident, KiB | with packets, KiB | wired, KiB | threads | "+
		"idle CPU, µs/s | packet CPU, µs |\n| ---: | --- |%s\n| FreeBSD %s, %s, %s |%s\n",
		strings.Repeat(" ---: |", 6), release, model, runtime.Version(), strings.Repeat(" |", 7))
	for _, n := range []int{1, len(names)} {
		for _, mode := range []string{"zerocopy", "buffered"} {
			out := filepath.Join(t.TempDir(), "out.pcapng")
			before, err := lab.Wired()
			require.NoError(t, err)
			p := start(t, nil, "capture", "-i", strings.Join(names[:n], ","), "--mode", mode, "-w", out,
				"ether proto 0x88b5")
			p.capturing()
			p.until("the capture has its file", func() bool { return whole(out) == 0 })
			seen := func() *lab.Kinfo {
				list, err := lab.Processes("kern.proc.pid", p.cmd.Process.Pid)
				require.NoError(t, err)
				require.Len(t, list, 1)
				return &list[0]
			}
			begin, used := time.Now(), seen().Runtime()
			time.Sleep(idle) // the measurement takes this time
			k := seen()
			cpu := float64((k.Runtime() - used).Microseconds()) / time.Since(begin).Seconds()
			after, err := lab.Wired()
			require.NoError(t, err)
			if threads := waiting(t, p.cmd.Process.Pid); polled {
				assert.LessOrEqual(t, threads, 2)
			}

			const rounds, burst = 4, 25
			used = k.Runtime()
			for r := range rounds {
				for i := range n {
					for _, f := range frames(r*burst, burst) {
						require.NoError(t, pair.Post(pair.A, lab.Tagged(uint16(i+1), f)))
					}
				}
				p.until("the packets of all are in the file", func() bool {
					return whole(out) == (r+1)*n*burst
				})
			}
			packets := rounds * n * burst
			busy := seen().Runtime() - used
			resident := seen().Resident()
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
			require.Equal(t, exitOK, p.exit(), p.said())

			got := readPcapng(t, out)
			require.Len(t, got.ifaces, n)
			next := make([]int, n)
			for i, pkt := range got.packets {
				of := pkt.Interface
				require.Equal(t, frames(next[of], 1)[0], pkt.Data, "packet %d, of %s", i, names[of])
				next[of]++
			}
			for i := range n {
				assert.Equal(t, rounds*burst, next[i], names[i])
				assert.Equal(t, names[i], got.ifaces[i].Name)
				assert.EqualValues(t, next[i], got.ifaces[i].Statistics.PacketsReceived, names[i])
				assert.Zero(t, got.ifaces[i].Statistics.PacketsDropped, names[i])
			}
			fmt.Printf("| %d | %s | %d | %d | %d | %d | %.0f | %.1f |\n", n, mode,
				k.Resident()>>10, resident>>10, (after-before)>>10, k.Threads(), cpu,
				float64(busy.Microseconds())/float64(packets))
		}
	}
}

// waiting returns how many threads of a process sleep in read(2) of a descriptor of bpf or in
// kevent(2).
func waiting(t *testing.T, pid int) (n int) {
	t.Helper()
	list, err := lab.Processes("kern.proc.pid_td", pid)
	require.NoError(t, err)
	for _, k := range list {
		if m := k.WaitMessage(); m == "bpf" || m == "kqread" {
			n++
		}
	}
	return n
}
