package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bench/internal/child"
)

// Rate is how many packets a Writer makes in a second, when it makes them all.
const Rate = 50 * Frames

// tick is how often a Writer looks what is due.
const tick = 10 * time.Millisecond

// Writer writes the frames that a storm would carry, in the same order, at a steady rate. It is for machines with one processor,
// where a storm would leave nobody else time: a process of its own, which runs whenever it is due, before all others, and sleeps
// in between.
type Writer struct {
	cmd   *exec.Cmd
	share io.WriteCloser
	said  *bufio.Reader
}

// writerSpec is what its process is told.
type writerSpec struct {
	Size    int
	Ifnames []string
}

// variable passes it.
const variable = "ZBUF_WRITER"

// NewWriter starts a writer on the interfaces named, which get packets by turns. It writes none before Share. Main has to be called
// at the beginning of the program.
func NewWriter(size int, ifnames ...string) (*Writer, error) {
	cmd, err := child.Command(variable, writerSpec{size, ifnames})
	if err != nil {
		return nil, err
	}
	w := &Writer{cmd: cmd}
	w.cmd.Stderr = os.Stderr
	if w.share, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	said, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.said = bufio.NewReader(said)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	return w, w.Share(0)
}

// Share makes it write n of the Frames frames, at that share of Rate.
func (w *Writer) Share(n int) error {
	if _, err := w.share.Write([]byte{byte(n)}); err != nil {
		return fmt.Errorf("the writer has ended: %w", err)
	}
	_, err := w.said.ReadByte()
	return err
}

// Close ends it.
func (w *Writer) Close() error { return errors.Join(w.share.Close(), w.cmd.Wait()) }

// Main is for TestMain: in a writer's process it writes, and exits; else it returns.
func Main() { child.Main(variable, write) }

func write(spec writerSpec) error {
	debug.SetGCPercent(-1) // a few seconds of nothing to collect
	if err := realTime(); err != nil {
		return fmt.Errorf("real-time priority: %w", err)
	}
	var devs []*zbuf.Device
	for _, ifname := range spec.Ifnames {
		d, err := mute(ifname)
		if err != nil {
			return err
		}
		devs = append(devs, d)
	}
	var frames [][]byte
	for i := range Frames {
		frames = append(frames, frame(i, spec.Size))
	}

	var now atomic.Int64 // how many of the frames
	ended := make(chan error, 1)
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := os.Stdin.Read(b); err != nil {
				ended <- err
				return
			}
			now.Store(int64(b[0]))
			if _, err := os.Stdout.Write(b); err != nil {
				ended <- err
				return
			}
		}
	}()

	var due int64 // packets, times the nanoseconds of a second
	wait := unix.NsecToTimespec(int64(tick))
	last := time.Now()
	for n := 0; ; {
		select {
		case err := <-ended:
			if err == io.EOF {
				return nil
			}
			return err
		default:
		}
		if err := unix.Nanosleep(&wait, nil); err != nil && err != unix.EINTR {
			return err
		}
		t, share := time.Now(), now.Load()
		due += int64(min(t.Sub(last), 10*tick)) * share * (Rate / Frames)
		for last = t; due >= int64(time.Second); due -= int64(time.Second) {
			if _, err := devs[n%len(devs)].Write(frames[n/len(devs)%int(max(share, 1))]); err != nil {
				return err
			}
			n++
		}
	}
}
