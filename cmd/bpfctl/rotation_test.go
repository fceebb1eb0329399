//go:build linux || freebsd

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// SIGHUP ends the current file of a rotation and begins the next one. Without a rotation it ends
// the capture. SIGINT and SIGTERM always do.
func TestHangupRotates(t *testing.T) {
	args := []string{"capture", "--model", "steady", "-i", "em0", "-w"}
	for _, end := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(end.String(), func(t *testing.T) {
			dir := t.TempDir()
			file := func(n int) string { return filepath.Join(dir, fmt.Sprintf("out-%05d.pcapng", n)) }
			p := start(t, nil, append(args, filepath.Join(dir, "out.pcapng"), "--rotate-size", "1T")...)
			for n := range 3 {
				p.until("packets are in the file", func() bool { return whole(file(n+1)) > 0 })
				require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
			}
			p.until("the last file has begun", func() bool { return whole(file(4)) >= 0 })
			require.NoError(t, p.cmd.Process.Signal(end))
			require.Equal(t, exitOK, p.exit(), p.said())
			all := 0
			for n := range 4 {
				count := whole(file(n + 1))
				require.GreaterOrEqual(t, count, 0)
				all += count
				assert.Regexp(t, fmt.Sprintf(`(?m)^bpfctl: %s: %d packets?, \d+ bytes, `,
					regexp.QuoteMeta(file(n+1)), count), p.said())
			}
			assert.Contains(t, p.said(), fmt.Sprintf("bpfctl: 4 files: %d packets captured, ", all))
			assert.NoFileExists(t, file(5))
		})
	}
	t.Run("no rotation", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out.pcapng")
		p := start(t, nil, append(args, out)...)
		p.until("packets are in the file", func() bool { return whole(out) > 0 })
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
		require.Equal(t, exitOK, p.exit(), p.said())
	})
}

// The commands of --after run to their end although a terminal's signal ends the capture, and the
// capture waits for them.
func TestKernelCommandsAfterFilesSurviveTheSignal(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	p := start(t, func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} },
		"capture", "--model", "steady", "-i", "em0", "-w", filepath.Join(dir, "out.pcapng"),
		"--rotate-packets", "200", "--after", self+" "+slowCopy+" .copy")
	p.until("two files are finished", func() bool {
		return strings.Count(p.said(), " 200 packets, ") > 1
	})
	require.NoError(t, syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT), "as a terminal does")
	require.Equal(t, exitOK, p.exit(), p.said())
	files, err := filepath.Glob(filepath.Join(dir, "out-*.pcapng"))
	require.NoError(t, err)
	require.Greater(t, len(files), 1)
	for _, f := range files {
		assert.Equal(t, whole(f), whole(f+".copy"), f)
	}
}

// A second signal does not wait for the commands. They go on.
func TestKernelSecondSignalEndsAtOnce(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	// A pipe would stay open as long as the commands have it, and the test would wait for them.
	messages, err := os.Create(filepath.Join(t.TempDir(), "messages"))
	require.NoError(t, err)
	defer messages.Close()
	count := func(text string) int {
		said, err := os.ReadFile(messages.Name())
		require.NoError(t, err)
		return strings.Count(string(said), text)
	}
	gate := filepath.Join(t.TempDir(), "gate")
	p := start(t, func(c *exec.Cmd) {
		c.Stderr = messages
		c.Env = append(c.Env, slowGate+"="+gate) // the commands don't end meanwhile, however long it is
	},
		"capture", "--model", "steady", "-i", "em0", "--rotate-packets", "100",
		"-w", filepath.Join(dir, "out.pcapng"), "--after", self+" "+slowCopy+" .copy")
	p.until("more files are finished than commands", func() bool {
		return count(" 100 packets, ") > count("parent ")+3
	})
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	p.until("the capture has ended", func() bool { return count(" files: ") == 1 })
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, -1, p.exit(), "the signal ends it")
	ran := count("parent ")
	require.Less(t, ran, count(" 100 packets, "))
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	p.until("commands go on", func() bool { return count("parent ") > ran })

	// The rest would take long on a slow machine.
	said, err := os.ReadFile(messages.Name())
	require.NoError(t, err)
	helper, err := strconv.Atoi(string(regexp.MustCompile(`parent (\d+)`).FindSubmatch(said)[1]))
	require.NoError(t, err)
	if err := syscall.Kill(helper, syscall.SIGKILL); err != nil {
		require.ErrorIs(t, err, syscall.ESRCH, "it has run them all")
	}
	p.until("the last command has ended", func() bool {
		copies, err := filepath.Glob(filepath.Join(dir, "*.copy"))
		return err == nil && len(copies) == count("parent ")
	})
}

