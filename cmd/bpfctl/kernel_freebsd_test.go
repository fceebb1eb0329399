package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// These tests run bpfctl on the running kernel, as root:
//
//	GOOS=freebsd go test -exec "vmtest --sysctl net.bpf.zerocopy_enable=1" -run Kernel ./cmd/bpfctl

func kernel(t *testing.T, zerocopy int) (lab.World, *lab.Pair) {
	w := lab.OnKernel(t)
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", zerocopy)
	return w, lab.NewPair(t, w)
}

// requireStream compares a file with the packets that were sent.
func requireStream(t *testing.T, name string, want [][]byte) {
	t.Helper()
	got := readPcapng(t, name)
	for i := range min(len(want), len(got.packets)) {
		require.True(t, bytes.Equal(want[i], got.packets[i].Data), "packet %d", i)
		require.Equal(t, len(want[i]), got.packets[i].WireLen, "packet %d", i)
	}
	require.Len(t, got.packets, len(want))
}

func TestKernelKnownStream(t *testing.T) {
	for _, mode := range []string{"zerocopy", "buffered"} {
		t.Run(mode, func(t *testing.T) {
			_, pair := kernel(t, 1)
			size := map[string]string{"zerocopy": "2M", "buffered": "512K"}[mode]
			// what fits, so that nothing is dropped
			batch := map[string]int{"zerocopy": 2000, "buffered": 500}[mode]
			const count = 6000
			out := filepath.Join(t.TempDir(), "out.pcapng")
			before := time.Now()
			p := start(t, nil, "capture", "-i", pair.A, "--mode", mode, "--bufsize", size, "-c",
				fmt.Sprint(count), "-w", out)
			p.capturing()
			for n := 0; n < count; n += batch {
				pair.Inject(t, frames(n, batch)...)
				p.until("the packets sent are in the file", func() bool { return whole(out) == n+batch })
			}
			require.Equal(t, exitOK, p.exit(), p.said())
			t.Log(p.said())
			assert.Contains(t, p.said(), map[string]string{"zerocopy": "zero-copy mode, granted",
				"buffered": "buffered mode, because"}[mode])
			assert.Contains(t, p.said(), fmt.Sprintf("%d packets captured", count))
			assert.Contains(t, p.said(), " and 0 dropped")
			requireStream(t, out, frames(0, count))

			got := readPcapng(t, out)
			assert.Equal(t, pair.A, got.ifaces[0].Name)
			assert.EqualValues(t, 1, got.ifaces[0].LinkType)
			assert.EqualValues(t, count, got.ifaces[0].Statistics.PacketsReceived)
			assert.Zero(t, got.ifaces[0].Statistics.PacketsDropped)
			last := before.Add(-time.Second) // the kernel's clock and Go's agree to the tick
			for i, pkt := range got.packets {
				require.False(t, pkt.Time.Before(last), "packet %d at %v, after %v", i, pkt.Time, last)
				last = pkt.Time
			}
			assert.WithinRange(t, last, before.Add(-time.Second), time.Now().Add(time.Second))
		})
	}
}

func TestKernelEnds(t *testing.T) {
	for _, mode := range []string{"zerocopy", "buffered"} {
		t.Run(mode, func(t *testing.T) {
			w, pair := kernel(t, 1)
			out := filepath.Join(t.TempDir(), "out.pcapng")
			begin := func(args ...string) *process {
				p := start(t, nil, append([]string{"capture", "-i", pair.A, "--mode", mode, "-w", out},
					args...)...)
				p.capturing()
				return p
			}
			t.Run("SIGINT", func(t *testing.T) {
				p := begin()
				pair.Inject(t, frames(0, 100)...)
				p.until("packets are in the file", func() bool { return whole(out) == 100 })
				require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
				assert.Equal(t, exitOK, p.exit(), p.said())
				assert.Contains(t, p.said(), "100 packets captured")
				requireStream(t, out, frames(0, 100))
			})
			t.Run("SIGINT delivers what is there", func(t *testing.T) {
				p := begin()
				pair.Inject(t, frames(0, 100)...)
				require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
				assert.Equal(t, exitOK, p.exit(), p.said())
				requireStream(t, out, frames(0, 100))
			})
			t.Run("count", func(t *testing.T) {
				p := begin("-c", "7")
				pair.Inject(t, frames(0, 100)...)
				assert.Equal(t, exitOK, p.exit(), p.said())
				requireStream(t, out, frames(0, 7))
			})
			t.Run("duration", func(t *testing.T) {
				const long = 2 * time.Second
				began := time.Now()
				p := begin("--duration", long.String())
				before := 0 // arrived for certain before the end
				for i := range 10 {
					pair.Inject(t, frames(i, 1)...)
					if time.Since(began) < long {
						before = i + 1
					}
				}
				assert.Equal(t, exitOK, p.exit(), p.said())
				assert.GreaterOrEqual(t, time.Since(began), long)
				n, err := packetsIn(out)
				require.NoError(t, err)
				assert.GreaterOrEqual(t, n, before)
				requireStream(t, out, frames(0, n))
			})
			t.Run("direction and snap length", func(t *testing.T) {
				p := begin("--direction", "out", "--snaplen", "40", "-c", "3", "--timestamp", "micro")
				pair.Inject(t, frames(0, 10)...)
				pair.Send(t, frames(0, 3)...)
				assert.Equal(t, exitOK, p.exit(), p.said())
				for i, pkt := range readPcapng(t, out).packets {
					frame := frames(0, 3)[i]
					assert.Equal(t, frame[:40], pkt.Data)
					assert.Equal(t, len(frame), pkt.WireLen)
					assert.Zero(t, pkt.Time.Nanosecond()%1000)
				}
			})
			t.Run("interface destroyed", func(t *testing.T) {
				p := begin()
				pair.Inject(t, frames(0, 100)...)
				pair.Close()
				require.NoError(t, w.Destroy(pair.A))
				assert.Equal(t, exitFail, p.exit(), p.said())
				assert.Contains(t, p.said(), "bpfctl: "+pair.A+" has gone: destroyed, or moved to "+
					"another vnet\n")
				requireStream(t, out, frames(0, 100))
			})
		})
	}
}

