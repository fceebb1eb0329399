package contest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bench/internal/child"
	"github.com/zbuf-go/zbuf/bench/internal/trial"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

const (
	patience = 3 * time.Second // what does not come in this time does not come
	// burst is more packets than one of the smallest buffers holds, and fewer than two hold.
	burst = 60
	page  = 4096
)

// capture is a process that captures in a situation.
type capture struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	lines   chan string
	version string
	ready   time.Time
}

func start(t *testing.T, w lab.World, lent bool, cmd *exec.Cmd) *capture {
	t.Helper()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, w.SetSysctl("net.bpf.zerocopy_enable", map[bool]int{true: 1}[lent]))
	require.NoError(t, cmd.Start())
	c := &capture{cmd: cmd, in: in, lines: make(chan string, 10000)}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	hi, _, ok := c.wait("ready ", 10*time.Second)
	require.NoError(t, w.SetSysctl("net.bpf.zerocopy_enable", 1))
	require.True(t, ok, "it did not get ready")
	mode, version, _ := strings.Cut(hi, " ")
	c.version, c.ready = version, time.Now()
	require.Equal(t, modeNames[lent], mode,
		"%s has no such mode", version)
	return c
}

// wait returns the rest of the first line that begins so, and how many other lines came before. ok
// is false if none comes in time.
func (c *capture) wait(begin string, limit time.Duration) (rest string, before int, ok bool) {
	for late := time.After(limit); ; before++ {
		select {
		case line, open := <-c.lines:
			if !open {
				return "", before, false
			}
			if rest, ok := strings.CutPrefix(line, begin); ok {
				return rest, before, true
			}
		case <-late:
			return "", before, false
		}
	}
}

// packets waits for n packets, and returns how many came.
func (c *capture) packets(n int, limit time.Duration) (got int, took time.Duration) {
	begin := time.Now()
	for got < n {
		if _, _, ok := c.wait("packet", limit-time.Since(begin)); !ok {
			break
		}
		got++
	}
	return got, time.Since(begin)
}

// stuck ends the process, and says what it used.
func (c *capture) stuck() string {
	took := time.Since(c.ready)
	c.cmd.Process.Kill()
	c.cmd.Wait()
	used := c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
	busy := "asleep"
	if used > took/2 {
		busy = "busy all the time"
	}
	return fmt.Sprintf("no return in %v, %s", patience, busy)
}

// end waits for the end of the capture, and says how it ended. soon reports whether that was quick.
func (c *capture) end(quick time.Duration) (text string, soon bool) {
	begin := time.Now()
	rest, _, ok := c.wait("end ", patience)
	if !ok {
		return c.stuck(), false
	}
	if soon = time.Since(begin) < quick; soon {
		return "at once: " + rest, true
	}
	return fmt.Sprintf("after %.1f s: %s", time.Since(begin).Seconds(), rest), false
}

type situation struct {
	name    string // that the page shows
	arg     string
	timeout time.Duration
	buffer  int
	do      func(t *testing.T, w lab.World, p *lab.Pair, c *capture) (text string, right bool)
}

func send(t *testing.T, p *lab.Pair, n int) {
	t.Helper()
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = lab.Frame(64, uint32(i))
	}
	p.Inject(t, frames...)
}