// The commands still run if the capture is killed. If their process is killed, the capture says so
// and goes on.
func TestKernelCommandsAfterFilesSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	args := []string{"capture", "--model", "steady", "-i", "em0", "-w",
		filepath.Join(dir, "out.pcapng"), "--rotate-packets", "200", "--after",
		self + " " + slowCopy + " .copy"}
	p := start(t, nil, args...)
	p.until("three files are finished", func() bool {
		return strings.Count(p.said(), " 200 packets, ") > 2
	})
	require.NoError(t, p.cmd.Process.Kill())
	p.until("the commands have run", func() bool {
		return whole(filepath.Join(dir, "out-00003.pcapng.copy")) == 200
	})

	p = start(t, nil, args...)
	parent := regexp.MustCompile(`(?m)^parent (\d+)$`)
	p.until("a command runs", func() bool { return parent.MatchString(p.said()) })
	pid, err := strconv.Atoi(parent.FindStringSubmatch(p.said())[1])
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	p.until("the end is said", func() bool {
		return strings.Contains(p.said(), "--after: the process that runs the commands has ended: none")
	})
	files := strings.Count(p.said(), " 200 packets, ")
	p.until("the capture goes on", func() bool {
		return strings.Count(p.said(), " 200 packets, ") > files
	})
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, exitFail, p.exit(), p.said())
	require.Regexp(t, `\nbpfctl: --after: the process that runs the commands ended before \d+ of \d+ `+
		`had run\n$`, p.said())
}

// The user of --user has the files of a rotation. A folder that the user can't write ends the
// capture before it begins.
func TestUserHasTheFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can become another user")
	}
	as, err := lookUp("nobody")
	if err != nil {
		t.Skipf("NOT RUN: %v", err)
	}
	dir := t.TempDir()
	args := []string{"capture", "--model", "finite", "-i", "em0", "-c", "20", "--rotate-packets", "10",
		"--user", "nobody", "-w", filepath.Join(dir, "out.pcapng")}
	require.NoError(t, os.Chmod(dir, 0o755))
	p := start(t, nil, args...)
	require.Equal(t, exitFail, p.exit(), p.said())
	require.Equal(t, "bpfctl: can't write: openat "+filepath.Join(dir, "out-00001.pcapng")+
		": permission denied\n", p.said())

	require.NoError(t, os.Chmod(dir, 0o777))
	p = start(t, nil, args...)
	require.Equal(t, exitOK, p.exit(), p.said())
	for n := range 2 {
		name := filepath.Join(dir, fmt.Sprintf("out-%05d.pcapng", n+1))
		require.Equal(t, 10, whole(name))
		fi, err := os.Stat(name)
		require.NoError(t, err)
		assert.EqualValues(t, as.uid, fi.Sys().(*syscall.Stat_t).Uid)
	}
}

// The helper takes names of files in its folder, and nothing else.
func TestHelperRefusesOtherFiles(t *testing.T) {
	for _, name := range []string{"../x", "/etc/passwd", "a/b", "..", ".", ""} {
		var out strings.Builder
		in := strings.NewReader(fmt.Sprintf("%q\n", name))
		require.NoError(t, runAfterFiles(in, &out, t.TempDir(), []string{"/nonexistent"}))
		assert.Contains(t, out.String(), "no name of a file in the folder", "%q", name)
	}
}

// A full disk costs a rotation its oldest files, or it ends the capture.
func TestKernelFullDiskOfARotation(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(fmt.Sprint("drop oldest ", drop), func(t *testing.T) {
			dir := smallDisk(t)
			args := []string{"capture", "--model", "steady", "-i", "em0", "--rotate-size", "30K", "-w",
				filepath.Join(dir, "out.pcapng")}
			if drop {
				args = append(args, "--drop-oldest")
			}
			p := start(t, nil, args...)
			if drop {
				p.until("old files are gone", func() bool {
					return strings.Count(p.said(), "the disk is full: removed the oldest file, ") > 2
				})
				require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
				require.Equal(t, exitOK, p.exit(), p.said())
			} else {
				require.Equal(t, exitFail, p.exit(), p.said())
				assert.Contains(t, p.said(), "no space left on device\n")
			}
			files, err := filepath.Glob(filepath.Join(dir, "out-*.pcapng"))
			require.NoError(t, err)
			require.Greater(t, len(files), 3)
			for _, f := range files {
				n := whole(f)
				require.GreaterOrEqual(t, n, 0, "%s is whole", f)
				line := fmt.Sprintf(`(?m)^bpfctl: %s: %d packets?, `, regexp.QuoteMeta(f), n)
				assert.Regexp(t, line, p.said())
			}
			t.Log(p.said())
		})
	}
}
