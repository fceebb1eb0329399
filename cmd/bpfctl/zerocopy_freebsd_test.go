package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/scenario"
	"github.com/zbuf-go/zbuf/internal/version"
)

// command runs bpfctl to its end.
func command(
	t *testing.T, prepare func(*exec.Cmd), args ...string,
) (code int, stdout, stderr string) {
	t.Helper()
	c := newProgram(t, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if prepare != nil {
		prepare(c)
	}
	if err := c.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	t.Logf("bpfctl %s: %d\n%s%s", strings.Join(args, " "), c.ProcessState.ExitCode(), out.String(),
		errs.String())
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

func succeeds(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	code, stdout, stderr := command(t, nil, args...)
	require.Equal(t, exitOK, code)
	return stdout, stderr
}

// listenerOf returns the entry of `bpfctl stats` for a process.
func listenerOf(t *testing.T, p *process, iface string) listenerRow {
	t.Helper()
	stdout, _ := succeeds(t, "stats", "-i", iface, "--json")
	var all listeners
	var its []listenerRow
	require.NoError(t, json.Unmarshal([]byte(stdout), &all))
	for _, r := range all.Listeners {
		if r.PID == p.cmd.Process.Pid {
			its = append(its, *r)
		}
	}
	require.Len(t, its, 1, "one listener of process %d in %s", p.cmd.Process.Pid, stdout)
	return its[0]
}

func TestKernelToggle(t *testing.T) {
	w, pair := kernel(t, 0)
	self, err := os.Executable()
	require.NoError(t, err)
	name := filepath.Base(self)
	name = name[:min(len(name), 19)]
	state := func() int {
		n, err := w.Sysctl(zerocopyEnable)
		require.NoError(t, err)
		return n
	}

	stdout, _ := succeeds(t, "zerocopy")
	require.Contains(t, stdout, "Zero-copy is forbidden")
	stdout, stderr := succeeds(t, "zerocopy", "on")
	require.Equal(t, 1, state())
	require.Contains(t, stdout, "Zero-copy is allowed (net.bpf.zerocopy_enable=1).")
	require.Contains(t, stderr, "any program that can open /dev/bpf can now panic this machine:\n")

	out := filepath.Join(t.TempDir(), "lent.pcapng")
	lent := start(t, nil, "capture", "-i", pair.A, "-c", "30", "--bufsize", "64K", "-w", out)
	lent.capturing()
	require.Contains(t, lent.said(), "zero-copy mode, granted by the kernel, two buffers of 64 KiB")
	pair.Inject(t, frames(0, 20)...)
	l := listenerOf(t, lent, pair.A)
	assert.Equal(t, "zerocopy", l.Mode)
	assert.Equal(t, name, l.Program)
	assert.EqualValues(t, []uint64{20, 20, 0}, []uint64{l.Received, l.Matched, l.Dropped})
	assert.GreaterOrEqual(t, l.ZeroCopyAppends, uint64(40))
	assert.LessOrEqual(t, l.ZeroCopyAppends, appendsOf(t, frames(0, 20)))
	assert.Equal(t, 64<<10-32, l.Buffer)
	assert.True(t, l.Promiscuous)
	stdout, _ = succeeds(t, "stats", "-i", pair.A)
	assert.Regexp(t, fmt.Sprintf(`(?m)^ *%d  \S+ +%s +zerocopy +p\S+ +20 +20 +0 +0%% +%d  2x64K `,
		l.PID, pair.A, l.ZeroCopyAppends), stdout)
	stdout, _ = succeeds(t, "zerocopy")
	assert.Contains(t, stdout, "Each descriptor can lend two buffers of at most 2 MiB.")
	assert.Regexp(t, fmt.Sprintf(
		"(?m)^In use by one listener, for which 128 KiB of memory is wired:\n"+
			`.*\n +%d +\S+ +%s +2 of 64 KiB +128 KiB$`, l.PID, pair.A), stdout)
	stdout, _ = succeeds(t, "stats", "-i", pair.A, "--watch", "100ms", "-c", "2")
	assert.Equal(t, 2, strings.Count(stdout, fmt.Sprintf(" %d %s %s zerocopy received/s=0.0 ", l.PID,
		name, pair.A)))

	stdout, stderr = succeeds(t, "zerocopy", "off")
	require.Equal(t, 0, state())
	require.Contains(t, stdout, "Zero-copy is forbidden (net.bpf.zerocopy_enable=0). A running "+
		"capture goes on as it is.")
	require.Empty(t, stderr)
	require.Equal(t, "zerocopy", listenerOf(t, lent, pair.A).Mode, "it does go on")
	fallen := start(t, nil, "capture", "-i", pair.A, "-c", "10", "-w",
		filepath.Join(t.TempDir(), "read.pcapng"))
	fallen.capturing()
	require.Contains(t, fallen.said(), "buffered mode, because zero-copy is disabled: run `bpfctl "+
		"zerocopy on` as root")
	f := listenerOf(t, fallen, pair.A)
	assert.Equal(t, "buffered", f.Mode)
	assert.Zero(t, f.ZeroCopyAppends)
	pair.Inject(t, frames(20, 10)...)
	assert.Equal(t, exitOK, lent.exit(), lent.said())
	assert.Equal(t, exitOK, fallen.exit(), fallen.said())
	requireStream(t, out, frames(0, 30))
	stdout, _ = succeeds(t, "zerocopy")
	assert.Contains(t, stdout, "No program uses it now, and it wires no memory.")
}

// appendsOf is how many pieces the kernel puts into lent memory for frames at most: a header and
// the data of each. From 14 on it also zeroes the padding between two records of a buffer, which
// counts.
func appendsOf(t *testing.T, frames [][]byte) uint64 {
	t.Helper()
	release, err := syscall.SysctlUint32("kern.osreldate")
	require.NoError(t, err)
	n := uint64(2 * len(frames))
	for _, f := range frames[:len(frames)-1] {
		const header = 26
		if release >= 1400000 && (header+len(f))%8 != 0 {
			n++
		}
	}
	return n
}

// The program writes the file that boots would read, and sets the kernel too.
// TestPersistInterrupted has the interruption.
func TestKernelPersist(t *testing.T) {
	w, _ := kernel(t, 0)
	file := confFile(t)
	var first os.FileInfo
	for i := range 10 {
		stdout, _ := succeeds(t, "zerocopy", "on", "--persist", "--file", file)
		require.Contains(t, stdout, map[bool]string{true: "sets it for later boots",
			false: "sets it already"}[i == 0])
		fi, err := os.Stat(file)
		require.NoError(t, err)
		if first == nil {
			first = fi
		}
		require.True(t, os.SameFile(first, fi), "written once")
	}
	requireConf(t, file, confAfter)
	onlyFile(t, file)
	// sysctl(8) does this with the file at boot.
	v, ok := readConf(file)
	require.True(t, ok)
	n, err := w.Sysctl(zerocopyEnable)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(n), v)
}

func TestKernelSend(t *testing.T) {
	_, pair := kernel(t, 1)
	want := frames(0, 300)
	in := fixture.File(t, 0, want...)
	for _, mode := range []string{"zerocopy", "buffered"} {
		out := filepath.Join(t.TempDir(), "out.pcapng")
		p := start(t, nil, "capture", "-i", pair.A, "--mode", mode, "--direction", "in", "-c",
			fmt.Sprint(len(want)), "-w", out)
		p.capturing()
		_, stderr := succeeds(t, "send", "-i", pair.B, in, "--pps", "2000")
		assert.Contains(t, stderr, fmt.Sprintf("bpfctl: %s: 300 packets sent, ", pair.B))
		require.Equal(t, exitOK, p.exit(), p.said())
		requireStream(t, out, want)
	}
	code, _, stderr := command(t, nil, "send", "-i", pair.B, "--topspeed",
		fixture.File(t, 0, scenario.Frame(60, 0), scenario.Frame(1600, 1), scenario.Frame(5000, 2),
			make([]byte, 13), scenario.Frame(60, 3)))
	assert.Equal(t, exitFail, code)
	assert.Contains(t, stderr, ": 2 packets sent, 120 bytes, ")
	assert.Contains(t, stderr, "packets were left out: 2 too long for "+pair.B+
		" (it takes 1514 bytes, which is its MTU of 1500 and a link header of 14; "+
		"the longest packet has 5000), "+
		"1 too short (a link header has 14 bytes)\n")
	require.NoError(t, pair.World.SetUp(pair.B, false))
	code, _, stderr = command(t, nil, "send", "-i", pair.B, "--topspeed", in)
	assert.Equal(t, exitFail, code)
	assert.Regexp(t, `(?m)^bpfctl: after 0 packets: .*`+pair.B+`: network is down`, stderr)
	code, _, stderr = command(t, nil, "send", "-i", "lo0", in)
	assert.Equal(t, exitFail, code)
	assert.Contains(t, stderr, "bpfctl: the packets are of link type 1 (LINKTYPE_), and lo0 "+
		"takes NULL\n")
}

func TestKernelInfo(t *testing.T) {
	w, pair := kernel(t, 1)
	stdout, _ := succeeds(t, "info", "--json")
	var i info
	require.NoError(t, json.Unmarshal([]byte(stdout), &i))
	release, err := syscall.Sysctl("kern.osrelease")
	require.NoError(t, err)
	assert.Equal(t, "FreeBSD "+release, i.Kernel)
	has := map[string]bool{}
	for _, f := range i.Features {
		require.NotNil(t, f.Has, f.Name)
		has[f.Name] = *f.Has
	}
	for _, always := range []string{"zero-copy", "nanoseconds", "monotonic", "filter swap",
		"write filter", "direction", "lock"} {
		assert.True(t, has[always], always)
	}
	assert.Equal(t, i.Version >= 1400000, has["vlan priority"])
	assert.Equal(t, 512*os.Getpagesize(), i.Limits.MaxZeroCopy)
	n, err := w.Sysctl("net.bpf.maxbufsize")
	require.NoError(t, err)
	assert.EqualValues(t, n, i.Limits.MaxBuffer)
	names := map[string]linkType{}
	for _, l := range i.Links {
		require.NotEmpty(t, l.LinkTypes, l.Name)
		names[l.Name] = l.LinkTypes[0]
	}
	assert.Equal(t, linkType{1, "EN10MB"}, names[pair.A])
	assert.Equal(t, linkType{0, "NULL"}, names["lo0"])
	stdout, _ = succeeds(t, "info", "-i", pair.A)
	assert.Regexp(t, `(?m)^  `+pair.A+`  up  mtu 1500 +EN10MB \(1\)`, stdout)
	assert.NotContains(t, stdout, "lo0")

	require.NoError(t, w.SetSysctl(zerocopyEnable, 0))
	stdout, _ = succeeds(t, "info")
	assert.Contains(t, stdout, "Captures use read(2) because zero-copy is forbidden: `bpfctl "+
		"zerocopy on` as root allows it.")
}

// The program and its files say the version, and the release of FreeBSD, in the sandbox too.
func TestKernelVersion(t *testing.T) {
	_, pair := kernel(t, 1)
	release, err := syscall.Sysctl("kern.osrelease")
	require.NoError(t, err)
	stdout, _ := succeeds(t, "--version")
	assert.Equal(t, "bpfctl version "+version.Build()+" on FreeBSD "+release+", "+runtime.GOARCH+"\n",
		stdout)
	out := filepath.Join(t.TempDir(), "out.pcapng")
	p := start(t, nil, "capture", "-i", pair.A, "-c", "1", "-w", out)
	p.capturing()
	pair.Inject(t, frames(0, 1)...)
	require.Equal(t, exitOK, p.exit(), p.said())
	file, err := os.Open(out)
	require.NoError(t, err)
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	require.NoError(t, err)
	assert.Equal(t, "bpfctl (zbuf) "+version.Module()+" on FreeBSD "+release+", "+runtime.GOARCH,
		r.SectionInfo().Application)
}

func TestKernelWithoutRoot(t *testing.T) {
	w, pair := kernel(t, 1)
	in := filepath.Join(t.TempDir(), "in.pcapng")
	raw, err := os.ReadFile(fixture.File(t, 0, frames(0, 1)...))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(in, raw, 0o644))
	for dir := filepath.Dir(in); dir != "/"; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(dir, fi.Mode()|0o5), "a way to the file for everybody")
		t.Cleanup(func() { os.Chmod(dir, fi.Mode()) })
	}
	anybody := func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		c.Dir = "/"
	}
	const open = `no permission to open /dev/bpf \(mode 0600, group (wheel|0)\): run as root, ` +
		`or join a group and give it /dev/bpf in devfs.rules\(5\)`
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"capture", "-i", pair.A}, exitFail, `^$`, `^bpfctl: ` + open},
		{[]string{"send", "-i", pair.A, in}, exitFail, `^$`, `^bpfctl: ` + open},
		{[]string{"stats"}, exitFail, `^$`, `^bpfctl: reading the sysctl net\.bpf\.stats needs root; in a jail, the jail also needs its own network stack \(VNET\)\n$`},
		{[]string{"stats", "--watch", "1s"}, exitFail, `^$`, `^bpfctl: reading the sysctl net\.bpf\.stats needs root`},
		{[]string{"stats", "--reset"}, exitFail, `^$`, `^bpfctl: setting the sysctl net\.bpf\.stats needs root\n$`},
		{[]string{"zerocopy", "on"}, exitFail, `^$`, `^bpfctl: setting the sysctl net\.bpf\.zerocopy_enable needs root\n$`},
		{[]string{"zerocopy", "off", "--persist"}, exitFail, `^$`, `^bpfctl: setting the sysctl net\.bpf\.zerocopy_enable needs root\n$`},
		{[]string{"zerocopy"}, exitOK, `(?s)^Zero-copy is allowed.*is not known: ` + open + `.*Which programs use it is not known: reading the sysctl net\.bpf\.stats needs root`, `^$`},
		{[]string{"info"}, exitOK, `(?s)\n  \?    zero-copy .*\nAdvice\n  No capture is possible: ` + open + `.*The listeners can't be shown: reading the sysctl net\.bpf\.stats needs root`, `^$`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, stdout, stderr := command(t, anybody, c.args...)
			assert.Equal(t, c.code, code)
			assert.Regexp(t, c.stdout, stdout)
			assert.Regexp(t, c.stderr, stderr)
		})
	}
	n, err := w.Sysctl(zerocopyEnable)
	require.NoError(t, err)
	assert.Equal(t, 1, n, "nothing was set")
}