func TestKernelErrors(t *testing.T) {
	fails := func(t *testing.T, code int, prepare func(*exec.Cmd), want string, args ...string) {
		t.Helper()
		p := start(t, prepare, append([]string{"capture"}, args...)...)
		assert.Equal(t, code, p.exit(), p.said())
		assert.Regexp(t, want, p.said())
		assert.Equal(t, 1, bytes.Count([]byte(p.said()), []byte("\n")), "one sentence: %s", p.said())
		t.Log(p.said())
	}
	t.Run("zero-copy off", func(t *testing.T) {
		_, pair := kernel(t, 0)
		fails(t, exitFail, nil, "^bpfctl: zero-copy is disabled: run `bpfctl zerocopy on` as root "+
			".sysctl net.bpf.zerocopy_enable=1.\n$",
			"-i", pair.A, "--mode", "zerocopy")
		p := start(t, nil, "capture", "-i", pair.A, "-c", "10")
		p.capturing()
		pair.Inject(t, frames(0, 10)...)
		assert.Equal(t, exitOK, p.exit(), p.said())
		assert.Contains(t, p.said(), "buffered mode, because zero-copy is disabled: run `bpfctl "+
			"zerocopy on` as root")
	})
	t.Run("zero-copy on", func(t *testing.T) {
		_, pair := kernel(t, 1)
		fails(t, exitFail, nil, `^bpfctl: no such interface: nope0 \(ifconfig -l lists them\)\n$`, "-i",
			"nope0")
		fails(t, exitFail, nil, `^bpfctl: --bufsize 4194304: the kernel takes at most 2097152 bytes\n$`,
			"-i", pair.A, "--bufsize", "4M")
		fails(t, exitUsage, nil,
			`^bpfctl: --bufsize: 1 MiB is beyond the kernel's maximum of 512 KiB for buffered mode`,
			"-i", pair.A, "--bufsize", "1M", "--mode", "buffered")
		nobody := func(c *exec.Cmd) {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			c.Dir = "/"
		}
		fails(t, exitFail, nobody,
			`^bpfctl: no permission to open /dev/bpf \(mode 0600, group (wheel|0)\): `+
				`run as root, or .*devfs.rules\(5\)`, "-i", pair.A)
	})
}

// An interface that is down is named at the start. The capture goes on, and has its packets when it
// is up.
func TestKernelInterfaceThatIsDown(t *testing.T) {
	w, pair := kernel(t, 1)
	require.NoError(t, w.SetUp(pair.A, false))
	out := filepath.Join(t.TempDir(), "out.pcapng")
	p := start(t, nil, "capture", "-i", pair.A, "-c", "5", "-w", out)
	p.capturing()
	assert.Contains(t, p.said(), "bpfctl: "+pair.A+" is down: it receives nothing until `ifconfig "+
		pair.A+" up`\n")
	require.NoError(t, w.SetUp(pair.A, true))
	pair.Inject(t, frames(0, 5)...)
	assert.Equal(t, exitOK, p.exit(), p.said())
	requireStream(t, out, frames(0, 5))
}

// A capture that can't keep up names the buffers that would have held the burst, and they do.
func TestKernelNamedBuffersHoldTheBurst(t *testing.T) {
	named := regexp.MustCompile(`both buffers of \S+ KiB were full; --bufsize (\S+) would have held`)
	for _, mode := range []string{"zerocopy", "buffered"} {
		t.Run(mode, func(t *testing.T) {
			_, pair := kernel(t, 1)
			const packets = 120
			burst := func(size string) (said string) {
				p := start(t, nil, "capture", "-i", pair.A, "--mode", mode, "--bufsize", size, "-w",
					filepath.Join(t.TempDir(), "out.pcapng"))
				p.capturing()
				require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
				pair.Inject(t, frames(0, packets)...)
				require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
				p.until("all packets have been seen", func() bool {
					require.NoError(t, p.cmd.Process.Signal(syscall.SIGUSR1))
					return strings.Contains(p.said(), fmt.Sprintf("; %d received and ", packets))
				})
				require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
				require.Equal(t, exitOK, p.exit(), p.said())
				t.Log(p.said())
				return p.said()
			}
			m := named.FindStringSubmatch(burst("4096"))
			require.NotNil(t, m)
			said := burst(m[1])
			assert.NotContains(t, said, "begins to drop")
			assert.Contains(t, said, fmt.Sprintf("; %d received and 0 dropped by the kernel\n", packets))
		})
	}
}

func TestKernelFullDisk(t *testing.T) {
	_, pair := kernel(t, 1)
	dir := t.TempDir()
	require.NoError(t, mountTmpfs(dir, 256<<10))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	out := filepath.Join(dir, "out.pcapng")
	p := start(t, nil, "capture", "-i", pair.A, "-w", out)
	p.capturing()
	pair.Inject(t, frames(0, 500)...)
	assert.Equal(t, exitFail, p.exit(), p.said())
	assert.Regexp(t,
		`bpfctl: can't write, .* ends with the last packet that is complete: `+
			`.*no space left on device\n$`, p.said())
	n, err := packetsIn(out)
	require.NoError(t, err, "the file is whole")
	require.Greater(t, n, 50)
	requireStream(t, out, frames(0, n))
	t.Logf("%d of 500 packets fitted", n)
}