var situations = []situation{
	{"a burst fills a buffer and a part of the next one, then silence", "tail", timeout, page,
		func(t *testing.T, _ lab.World, p *lab.Pair, c *capture) (string, bool) {
			send(t, p, burst)
			got, _ := c.packets(burst, patience)
			if got == burst {
				return fmt.Sprintf("all %d packets", burst), true
			}
			send(t, p, 1)
			more, _ := c.packets(burst+1-got, patience)
			return fmt.Sprintf("%d of %d packets; %d more when the next packet came, %v later", got,
				burst, more-1, patience), false
		}},
	{"the interface is destroyed", "destroy", timeout, 64 << 10,
		func(t *testing.T, w lab.World, p *lab.Pair, c *capture) (string, bool) {
			p.Forgotten()
			require.NoError(t, w.Destroy(p.A))
			return c.end(time.Second)
		}},
	{"non-blocking, and no packet is there", "nonblock", timeout, 64 << 10,
		func(t *testing.T, _ lab.World, _ *lab.Pair, c *capture) (string, bool) {
			return c.end(time.Second)
		}},
	{"the process has started another one (fork)", "fork", timeout, 64 << 10,
		func(t *testing.T, _ lab.World, p *lab.Pair, c *capture) (string, bool) {
			total := 0
			for range 3 {
				send(t, p, 5)
				got, _ := c.packets(5, time.Second)
				total += got
			}
			return fmt.Sprintf("%d of 15 packets", total), total == 15
		}},
	{"breakloop or Close by another thread, read timeout 0.5 s", "breakloop", timeout * 5, 64 << 10,
		breakLoop},
	{"breakloop or Close by another thread, no read timeout", "breakloop", 0, 64 << 10, breakLoop},
	{"500 packets while nobody reads", "drops", timeout, page,
		func(t *testing.T, _ lab.World, p *lab.Pair, c *capture) (string, bool) {
			const sent = 500
			send(t, p, sent)
			fmt.Fprintln(c.in)
			rest, delivered, ok := c.wait("end ", patience)
			if !ok {
				return c.stuck(), false
			}
			var received, dropped int
			_, err := fmt.Sscanf(rest, "received %d dropped %d", &received, &dropped)
			require.NoError(t, err)
			return fmt.Sprintf("%d delivered + %d dropped = %d; received %d", delivered, dropped,
				delivered+dropped, received), delivered+dropped == sent && received == sent
		}},
}

func breakLoop(t *testing.T, _ lab.World, _ *lab.Pair, c *capture) (string, bool) {
	time.Sleep(timeout) // it is asleep in the kernel by now, or spins: nothing shows which
	fmt.Fprintln(c.in)
	return c.end(300 * time.Millisecond)
}

// zbuf does the right thing in each situation. What libpcap does is written down. The lines of the
// table go to standard output.
func TestBeside(t *testing.T) {
	w := kernel(t)
	program := filepath.Join(trial.Folder, "beside")
	_, missing := os.Stat(program)
	version := "did not run: its program was not built"
	var table strings.Builder
	for _, s := range situations {
		fmt.Fprintf(&table, "| %s |", s.name)
		for _, column := range []struct {
			lent, libpcap bool
		}{{true, false}, {false, false}, {false, true}, {true, true}} {
			name := fmt.Sprintf("%s/libpcap=%v,lent=%v", s.name, column.libpcap, column.lent)
			text := "did not run"
			t.Run(name, func(t *testing.T) {
				if column.libpcap && missing != nil {
					t.Skip(version)
				}
				p := lab.NewPair(t, w)
				mode := bpf.Buffered
				if column.lent {
					mode = bpf.ZeroCopy
				}
				cmd, err := child.Command(besideVariable, besideSpec{s.arg, p.A, mode, s.timeout, s.buffer})
				require.NoError(t, err)
				if column.libpcap {
					cmd = exec.Command("./"+program, s.arg, p.A,
						strconv.FormatInt(s.timeout.Milliseconds(), 10), strconv.Itoa(s.buffer))
				}
				c := start(t, w, column.lent, cmd)
				var right bool
				text, right = s.do(t, w, p, c)
				t.Log(text)
				if column.libpcap {
					version = c.version
				} else {
					assert.True(t, right, text)
				}
			})
			fmt.Fprintf(&table, " %s |", text)
		}
		table.WriteByte('\n')
	}
	release, err := unix.Sysctl("kern.osrelease")
	require.NoError(t, err)
	fmt.Printf("| situation | zbuf, lent buffers | zbuf, read(2) | libpcap, read(2) | libpcap, lent "+
		"buffers |\n| --- | --- | --- | --- | --- |\n| FreeBSD %s | | | %s | %[2]s |\n%s",
		release, version, &table)
}
