package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// sandboxed reports whether a process is in capability mode, as seen from outside.
func sandboxed(t *testing.T, pid int) bool {
	t.Helper()
	if strconv.IntSize != 64 {
		t.Skip("struct kinfo_proc is laid out here for 64 bits")
	}
	list, err := lab.Processes("kern.proc.pid", pid)
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0].CapabilityMode()
}

// nobodys returns the account of the user nobody. It makes one on a system without users.
func nobodys(t *testing.T) *account {
	t.Helper()
	for file, line := range map[string]string{
		"/etc/passwd": "root:*:0:0::/:/bin/sh\nnobody:*:65534:65534::/:/usr/sbin/nologin\n",
		"/etc/group":  "wheel:*:0:\nnobody:*:65534:\n",
	} {
		if _, err := os.Stat(file); os.IsNotExist(err) {
			require.NoError(t, os.MkdirAll("/etc", 0o755))
			require.NoError(t, os.WriteFile(file, []byte(line), 0o644))
			t.Cleanup(func() { os.Remove(file) })
		}
	}
	_, err := user.Lookup("nobody")
	require.NoError(t, err)
	a, err := lookUp("nobody")
	require.NoError(t, err)
	return a
}

// everybodys returns a folder in which every user may make files.
func everybodys(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "everybodys")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	return dir
}

// A capture gives up its rights, and goes on: it rotates, writes out in time, has statistics, and
// has commands run.
func TestKernelSandboxedCapture(t *testing.T) {
	for _, c := range []struct {
		mode, user string
		flags      []string
	}{
		{"zerocopy", "", nil},
		{"buffered", "nobody", nil},
		{"zerocopy", "nobody", []string{"--no-sandbox"}},
	} {
		t.Run(strings.Join(append([]string{c.mode, c.user}, c.flags...), " "), func(t *testing.T) {
			w, pair := kernel(t, 1)
			two := lab.NewPair(t, w)
			dir := everybodys(t)
			self, err := os.Executable()
			require.NoError(t, err)
			args := append([]string{"capture", "-i", pair.A, "-i", two.A, "--mode", c.mode,
				"-w", filepath.Join(dir, "out.pcapng"), "--rotate-packets", "100", "--rotate-time", "8760h",
				"--rotate-names", "number",
				"--after", self + " capture -w " + filepath.Join(dir, "copy.pcapng") + " --replay"},
				c.flags...)
			uid := 0
			if c.user != "" {
				uid = nobodys(t).uid
				args = append(args, "--user", c.user)
			}
			p := start(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, tryRights+"=1") }, args...)
			p.capturing()
			file := func(n int) string { return filepath.Join(dir, fmt.Sprintf("out-%05d.pcapng", n)) }

			inside := len(c.flags) == 0
			assert.Equal(t, inside, sandboxed(t, p.cmd.Process.Pid))
			assert.False(t, sandboxed(t, os.Getpid()), "the flag is not always set")
			if inside {
				no := "not permitted in capability mode"
				socket := "bind: " + no + "; connect: " + no + "; sendto: " + no
				filter := `: bpf: given up by Sandbox: BIOCSETF(NR)? \S+: capabilities insufficient \S+ \S+`
				assert.Regexp(t, "bpfctl: open: "+no+"; socket 2: "+socket+"; socket 1: "+socket+
					strings.Repeat("; BIOCSETF"+filter+"; BIOCSETFNR"+filter, 2)+`\n`, p.said())
			}

			for n := 0; n < 250; n += 25 {
				pair.Inject(t, frames(n, 25)...)
			}
			two.Inject(t, frames(0, 25)...)
			p.until("what is flushed is in the third file", func() bool { return whole(file(3)) == 75 })
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGUSR1))
			p.until("the statistics are said", func() bool {
				return strings.Contains(p.said(), "275 packets captured, ") &&
					strings.Contains(p.said(), "; 275 received and 0 dropped by the kernel\n")
			})
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
			p.until("a signal begins a file", func() bool { return whole(file(4)) == 0 })
			pair.Inject(t, frames(250, 25)...)
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			require.Equal(t, exitOK, p.exit(), p.said())
			t.Log(p.said())

			next := []int{0, 0}
			for i, count := range []int{100, 100, 75, 25} {
				got := readPcapng(t, file(i+1))
				require.Len(t, got.packets, count)
				require.Len(t, got.ifaces, 2)
				for _, q := range got.packets {
					require.Equal(t, frames(next[q.Interface], 1)[0], q.Data)
					next[q.Interface]++
				}
				fi, err := os.Stat(file(i + 1))
				require.NoError(t, err)
				assert.EqualValues(t, uid, fi.Sys().(*syscall.Stat_t).Uid)
			}
			assert.Equal(t, []int{275, 25}, next)
			assert.Equal(t, 25, whole(filepath.Join(dir, "copy.pcapng")), "of the last file")
			fi, err := os.Stat(filepath.Join(dir, "copy.pcapng"))
			require.NoError(t, err)
			assert.EqualValues(t, uid, fi.Sys().(*syscall.Stat_t).Uid, "the helper is that user too")
		})
	}
}

