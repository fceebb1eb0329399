//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

// trickle is a capture file that another program is still writing into a pipe.
type trickle struct {
	t       *testing.T
	w       *os.File
	packets []capgen.Packet
	wrote   int // bytes of the file
}

// openPipe starts bpfctl with a pipe as its standard input, or with a FIFO that FILE in its
// arguments stands for, and opens the pipe's other end.
func openPipe(t *testing.T, fifo bool, args ...string) (*process, *trickle) {
	t.Helper()
	tr := &trickle{t: t, packets: capgen.Packets(1000, capgen.Format{}, false, 9)}
	name := "-"
	var r *os.File
	if fifo {
		name = filepath.Join(t.TempDir(), "fifo")
		require.NoError(t, syscall.Mkfifo(name, 0o600))
	} else {
		var err error
		r, tr.w, err = os.Pipe()
		require.NoError(t, err)
	}
	for i, a := range args {
		if a == "FILE" {
			args[i] = name
		}
	}
	p := start(t, func(c *exec.Cmd) {
		if r != nil {
			c.Stdin = r
		}
	}, args...)
	if fifo {
		var err error
		tr.w, err = os.OpenFile(name, os.O_WRONLY, 0)
		require.NoError(t, err)
	} else {
		r.Close()
	}
	t.Cleanup(func() { tr.w.Close() })
	return p, tr
}

// upTo writes the file up to the nth packet.
func (tr *trickle) upTo(n int) {
	tr.t.Helper()
	var b bytes.Buffer
	require.NoError(tr.t, capgen.Write(&b, capgen.Format{}, tr.packets[:n]))
	_, err := tr.w.Write(b.Bytes()[tr.wrote:])
	require.NoError(tr.t, err)
	tr.wrote = b.Len()
}

// Packets come through a pipe that stays open. At every kind of end all of them are in the file.
func TestReplayOfAnOpenPipe(t *testing.T) {
	signals := func(s syscall.Signal) func(*process, *trickle) {
		return func(p *process, _ *trickle) { require.NoError(p.t, p.cmd.Process.Signal(s)) }
	}
	ends := []struct {
		name string
		args []string
		end  func(p *process, tr *trickle)
		want int
	}{
		{"end of input", nil, func(_ *process, tr *trickle) { tr.w.Close() }, 5},
		{"count", []string{"-c", "5"}, func(*process, *trickle) {}, 5},
		{"count within what is there", []string{"-c", "2"}, func(*process, *trickle) {}, 2},
		// It is longer than any machine stands still, because all packets are to come before its end.
		{"duration", []string{"--duration", "5s"}, func(*process, *trickle) {}, 5},
		{"SIGINT", nil, signals(syscall.SIGINT), 5},
		{"SIGTERM", nil, signals(syscall.SIGTERM), 5},
		{"SIGHUP", nil, signals(syscall.SIGHUP), 5},
	}
	for _, fifo := range []bool{false, true} {
		for _, c := range ends {
			t.Run(map[bool]string{false: "pipe", true: "FIFO"}[fifo]+" "+c.name, func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "out.pcapng")
				p, tr := openPipe(t, fifo, append([]string{"capture", "--replay", "FILE", "-w", out},
					c.args...)...)
				tr.upTo(3)
				first := min(3, c.want)
				p.until("the first packets are in the file", func() bool { return whole(out) == first })
				if c.want > 3 {
					tr.upTo(5)
					p.until("the others are, too", func() bool { return whole(out) == 5 })
				}
				c.end(p, tr)
				require.Equal(t, exitOK, p.exit(), p.said())
				requireSame(t, tr.packets[:c.want], readPcapng(t, out).packets)
				assert.Regexp(t, map[int]string{2: " 2 packets captured", 5: " 5 packets captured"}[c.want],
					p.said())
			})
		}
	}
}

// A signal ends the wait for a file's first byte, and for a program that opens a FIFO.
func TestReplayOfASilentPipe(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		for _, args := range [][]string{nil, {"--duration", "300ms"}} {
			t.Run(map[bool]string{false: "pipe", true: "FIFO"}[fifo]+" "+strings.Join(args, " "),
				func(t *testing.T) {
					name, out := "-", filepath.Join(t.TempDir(), "out.pcapng")
					r, w, err := os.Pipe()
					require.NoError(t, err)
					defer w.Close()
					defer r.Close()
					if fifo {
						name = filepath.Join(t.TempDir(), "fifo")
						require.NoError(t, syscall.Mkfifo(name, 0o600))
					}
					p := start(t, func(c *exec.Cmd) { c.Stdin = r },
						append([]string{"capture", "--replay", name, "-w", out}, args...)...)
					if args == nil {
						p.until("it says what it waits for", func() bool {
							return strings.Contains(p.said(), "waiting for the first bytes of ")
						})
						require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
					}
					require.Equal(t, exitOK, p.exit(), p.said())
					assert.Contains(t, p.said(), "bpfctl: 0 packets captured")
					assert.Zero(t, whole(out), "an empty file, but a whole one")
				})
		}
	}
}

// A packet that is half a second old is in the file, also after SIGKILL.
func TestKilledReplayKeepsWhatIsOld(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.pcapng")
	p, tr := openPipe(t, false, "capture", "--replay", "FILE", "-w", out)
	for n := 100; n <= 1000; n += 100 {
		tr.upTo(n)
		began := time.Now()
		p.until("packets are in the file", func() bool { return whole(out) == n })
		t.Logf("%d packets after %v", n, time.Since(began))
	}
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
	requireSame(t, tr.packets, readPcapng(t, out).packets)
}

// A program that ignores SIGHUP from its start goes on: nohup(1).
func TestNohup(t *testing.T) {
	if _, err := exec.LookPath("nohup"); err != nil {
		t.Skip("NOT RUN: there is no nohup(1)")
	}
	out := filepath.Join(t.TempDir(), "out.pcapng")
	p := start(t, func(c *exec.Cmd) {
		c.Args = append([]string{"nohup", c.Path}, c.Args[1:]...)
		c.Path, c.Err = exec.LookPath("nohup")
	}, "capture", "--model", "steady", "-i", "em0", "-w", out)
	p.until("packets are in the file", func() bool { return whole(out) > 0 })
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	n := whole(out)
	p.until("more packets are in the file", func() bool { return whole(out) > n+500 })
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, exitOK, p.exit(), p.said())
}

// A signal ends sending from a pipe that stays open.
func TestSendFromAnOpenPipe(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			t.Run(map[bool]string{false: "pipe ", true: "FIFO "}[fifo]+sig.String(), func(t *testing.T) {
				p, _ := openPipe(t, fifo, "send", "--model", "quiet", "-i", "em0", "FILE")
				p.until("it says what it waits for", func() bool {
					return strings.Contains(p.said(), "waiting for the first bytes of ")
				})
				require.NoError(t, p.cmd.Process.Signal(sig))
				assert.Equal(t, exitFail, p.exit(), p.said())
				assert.Regexp(t, `(?m)^bpfctl: interrupted$`, p.said())
				assert.Regexp(t, `(?m)^bpfctl: em0: 0 packets sent`, p.said())
			})
		}
	}
}
