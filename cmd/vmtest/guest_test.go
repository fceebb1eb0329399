//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// session is a runner and a guest program of its own.
type session struct {
	runner, program string
	// mem is an odd size of memory, by which the session's QEMU is known.
	mem int
}

func newSession(t testing.TB, mem int) *session { return newSessionFor(t, mem, "amd64") }

func newSessionFor(t testing.TB, mem int, arch string) *session {
	t.Helper()
	dir := t.TempDir()
	build := func(out, pkg string, env ...string) string {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, out), pkg)
		cmd.Env = append(os.Environ(), append(env, "CGO_ENABLED=0")...)
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", text)
		return filepath.Join(dir, out)
	}
	return &session{
		runner:  build("vmtest", "."),
		program: build("guest", "./testdata/guest", "GOOS=freebsd", "GOARCH="+arch),
		mem:     mem,
	}
}

// command runs the program under the runner.
func (s *session) command(flags []string, args ...string) *exec.Cmd {
	all := append([]string{"--mem", strconv.Itoa(s.mem)}, flags...)
	all = append(all, "--", s.program)
	return exec.Command(s.runner, append(all, args...)...)
}

// processes lists the ids of the processes whose command line matches.
func processes(t testing.TB, pattern string) (pids []int) {
	t.Helper()
	out, err := exec.Command("ps", "-axo", "pid=,args=").Output()
	require.NoError(t, err)
	re := regexp.MustCompile(pattern)
	for _, line := range strings.Split(string(out), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || !re.MatchString(strings.Join(f[1:], " ")) {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// qemus lists the session's QEMU processes.
func (s *session) qemus(t testing.TB) []int {
	return processes(t, fmt.Sprintf(`^\S*qemu-system\S* .*-m %d `, s.mem))
}

// servers lists the session's server processes.
func (s *session) servers(t testing.TB) []int {
	return processes(t, fmt.Sprintf(`__serve .*"MemMiB":%d,`, s.mem))
}

// gone waits until the session has no process left, ten seconds at most as was promised, and as
// long as the machine was late meanwhile.
func (s *session) gone(t testing.TB) {
	t.Helper()
	lag := lab.WatchLag(t)
	from := lag.Now()
	assert.Eventually(t, func() bool { return len(s.qemus(t)) == 0 && len(s.servers(t)) == 0 },
		time.Minute, 100*time.Millisecond, "QEMU or its server is left")
	assert.Empty(t, lag.Late([]lab.Span{lag.Since(from)}, 10*time.Second))
}

// startSleeping runs a program that sleeps and waits until it does.
func (s *session) startSleeping(t *testing.T) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	cmd = s.command(nil, "sleep")
	stderr = &bytes.Buffer{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "sleeping\n", line)
	return cmd, stderr
}

func TestOutputIsExact(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1011)
	const size = 100
	want := sha256.New()
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // cannot fail
	for i := range size {
		for at := 0; at < len(b); at += 512 {
			binary.LittleEndian.PutUint64(b[at:], uint64(i<<20+at))
		}
		want.Write(b)
	}
	cmd := s.command(nil, "bytes", strconv.Itoa(size))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	got := sha256.New()
	n, err := io.Copy(got, out)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	require.EqualValues(t, size<<20, n)
	require.Equal(t, want.Sum(nil), got.Sum(nil))
}

func TestTwoRunnersAtOnce(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1012)
	type result struct {
		out string
		err error
	}
	results := make(chan result)
	for i := range 2 {
		go func() {
			out, err := s.command(nil, "alone", strconv.Itoa(i)).Output()
			results <- result{string(out), err}
		}()
	}
	var outs []string
	for range 2 {
		r := <-results
		require.NoError(t, r.err, "%s", r.out)
		outs = append(outs, r.out)
	}
	assert.ElementsMatch(t, []string{"alone 0\n", "alone 1\n"}, outs)
	assert.Len(t, s.qemus(t), 1, "the two share a guest")
	s.gone(t)
}

func TestKilledRunnerLeavesNothing(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1013)
	cmd, _ := s.startSleeping(t)
	require.Len(t, s.qemus(t), 1)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	s.gone(t)
}

func TestKilledServerLeavesNothing(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1014)
	cmd, stderr := s.startSleeping(t)
	servers := s.servers(t)
	require.Len(t, servers, 1)
	require.NoError(t, syscall.Kill(servers[0], syscall.SIGKILL))
	assert.Equal(t, exitFault, exitOf(t, cmd))
	assert.Contains(t, stderr.String(), "vmtest: the guest's server is gone")
	s.gone(t)
}

