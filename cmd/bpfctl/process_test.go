//go:build unix

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is the longest time that a test waits for something that must happen.
const patience = 30 * time.Second

// process is bpfctl at work.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	mu     sync.Mutex
	stderr bytes.Buffer
	done   chan error
}

// Write takes the text that bpfctl writes to standard error.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// start starts bpfctl. prepare may change the command before.
func start(t testing.TB, prepare func(*exec.Cmd), args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: newProgram(t, args...), done: make(chan error, 1)}
	p.cmd.Stderr = p
	if prepare != nil {
		prepare(p.cmd)
	}
	require.NoError(t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
	})
	return p
}

// until waits for something to become true of a process that goes on.
func (p *process) until(what string, cond func() bool) {
	p.t.Helper()
	if !assert.Eventually(p.t, cond, patience, 10*time.Millisecond, what) {
		require.Fail(p.t, what, "standard error: %s", p.said())
	}
}

// capturing waits until the interface is open.
func (p *process) capturing() {
	p.t.Helper()
	p.until("capture has begun", func() bool { return strings.Contains(p.said(), " mode, ") })
}

// exit waits for the end and returns the exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case err := <-p.done:
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			return ee.ExitCode()
		}
		require.NoError(p.t, err)
		return 0
	case <-time.After(patience):
		require.Fail(p.t, "bpfctl does not end", p.said())
		return -1
	}
}

// whole reports how many packets the file has, or -1 while it is not whole.
func whole(name string) int {
	n, err := packetsIn(name)
	if err != nil {
		return -1
	}
	return n
}

// largest is for captures that must drop nothing. The two buffers hold what the scenario steady
// sends in five seconds. The disk may keep the capture waiting for so long.
const largest = "2M"

func TestSignalEndsCaptureCleanly(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.pcapng")
			p := start(t, nil, "capture", "--model", "steady", "-i", "em0", "--bufsize", largest, "-w", out)
			// Written out at least each second, so that others can read along.
			p.until("packets are in the file", func() bool { return whole(out) > 100 })
			require.NoError(t, p.cmd.Process.Signal(sig))
			assert.Equal(t, exitOK, p.exit())
			m := regexp.MustCompile(
				`(\d+) packets captured.*; (\d+) received and (\d+) dropped`).FindStringSubmatch(p.said())
			require.NotNil(t, m, p.said())
			n, err := packetsIn(out)
			require.NoError(t, err)
			assert.Equal(t, m[1], strconv.Itoa(n))
			assert.Equal(t, "0", m[3])
		})
	}
}

// SIGINFO and SIGUSR1 make a capture say how far it is. It goes on.
func TestKernelSignalsAskHowFarItIs(t *testing.T) {
	state := regexp.MustCompile(`(?m)^bpfctl: \d+ packets captured, \d+ bytes, in .*; ` +
		`\d+ received and 0 dropped by the kernel$`)
	for _, sig := range askingSignals {
		t.Run(sig.String(), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.pcapng")
			p := start(t, nil, "capture", "--model", "steady", "-i", "em0", "--bufsize", largest, "-w", out)
			for n := range 2 {
				size := whole(out)
				p.until("more packets are in the file", func() bool { return whole(out) > size })
				require.NoError(t, p.cmd.Process.Signal(sig))
				p.until("the state is said", func() bool {
					return len(state.FindAllString(p.said(), -1)) == n+1
				})
			}
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
			assert.Equal(t, exitOK, p.exit())
			assert.Len(t, state.FindAllString(p.said(), -1), 3)
		})
	}
}

func TestClosedPipeIsAnError(t *testing.T) {
	for _, args := range [][]string{{"-w", "-"}, nil} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			var out io.ReadCloser
			p := start(t, func(c *exec.Cmd) {
				var err error
				out, err = c.StdoutPipe()
				require.NoError(t, err)
			}, append([]string{"capture", "--model", "steady", "-i", "em0"}, args...)...)
			_, err := bufio.NewReader(out).ReadByte()
			require.NoError(t, err)
			require.NoError(t, out.Close())
			assert.Equal(t, exitFail, p.exit())
			assert.Regexp(t, `(?m)^bpfctl: can't write to standard output: .*broken pipe$`, p.said())
		})
	}
}

// A capture ends when nobody reads its output any more, also if no packet comes.
func TestKernelClosedPipeEndsASilentCapture(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for name, args := range map[string][]string{
		"a file to a pipe": {"-w", "-"}, "a file to a FIFO": {"-w", fifo}, "text": nil,
	} {
		t.Run(name, func(t *testing.T) {
			out, w, err := os.Pipe()
			require.NoError(t, err)
			defer out.Close()
			p := start(t, func(c *exec.Cmd) { c.Stdout = w },
				append([]string{"capture", "--model", "quiet", "-i", "em0"}, args...)...)
			require.NoError(t, w.Close())
			if name == "a file to a FIFO" {
				out, err = os.Open(fifo)
				require.NoError(t, err)
				defer out.Close()
			}
			p.capturing()
			if args != nil {
				_, err := io.ReadFull(out, make([]byte, 28)) // the head of the file
				require.NoError(t, err)
			}
			require.NoError(t, out.Close())
			assert.Equal(t, exitFail, p.exit())
			assert.Regexp(t, `(?m)^bpfctl: 0 packets captured, `, p.said())
			assert.Regexp(t, `(?m)^bpfctl: can't write to .*: broken pipe$`, p.said())
		})
	}
}

func TestPipeIntoTshark(t *testing.T) {
	needTshark(t)
	capture := newProgram(t, "capture", "--model", "finite", "-i", "em0", "-c", "1000", "-w", "-")
	tshark := exec.Command("tshark", "-r", "-", "-T", "fields", "-e", "frame.len")
	pipe, err := capture.StdoutPipe()
	require.NoError(t, err)
	tshark.Stdin = pipe
	require.NoError(t, capture.Start())
	got, err := tshark.Output()
	require.NoError(t, err)
	require.NoError(t, capture.Wait())
	assert.Equal(t, strings.Repeat("64\n", 1000), string(got))
}
