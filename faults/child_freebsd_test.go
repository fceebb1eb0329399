package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// children are what this binary can be besides a test: processes that can be hurt. What
// they write to standard output, a line each, is for the test; an error ends them.
var children = map[string]func(args []string) error{
	"nothing":   func([]string) error { return nil },
	"sleeper":   func([]string) error { say("ready"); awaitStdin(); return nil },
	"victim":    victim,
	"adopter":   adopter,
	"heir":      heir,
	"forker":    forker,
	"neighbour": neighbour,
	"sandboxed": inCapabilityMode,
	"hog":       hog,
	"limited":   limited,
}

func TestMain(m *testing.M) {
	what := os.Getenv("ZBUF_CHILD")
	if what == "" {
		os.Exit(m.Run())
	}
	if err := children[what](strings.Fields(os.Getenv("ZBUF_ARGS"))); err != nil {
		fmt.Fprintln(os.Stderr, what+":", err)
		os.Exit(1)
	}
}

// say tells the test something.
func say(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(b, '\n'))
}

// awaitStdin waits until the test closes the child's standard input, or is gone.
func awaitStdin() { bufio.NewReader(os.Stdin).ReadByte() }

// told is the last message of a child that has captured.
type told struct {
	Tally tally
	Stats bpf.Stats
}

// captureAndTell captures until the traffic is over, which the end of standard input says.
func captureAndTell(r *bpf.Reader) error {
	c := take(r)
	say("ready")
	awaitStdin()
	return c.tell()
}

func (c *capture) tell() error {
	sum, err := c.end(0)
	if err != nil {
		return err
	}
	s, err := c.r.Stats()
	if err != nil {
		return err
	}
	say(told{sum, s})
	return c.r.Close()
}

type child struct {
	*exec.Cmd
	t     *testing.T
	lines chan string
	hold  interface{ Close() error } // its standard input
	errs  bytes.Buffer

	patience time.Duration // for each line
}

// prepare makes the command; start runs it.
func prepare(t *testing.T, what string, args ...any) *child {
	self, err := os.Executable()
	require.NoError(t, err)
	c := &child{Cmd: exec.Command(self), t: t, lines: make(chan string, 16), patience: lab.Patience}
	c.Env = append(os.Environ(), "ZBUF_CHILD="+what, "ZBUF_ARGS="+
		strings.TrimSpace(fmt.Sprintln(args...)))
	c.Stderr = &c.errs
	return c
}

func (c *child) start() *child {
	t := c.t
	t.Helper()
	in, err := c.StdinPipe()
	require.NoError(t, err)
	c.hold = in
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case c.lines <- s.Text():
			default: // it says more than anybody wants to know
			}
		}
	}()
	t.Cleanup(func() {
		if c.ProcessState == nil {
			c.Process.Kill()
			c.Process.Signal(syscall.SIGCONT)
			c.Wait()
		}
	})
	return c
}

func startChild(t *testing.T, what string, args ...any) *child {
	t.Helper()
	return prepare(t, what, args...).start()
}

// hear waits for the next line and decodes it.
func (c *child) hear(v any) {
	c.t.Helper()
	var line string
	var ok bool
	select {
	case line, ok = <-c.lines:
	case <-time.After(c.patience):
		require.Fail(c.t, "the child says nothing", "%s", c.Args)
	}
	if !ok {
		require.Fail(c.t, "the child has ended", "%v; %s", c.Wait(), c.errs.String())
	}
	require.NoError(c.t, json.Unmarshal([]byte(line), v), line)
}

// says waits for a line with one word.
func (c *child) says(want string) {
	c.t.Helper()
	var word string
	c.hear(&word)
	require.Equal(c.t, want, word)
}

// ready waits until the child does what the test is about.
func (c *child) ready() {
	c.t.Helper()
	c.says("ready")
}

// release lets awaitStdin return.
func (c *child) release() { c.hold.Close() }

// finish waits for an end without error.
func (c *child) finish() {
	c.t.Helper()
	for range c.lines {
	}
	require.NoError(c.t, c.Wait(), "%s", c.errs.String())
}

// kill ends it the hard way.
func (c *child) kill() {
	c.t.Helper()
	require.NoError(c.t, c.Process.Kill())
	for range c.lines {
	}
	err := c.Wait()
	require.Error(c.t, err)
	status := c.ProcessState.Sys().(syscall.WaitStatus)
	require.True(c.t, status.Signaled() && status.Signal() == syscall.SIGKILL, "%v; %s", err,
		c.errs.String())
}
