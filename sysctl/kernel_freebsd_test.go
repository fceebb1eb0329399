package sysctl_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
)

// child, in the environment, marks a test process that gives rights away: the name of the test that
// it was started for.
const child = "SYSCTL_TEST_CHILD"

func kernel(t *testing.T) target {
	t.Helper()
	if os.Geteuid() != 0 && os.Getenv(child) == "" {
		t.Skip("setting sysctls needs root")
	}
	return target{name: "kernel", tree: sysctl.Host(), bpf: zbuf.Host(), unprivileged: nobody}
}

// nobody runs the same test in a new process, and in that one f with the rights of the user nobody.
func nobody(t *testing.T, f func(*testing.T, sysctl.Tree)) {
	apart(t, func(t *testing.T) {
		require.NoError(t, syscall.Setgroups(nil))
		require.NoError(t, syscall.Setgid(65534))
		require.NoError(t, syscall.Setuid(65534))
		require.Equal(t, 65534, os.Geteuid())
		f(t, sysctl.Host())
	})
}

// apart runs the same test in a new process, and f in that one.
func apart(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if os.Getenv(child) == t.Name() {
		f(t)
		return
	}
	c := exec.Command(os.Args[0], "-test.run=^"+exactly(t.Name())+"$", "-test.v")
	c.Env = append(os.Environ(), child+"="+t.Name())
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name(), "%s", out)
	t.Logf("%s", out)
}

func TestCapabilityModeRefusesTheRest(t *testing.T) {
	kernel(t)
	apart(t, func(t *testing.T) {
		b := sysctl.Host().BPF()
		_, err := b.Stats()
		require.NoError(t, err)
		require.NoError(t, unix.CapEnter())
		_, err = b.Stats()
		require.ErrorIs(t, err, fs.ErrPermission)
		_, err = b.ZeroCopyEnabled()
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorIs(t, b.SetZeroCopyEnabled(true), fs.ErrPermission)
		s, err := sysctl.Host().String("kern.ostype")
		require.NoError(t, err, "CTLFLAG_CAPRD")
		require.Equal(t, "FreeBSD", s)
	})
}

// holder, in the environment, makes this program open a listener on lo0 ("open"), the same and
// leave it to a program that it starts ("leave"), or only wait ("wait"). Each ends when its
// standard input does.
const holder = "SYSCTL_TEST_HOLDER"

func TestMain(m *testing.M) {
	if how := os.Getenv(holder); how != "" {
		if err := hold(how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func hold(how string) error {
	if how != "wait" {
		fd, d, err := lab.OpenHost()
		if err != nil {
			return err
		}
		defer runtime.KeepAlive(d) // or the garbage collector closes it
		if err := d.SetInterface("lo0"); err != nil {
			return err
		}
		if how == "leave" {
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), holder+"=wait")
			c.Stdin, c.Stdout = os.Stdin, os.Stdout
			c.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "bpf")}
			return c.Start()
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// start runs this program as a holder under another name, until the function returned is called.
func start(t *testing.T, how, name string) (c *exec.Cmd, stop func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, self, 0o755))
	in, end, err := os.Pipe()
	require.NoError(t, err)
	out, answer, err := os.Pipe()
	require.NoError(t, err)
	c = exec.Command(path)
	c.Env = append(os.Environ(), holder+"="+how)
	c.Stdin, c.Stdout, c.Stderr = in, answer, os.Stderr
	require.NoError(t, c.Start())
	in.Close()
	answer.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return c, func() {
		end.Close()
		_, err := io.Copy(io.Discard, out) // ends when the last process that holds it does
		require.NoError(t, err)
		out.Close()
	}
}

func TestListenerOfAnotherProgram(t *testing.T) {
	w := kernel(t)
	for _, name := range []string{"short", "a-name-of-more-than-nineteen-bytes"} {
		c, stop := start(t, "open", name)
		all, err := w.tree.BPF().Stats()
		require.NoError(t, err)
		stop()
		require.NoError(t, c.Wait())
		require.Len(t, all, 1)
		require.Equal(t, c.Process.Pid, all[0].PID)
		require.Equal(t, name[:min(len(name), 19)], all[0].Process)
		all, err = w.tree.BPF().Stats()
		require.NoError(t, err)
		require.Empty(t, all, "gone with its process")
	}
}

func TestListenerThatOutlivesItsProcess(t *testing.T) {
	w := kernel(t)
	c, stop := start(t, "leave", "leaver")
	require.NoError(t, c.Wait())
	all, err := w.tree.BPF().Stats()
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, c.Process.Pid, all[0].PID)
	require.Empty(t, all[0].Process)
	stop()
	// Nobody waits for the last process, which closes its standard output before the listener.
	require.NoError(t, lab.Until(func() (bool, error) {
		all, err = w.tree.BPF().Stats()
		return len(all) == 0, err
	}), "gone with the last process that has it: %v", all)
}
