package main

import (
	"bytes"
	"encoding/binary"
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

// vlans makes n vlan interfaces on a pair, with the tags from 1 on.
func vlans(t *testing.T, w lab.World, p *lab.Pair, n int) (names []string) {
	t.Helper()
	for i := range n {
		name, err := lab.CreateVLAN(p.A, uint16(i+1))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, w.Destroy(name)) })
		require.NoError(t, w.SetUp(name, true))
		names = append(names, name)
	}
	return names
}

// onVLAN returns a frame as it comes in for the vlan of a tag.
func onVLAN(tag int, frame []byte) []byte {
	head := binary.BigEndian.AppendUint16(append(bytes.Clone(frame[:12]), 0x81, 0), uint16(tag))
	return append(head, frame[12:]...)
}

// wired returns the bytes that the kernel can't page out.
func wired(t *testing.T) int {
	t.Helper()
	pages, err := unix.SysctlUint32("vm.stats.vm.v_wire_count")
	require.NoError(t, err)
	return int(pages) * os.Getpagesize()
}

// A capture of 64 interfaces has every packet of each. Where a waiting reader occupies no thread,
// the capture has few threads. The test also measures: its rows, for docs/scale.md, go to standard
// output.
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
	names := vlans(t, w, pair, 64)
	release, err := unix.Sysctl("kern.osrelease")
	require.NoError(t, err)
	model, err := unix.Sysctl("hw.model")
	require.NoError(t, err)
	fmt.Printf("| interfaces | mode | resident, KiB | with packets, KiB | wired, KiB | threads | "+
		"idle CPU, µs/s | packet CPU, µs |\n| ---: | --- |%s\n| FreeBSD %s, %s, %s |%s\n",
		strings.Repeat(" ---: |", 6), release, model, runtime.Version(), strings.Repeat(" |", 7))
	threads := map[int]int{}
	for _, n := range []int{1, len(names)} {
		for _, mode := range []string{"zerocopy", "buffered"} {
			out := filepath.Join(t.TempDir(), "out.pcapng")
			before := wired(t)
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
			grown := wired(t) - before
			threads[n] = max(threads[n], k.Threads())

			const rounds, burst = 4, 25
			begin, used = time.Now(), k.Runtime()
			for r := range rounds {
				for i := range n {
					for _, f := range frames(r*burst, burst) {
						require.NoError(t, pair.Post(pair.A, onVLAN(i+1, f)))
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
				k.Resident()>>10, resident>>10, grown>>10, k.Threads(), cpu,
				float64(busy.Microseconds())/float64(packets))
		}
	}
	if polled {
		assert.LessOrEqual(t, threads[len(names)], threads[1]+2+runtime.NumCPU())
	}
}