// Each numbered packet of a rotating capture is in one file, and each file is whole, at a rate that
// drops nothing. ZBUF_SOAK is how long it takes in each mode, 10 s by default.
func TestKernelRotationUnderLoad(t *testing.T) {
	long := 10 * time.Second
	if testing.Short() {
		long /= 2
	}
	if s := os.Getenv("ZBUF_SOAK"); s != "" {
		var err error
		long, err = time.ParseDuration(s)
		require.NoError(t, err, "ZBUF_SOAK")
	}
	for _, mode := range []string{"zerocopy", "buffered"} {
		t.Run(mode, func(t *testing.T) { rotationUnderLoad(t, mode, long) })
	}
}

func rotationUnderLoad(t *testing.T, mode string, long time.Duration) {
	w, pair := kernel(t, 1)
	dir := t.TempDir()
	p := start(t, nil, "capture", "-i", pair.A, "--mode", mode, "-w", filepath.Join(dir, "out.pcapng"),
		"--rotate-size", "300K", "--rotate-packets", "500", "--rotate-time", "1s",
		"--rotate-names", "number")
	p.capturing()

	// A finished file is compared with the packets that were sent, and removed.
	line := regexp.MustCompile(`(?m)^bpfctl: (\S+): (\d+) packets?, \d+ bytes?, in .*; ` +
		`0 dropped by the kernel\n`)
	files, next, heard := 0, 0, 0
	check := func() {
		said := p.said()
		for _, m := range line.FindAllStringSubmatch(said[heard:], -1) {
			files++
			require.Equal(t, filepath.Join(dir, fmt.Sprintf("out-%05d.pcapng", files)), m[1])
			n, err := packetsIn(m[1])
			require.NoError(t, err, "after %d of %d packets: %s", next, n, p.said())
			got := readPcapng(t, m[1])
			require.Equal(t, m[2], strconv.Itoa(len(got.packets)))
			require.LessOrEqual(t, len(got.packets), 500)
			require.Len(t, got.ifaces, 1)
			for _, q := range got.packets {
				require.Equal(t, frames(next, 1)[0], q.Data, "packet %d, in %s", next, m[1])
				next++
			}
			require.NoError(t, os.Remove(m[1]))
		}
		heard = strings.LastIndexByte(said, '\n') + 1
	}
	const burst, pause = 10, 20 * time.Millisecond // at most 500 packets a second
	sent, hangups := 0, 0
	// A machine that stands still has few files for its time, and goes on until there are enough.
	least := int(long/time.Second)/2 + 1
	for begin := time.Now(); time.Since(begin) < long ||
		files < least && time.Since(begin) < long+patience; sent += burst {
		for _, f := range frames(sent, burst) {
			require.NoError(t, pair.Post(pair.A, f))
		}
		if sent%(burst*37) == 0 {
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
			hangups++
		}
		if sent%(burst*10) == 0 {
			check()
			// The sender may run while the capture does not. It waits before the buffers are full.
			require.NoError(t, lab.Until(func() (bool, error) {
				return slices.ContainsFunc(rawStats(t, w, pair.A), func(x zbuf.XbpfD) bool {
					return int(x.Pid) == p.cmd.Process.Pid && (x.Hlen == 0 || 2*x.Slen < x.Bufsize)
				}), nil
			}), "the capture takes no packets")
		}
		time.Sleep(pause) // a machine that was late does not catch up: that would be a burst
	}
	pair.Settle(t)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, exitOK, p.exit(), p.said())
	check()
	require.Equal(t, sent, next, "packets in the files")
	require.Contains(t, p.said(), fmt.Sprintf("%d packets captured, ", sent))
	require.Contains(t, p.said(), fmt.Sprintf("; %d received and 0 dropped by the kernel\n", sent))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "files without a line")
	t.Logf("%d packets in %d files, %d signals", sent, files, hangups)
	require.GreaterOrEqual(t, files, least)
	lab.Report(t, lab.Cases, uint64(files))
	lab.Report(t, lab.Packets, uint64(sent))
	lab.Report(t, lab.Lost, 0)
}