func TestSilentGuestIsGivenUp(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1015)
	cmd, stderr := s.startSleeping(t)
	qemu := s.qemus(t)
	require.Len(t, qemu, 1)
	require.NoError(t, syscall.Kill(qemu[0], syscall.SIGSTOP))
	start := time.Now()
	assert.Equal(t, exitFault, exitOf(t, cmd))
	assert.Contains(t, stderr.String(), "vmtest: the guest's agent has given no sign of life for 15s")
	assert.Less(t, time.Since(start), 20*time.Second)
	s.gone(t)
}

func TestSignalsReachTheGuest(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1016)
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		code   int
		stderr string
	}{
		{"SIGQUIT gives a dump", syscall.SIGQUIT, 2, "goroutine 1 "},
		{"SIGINT ends the program", syscall.SIGINT, 130, "killed by signal 2"},
		{"SIGTERM ends the program", syscall.SIGTERM, 143, "killed by signal 15"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd, stderr := s.startSleeping(t)
			require.NoError(t, cmd.Process.Signal(tt.signal))
			assert.Equal(t, tt.code, exitOf(t, cmd))
			assert.Contains(t, stderr.String(), tt.stderr)
		})
	}
}

// An epair whose queue was full once may carry nothing any more, and so may all epairs made after
// it.
func TestOverflowedWiresAreNotUsedAgain(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1023)
	defer s.gone(t)
	out, err := s.command([]string{"--sysctl", "net.link.epair.netisr_maxqlen=1"},
		"flood").CombinedOutput()
	if strings.Contains(string(out), "this kernel has no such entry") {
		t.Skip("NOT RUN: the epairs of this kernel have no queue in common")
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "overflowed after ")
	out, err = s.command(nil, "hello").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Regexp(t,
		`vmtest: the guest is not used again: the queue of all epairs overflowed \(\d+ frames?\)`,
		string(out))
	assert.Contains(t, string(out), "hello\n")
}

// A program in the guest is root and may take the agent's network card: it reaches nothing of the
// host, nor through it. The agent does reach the runner, or there were no output to look at.
func TestGuestReachesNothingOfTheHost(t *testing.T) {
	needGuest(t)
	l, err := net.Listen("tcp4", ":0")
	require.NoError(t, err)
	defer l.Close()
	called := make(chan net.Addr, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			called <- c.RemoteAddr()
			c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	targets := []string{"10.0.2.2:" + port}
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			targets = append(targets, net.JoinHostPort(n.IP.String(), port))
		}
	}
	s := newSession(t, 1025) // 1024 is what every other guest has
	defer s.gone(t)
	out, err := s.command(nil, append([]string{"reach"}, targets...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, len(targets), strings.Count(string(out), "not reached: "), "%s", out)
	assert.Empty(t, called)
}

// TestNothingHoldsTheOutput: the go command waits until everybody has closed
// its test's output, and the server lives on for seconds.
func TestNothingHoldsTheOutput(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1017)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd := s.command(nil, "hello")
	cmd.Stdout, cmd.Stderr = w, w
	require.NoError(t, cmd.Start())
	w.Close()
	require.NoError(t, cmd.Wait())
	require.Len(t, s.servers(t), 1)
	require.NoError(t, r.SetReadDeadline(time.Now().Add(2*time.Second)))
	out, err := io.ReadAll(r)
	require.NoError(t, err, "the output is still open")
	assert.Contains(t, string(out), "hello\n")
	assert.Len(t, s.servers(t), 1, "the server has not just ended")
}

// TestAgentInTheGuest runs the agent's own tests on the kernel, where the test
// binary is what the agent is in a whole system: a process that is not pid 1.
func TestAgentInTheGuest(t *testing.T) {
	needGuest(t)
	s := newSession(t, 1022)
	cmd := exec.Command("go", "test", "-count=1", "-v", "-exec", s.runner+" --mem "+
		strconv.Itoa(s.mem), "../../vmtest/agent")
	cmd.Env = append(os.Environ(), "GOOS=freebsd", "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestKillAllReachesOrphans")
}

func exitOf(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	err := cmd.Wait()
	if err == nil {
		return 0
	}
	var ee *exec.ExitError
	require.ErrorAs(t, err, &ee)
	return ee.ExitCode()
}
